"""From linux.seccomp to instructions: rules to verdicts per call, verdicts to a search tree.

Cold: `seccomp.program` keeps what this makes. Three steps, each pure: `verdicts` (what each call
number of an ABI gets), `_intervals` (the same as ranges), `bpf.Assembler` (the same as code).
"""

from __future__ import annotations

from pycontain.errors import InvalidError
from pycontain.runtime import bpf
from pycontain.runtime.seccomp import ACTIONS, action, check_arch
from pycontain.syscalls.tables import TABLES, X32_BIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

    from pycontain.oci.runtime import Seccomp, SeccompArg, SeccompRule

    Condition: TypeAlias = "tuple[int, str, int, int]"
    """(argument index, operator, value, second value)."""
    Chain: TypeAlias = "tuple[tuple[tuple[Condition, ...], int], ...]"
    """Rules with arguments, in order: (conditions that must all hold, action)."""
    Verdict: TypeAlias = "int | Chain"
    Leaf: TypeAlias = "tuple[int, Verdict, list[tuple[int, Verdict]]]"
    """First number of a range, its verdict, and single numbers within that differ."""

ABIS = {
    "x86_64": (("SCMP_ARCH_X86_64", 0xC000003E), ("SCMP_ARCH_X86", 0x40000003)),
    "aarch64": (("SCMP_ARCH_AARCH64", 0xC00000B7),),
}
"""Machine -> its ABIs and their AUDIT_ARCH_* value (linux/audit.h); x32 is x86_64 plus a bit."""

TABLE = {"SCMP_ARCH_X86_64": "x86_64", "SCMP_ARCH_X86": "x86", "SCMP_ARCH_AARCH64": "aarch64"}

_ARCHES = """
NATIVE X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64
PPC64LE S390 S390X PARISC PARISC64 RISCV64 LOONGARCH64 M68K SH SHEB
"""

KNOWN_ARCHES = frozenset("SCMP_ARCH_" + name for name in _ARCHES.split())

OPERATORS = frozenset(
    "SCMP_CMP_" + name for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")
)

BAD_ARCH = ACTIONS["SCMP_ACT_KILL"]
"""For calls through an ABI the profile does not name: libseccomp's default."""

ENOSYS = ACTIONS["SCMP_ACT_ERRNO"] | 38

TOLERANT = (ACTIONS["SCMP_ACT_ALLOW"], ACTIONS["SCMP_ACT_LOG"])
"""Defaults under which a call nobody knows is let through, as runc does (TRACE too)."""

_SOCKETCALL = """
socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom
shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg
"""
"""i386: socketcall(2)'s first argument is the place in this list, from 1 (linux/net.h)."""

IPC = {
    "semop": 1, "semget": 2, "semctl": 3, "semtimedop": 4, "msgsnd": 11, "msgrcv": 12,
    "msgget": 13, "msgctl": 14, "shmat": 21, "shmdt": 22, "shmget": 23, "shmctl": 24,
}  # fmt: skip
"""i386: ipc(2)'s first argument (linux/ipc.h)."""

MULTIPLEXED = {
    **{name: ("socketcall", n) for n, name in enumerate(_SOCKETCALL.split(), 1)},
    **{name: ("ipc", n) for name, n in IPC.items()},
}

LAST = 0xFFFFFFFF

MAX_EXCEPTIONS = 3
"""Single numbers told apart one after the other at the end of a search."""


def compile_filter(profile: Seccomp, arch: str) -> bytes:
    """Return the filter of `profile` for a machine; see seccomp.program."""
    check_arch(arch)
    wanted = _wanted(profile, arch)
    default = action(profile.get("defaultAction", ""), profile.get("defaultErrnoRet"))
    code = bpf.Assembler()
    entry = code.ret(BAD_ARCH)
    # Backwards: the native ABI, first in ABIS, is tried first.
    for name, audit in reversed(ABIS[arch]):
        if name in wanted:
            ranges = _abi_ranges(profile, name, default, x32="SCMP_ARCH_X32" in wanted)
            search = _Search(code, default, wide=name != "SCMP_ARCH_X86")
            start = code.load(bpf.NR, search.tree(ranges))
            entry = code.jump(bpf.JEQ, audit, start, entry)
    try:
        return code.program(code.load(bpf.ARCH, entry))
    except OverflowError as error:
        raise InvalidError(f"linux.seccomp: the profile is too large: {error}") from None


def _wanted(profile: Seccomp, arch: str) -> set[str]:
    """Return the SCMP_ARCH_* the filter serves; the native one is always among them."""
    wanted = {ABIS[arch][0][0]}
    for name in profile.get("architectures") or []:
        if name not in KNOWN_ARCHES:
            raise InvalidError(f"linux.seccomp.architectures: unknown architecture {name!r}")
        wanted.add(name)
    return wanted


def _abi_ranges(
    profile: Seccomp, abi: str, default: int, *, x32: bool
) -> list[tuple[int, Verdict]]:
    found = verdicts(profile, TABLE[abi], default)
    if abi != "SCMP_ARCH_X86_64":
        return _intervals(found, default, 0, LAST)
    low = _intervals(found, default, 0, X32_BIT - 1)
    if not x32:
        return [*low, (X32_BIT, BAD_ARCH)]
    return low + _intervals(verdicts(profile, "x32", default), default, X32_BIT, LAST)


def verdicts(profile: Seccomp, table: str, default: int) -> dict[int, Verdict]:
    """Return what each call number gets that a rule names.

    A name the table lacks is skipped (runtime-spec: it may exist elsewhere).
    """
    numbers = TABLES[table]
    found: dict[int, Verdict] = {}
    for rule in profile.get("syscalls") or []:
        value = action(rule.get("action", ""), rule.get("errnoRet"))
        chains = _chains(rule)
        for name in rule.get("names") or []:
            nr = numbers.get(name)
            if nr is not None:
                _add(found, nr, chains, value, default)
            if table == "x86" and name in MULTIPLEXED:
                _add_multiplexed(found, name, chains, value, default)
    return found


def unknown_names(profile: Seccomp) -> list[str]:
    """Return the names of system calls that none of the tables has, and the filter leaves out."""
    known = set(MULTIPLEXED).union(*TABLES.values())
    names = dict.fromkeys(
        n for rule in profile.get("syscalls") or [] for n in rule.get("names") or []
    )
    return [name for name in names if name not in known]


def _add_multiplexed(
    found: dict[int, Verdict], name: str, chains: Sequence[tuple[Condition, ...]], value: int,
    default: int,
) -> None:  # fmt: skip
    # Behind the multiplexer the real arguments are in memory, out of the filter's sight: a rule
    # that lets some through lets none through there, one that stops some stops all.
    if chains != [()] and value in TOLERANT:
        return
    multiplexer, number = MULTIPLEXED[name]
    condition = (0, "SCMP_CMP_EQ", number, 0)
    _add(found, TABLES["x86"][multiplexer], [(condition,)], value, default)


def _add(
    found: dict[int, Verdict], nr: int, chains: Sequence[tuple[Condition, ...]], value: int,
    default: int,
) -> None:  # fmt: skip
    before = found.get(nr, ())
    if isinstance(before, int) and before != default:
        return
    if value == default:
        found.setdefault(nr, default)
    elif chains == [()]:
        found[nr] = value
    else:
        kept = () if isinstance(before, int) else before
        found[nr] = (*kept, *((chain, value) for chain in chains))


def _chains(rule: SeccompRule) -> list[tuple[Condition, ...]]:
    """Return the alternatives of a rule's arguments, [()] without any.

    Conditions on different arguments must all hold; if one argument comes twice, each condition is
    an alternative of its own, as in runc.
    """
    conditions = [_condition(arg) for arg in rule.get("args") or []]
    if len({condition[0] for condition in conditions}) < len(conditions):
        return [(condition,) for condition in conditions]
    return [tuple(conditions)]


def _condition(arg: SeccompArg) -> Condition:
    index, op = arg.get("index", 0), arg.get("op", "")
    if not 0 <= index <= 5:
        raise InvalidError(f"linux.seccomp: argument index {index} is not 0 to 5")
    if op not in OPERATORS:
        raise InvalidError(f"linux.seccomp: unknown comparison {op!r}")
    values = arg.get("value", 0), arg.get("valueTwo", 0)
    if any(not 0 <= value < 1 << 64 for value in values):
        raise InvalidError("linux.seccomp: a compared value is not an unsigned 64-bit number")
    return index, op, *values


def _intervals(
    found: dict[int, Verdict], default: int, first: int, last: int
) -> list[tuple[int, Verdict]]:
    """Return (first number, verdict) in order, covering `first` to `last`, neighbours merged."""
    newest = max(found, default=first - 1)
    beyond = default if default in TOLERANT or default >> 16 == 0x7FF0 else ENOSYS
    cuts: list[tuple[int, Verdict]] = []
    at = first
    for nr in sorted(found):
        if nr > at:
            cuts.append((at, default))
        cuts.append((nr, found[nr]))
        at = nr + 1
    if at <= last:
        cuts.append((at, beyond if newest >= first else default))
    merged: list[tuple[int, Verdict]] = []
    for start, verdict in cuts:
        if not merged or merged[-1][1] != verdict:
            merged.append((start, verdict))
    return merged


def _with_exceptions(ranges: Sequence[tuple[int, Verdict]]) -> list[Leaf]:
    """Fold single numbers between ranges of one verdict into the range as exceptions.

    One comparison for equality then stands where two range ends would.
    """
    leaves: list[Leaf] = []
    n = 0
    while n < len(ranges):
        start, verdict = ranges[n]
        exceptions: list[tuple[int, Verdict]] = []
        while (
            n + 2 < len(ranges)
            and ranges[n + 1][0] + 1 == ranges[n + 2][0]
            and ranges[n + 2][1] == verdict
            and len(exceptions) < MAX_EXCEPTIONS
        ):
            exceptions.append(ranges[n + 1])
            n += 2
        leaves.append((start, verdict, exceptions))
        n += 1
    return leaves


class _Search:
    """Writes one ABI's search tree and the argument checks at its leaves."""

    __slots__ = ("_code", "_default", "_done", "_wide")

    def __init__(self, code: bpf.Assembler, default: int, *, wide: bool) -> None:
        self._code = code
        self._default = default
        self._wide = wide
        """Whether arguments have 64 bits; the kernel zero-extends those of a 32-bit ABI."""

    def tree(self, ranges: Sequence[tuple[int, Verdict]]) -> int:
        """Return the place of the search among call numbers."""
        leaves = _with_exceptions(ranges)
        numbered = [(leaf[0], n) for n, leaf in enumerate(leaves)]
        return self._code.tree(numbered, lambda n: self._leaf_with_exceptions(leaves[n]))

    def _leaf_with_exceptions(self, leaf: Leaf) -> int:
        _, verdict, exceptions = leaf
        place = self._leaf(verdict)
        for number, other in exceptions:
            place = self._code.jump(bpf.JEQ, number, self._leaf(other), place)
        return place

    def _leaf(self, verdict: Verdict) -> int:
        if isinstance(verdict, int):
            return self._code.ret(verdict)
        rest = self._code.ret(self._default)
        for group in reversed(_groups(verdict)):
            rest = self._group(group, rest)
        return rest

    def _group(self, group: Chain, otherwise: int) -> int:
        if len(group) > 1:
            return self._value_tree(group, otherwise)
        conditions, value = group[0]
        place = self._code.ret(value)
        for condition in reversed(conditions):
            place = self._test(condition, place, otherwise)
        return place

    def _test(self, condition: Condition, yes: int, no: int) -> int:
        """Return the place of one 64-bit comparison, made of two 32-bit halves."""
        index, op, value, second = condition
        if op in ("SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE"):
            yes, no = no, yes
        if op == "SCMP_CMP_MASKED_EQ":
            return self._masked(index, value, second, yes, no)
        low = {
            "SCMP_CMP_EQ": bpf.JEQ, "SCMP_CMP_NE": bpf.JEQ, "SCMP_CMP_GE": bpf.JGE,
            "SCMP_CMP_LT": bpf.JGE, "SCMP_CMP_GT": bpf.JGT, "SCMP_CMP_LE": bpf.JGT,
        }[op]  # fmt: skip
        if not self._wide and value > LAST:
            return no
        offset = bpf.ARGS + 8 * index
        place = self._code.load(offset, self._code.jump(low, value & LAST, yes, no))
        if not self._wide:
            return place
        place = self._code.jump(bpf.JEQ, value >> 32, place, no)
        if low != bpf.JEQ:
            place = self._code.jump(bpf.JGT, value >> 32, yes, place)
        return self._code.load(offset + 4, place)

    def _masked(self, index: int, mask: int, value: int, yes: int, no: int) -> int:
        offset = bpf.ARGS + 8 * index
        place = yes
        halves = ((offset, mask & LAST, value & LAST), (offset + 4, mask >> 32, value >> 32))
        for where, bits, wanted in halves:
            # libseccomp masks both sides, so a bit of the value outside the mask counts nothing.
            wanted &= bits
            if not bits:
                continue
            if self._wide or where == offset:
                check = self._code.jump(bpf.JEQ, wanted, place, no)
                place = self._code.load(where, self._code.mask(bits, check))
            elif wanted:
                return no
        return place

    def _value_tree(self, group: Chain, otherwise: int) -> int:
        """Return a search among the values of one argument (address families, personalities)."""
        index = group[0][0][0][0]
        offset = bpf.ARGS + 8 * index
        cuts = _value_cuts(group)

        def leaf(value: int) -> int:
            return otherwise if value < 0 else self._code.ret(value)

        high = leaf(cuts[-1][1])
        low = self._code.load(offset, self._code.tree(cuts, leaf))
        if not self._wide:
            return low
        return self._code.load(offset + 4, self._code.jump(bpf.JEQ, 0, low, high))


def _groups(chain: Chain) -> list[Chain]:
    """Split a chain where runs of comparisons of one argument with 32-bit values begin and end."""
    groups: list[Chain] = []
    last = -1
    for conditions, value in chain:
        index = _plain(conditions)
        if index >= 0 and index == last:
            groups[-1] = (*groups[-1], (conditions, value))
        else:
            groups.append(((conditions, value),))
        last = index
    return groups


def _plain(conditions: tuple[Condition, ...]) -> int:
    """Return the argument of a single comparison that a search can hold, else -1."""
    if len(conditions) != 1:
        return -1
    index, op, value, _ = conditions[0]
    return index if op != "SCMP_CMP_MASKED_EQ" and value < LAST else -1


_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "SCMP_CMP_EQ": lambda a, b: a == b,
    "SCMP_CMP_NE": lambda a, b: a != b,
    "SCMP_CMP_LT": lambda a, b: a < b,
    "SCMP_CMP_LE": lambda a, b: a <= b,
    "SCMP_CMP_GT": lambda a, b: a > b,
    "SCMP_CMP_GE": lambda a, b: a >= b,
}


def _value_cuts(group: Chain) -> list[tuple[int, int]]:
    """Return (first value, action or -1 for no match) in order; the last one holds without end."""
    edges = {0}
    for conditions, _ in group:
        edges |= {conditions[0][2], conditions[0][2] + 1}
    cuts = []
    for edge in sorted(edges):
        hit = -1
        for conditions, value in group:
            if _HOLDS[conditions[0][1]](edge, conditions[0][2]):
                hit = value
                break
        cuts.append((edge, hit))
    return bpf.merge(cuts)
