"""Device rules of cgroup v2: a BPF_PROG_TYPE_CGROUP_DEVICE program made of OCI's rules.

The kernel runs the program on each open and mknod of a device with struct bpf_cgroup_dev_ctx
{u32 access_type = access << 16 | type; u32 major; u32 minor} (linux/bpf.h, cgroup-v2.rst "Device
controller"); 1 allows. The last rule that matches decides, as v1's devices.allow and devices.deny
do, so the program tests the rules from the last to the first.
"""

from __future__ import annotations

import posix
from _struct import pack, pack_into
from sys import implementation

from pycontain.errors import InvalidError, KernelError
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.oci.runtime import DeviceRule

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}
ALL_ACCESS = 7

PROG_LOAD = 5
PROG_ATTACH = 8
PROG_DETACH = 9
PROG_QUERY = 16
PROG_GET_FD_BY_ID = 13
PROG_TYPE_CGROUP_DEVICE = 15
ATTACH_CGROUP_DEVICE = 6
F_ALLOW_MULTI = 2
MAX_PROGRAMS = 64
LICENCE = b"Apache-2.0\0"

LDX_W = 0x61
MOV64_REG = 0xBF
AND32_IMM = 0x54
RSH32_IMM = 0x74
JEQ_IMM = 0x15
JNE_IMM = 0x55
MOV64_IMM = 0xB7
EXIT = 0x95
R0, R1, R2, R3, R4, R5, R6 = range(7)
"""R1 is the context; the program keeps type in R2, access in R3, major in R4, minor in R5."""


def instructions(rules: Sequence[DeviceRule]) -> bytes:
    """Return the program for `rules`, first to last, as an array of struct bpf_insn.

    Without a matching rule the access is refused. Raises InvalidError for a rule out of form.
    """
    code = [
        _insn(LDX_W, R2, R1, 0, 0),
        _insn(MOV64_REG, R3, R2),
        _insn(AND32_IMM, R2, imm=0xFFFF),
        _insn(RSH32_IMM, R3, imm=16),
        _insn(LDX_W, R4, R1, 4, 0),
        _insn(LDX_W, R5, R1, 8, 0),
    ]
    for rule in reversed(_merged(rules)):
        tests, final = _rule(rule)
        code += tests
        if final:
            # The verifier refuses code that cannot be reached.
            return b"".join(code)
    code += _verdict(False)
    return b"".join(code)


def _merged(rules: Sequence[DeviceRule]) -> list[DeviceRule]:
    """Join the accesses of rules for the same device, unless an opposite rule stands between.

    `c 1:3 r` and `c 1:3 w` together let an open for reading and writing through, as on v1.
    """
    merged: list[DeviceRule] = []
    run: dict[tuple[object, ...], int] = {}
    for rule in rules:
        if merged and bool(merged[-1].get("allow")) != bool(rule.get("allow")):
            run = {}
        key = (rule.get("type"), rule.get("major"), rule.get("minor"))
        if key in run:
            same = merged[run[key]]
            both = (same.get("access") or "rwm") + (rule.get("access") or "rwm")
            merged[run[key]] = {**same, "access": both}
        else:
            run[key] = len(merged)
            merged.append(rule)
    return merged


def _rule(rule: DeviceRule) -> tuple[list[bytes], bool]:
    """Return a rule's instructions, and whether it matches everything."""
    kind, access = rule.get("type") or "a", rule.get("access") or "rwm"
    if kind not in ("a", "b", "c", "u") or access.strip("rwm"):
        raise InvalidError(f"device rule: type {kind!r} access {access!r}")
    tests: list[tuple[int, int]] = []
    if kind != "a":
        tests.append((R2, TYPES["c" if kind == "u" else kind]))
        for register, number in ((R4, rule.get("major")), (R5, rule.get("minor"))):
            if number is not None and number >= 0:
                tests.append((register, number))
    wanted = 0
    for letter in access:
        wanted |= ACCESS[letter]
    verdict = _verdict(bool(rule.get("allow")))
    body: list[bytes] = []
    if wanted != ALL_ACCESS:
        # Allow: every bit asked for must be granted. Deny: one bit that is refused refuses all.
        refused = ALL_ACCESS & ~wanted if rule.get("allow") else wanted
        jump = JNE_IMM if rule.get("allow") else JEQ_IMM
        body += [_insn(MOV64_REG, R6, R3), _insn(AND32_IMM, R6, imm=refused)]
        body.append(_insn(jump, R6, offset=len(verdict), imm=0))
    body += verdict
    for register, number in reversed(tests):
        body.insert(0, _insn(JNE_IMM, register, offset=len(body), imm=number))
    return body, not tests and wanted == ALL_ACCESS


def _verdict(allow: bool) -> list[bytes]:
    return [_insn(MOV64_IMM, R0, imm=int(allow)), _insn(EXIT)]


def _insn(code: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> bytes:
    return pack("<BBhi", code, dst | src << 4, offset, imm)


def guard(directory: str, rules: Sequence[DeviceRule], *, replace: bool = False) -> None:
    """Load the program of `rules` and attach it to the cgroup; `replace` detaches earlier ones.

    Ancestors' programs stay in force: the kernel lets through what all of them allow. Raises
    KernelError; a container without its device guard must not start.
    """
    try:
        cgroup = posix.open(directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open cgroup", directory, error, call="open") from None
    try:
        before = attached(cgroup) if replace else []
        program = load(rules)
        try:
            _attach(PROG_ATTACH, cgroup, program, F_ALLOW_MULTI)
            for number in before:
                _detach(cgroup, number)
        finally:
            posix.close(program)
    except OSError as error:
        raise KernelError(
            "attach device program to", directory, error, call="bpf",
            hint="cgroup v2 device rules need CAP_BPF or CAP_SYS_ADMIN and CONFIG_CGROUP_BPF",
        ) from None  # fmt: skip
    finally:
        posix.close(cgroup)


def load(rules: Sequence[DeviceRule]) -> int:
    """Return the fd of a loaded program; raises OSError of bpf(2)."""
    code = instructions(rules)
    attributes = bytearray(72)
    pack_into("<IIQQ", attributes, 0, PROG_TYPE_CGROUP_DEVICE, len(code) // 8, _address(code),
              _address(LICENCE))  # fmt: skip
    attributes[48:64] = b"pycontain_dev".ljust(16, b"\0")
    return kernel.bpf(PROG_LOAD, attributes)


def attached(cgroup_fd: int) -> list[int]:
    """Return the ids of the device programs attached to a cgroup itself."""
    from pycontain.syscalls.libc import address

    found = bytearray(4 * MAX_PROGRAMS)
    attributes = bytearray(64)
    pack_into("<IIIIQI", attributes, 0, cgroup_fd, ATTACH_CGROUP_DEVICE, 0, 0, address(found),
              MAX_PROGRAMS)  # fmt: skip
    kernel.bpf(PROG_QUERY, attributes)
    count = int.from_bytes(attributes[24:28], "little")
    return [int.from_bytes(found[4 * n : 4 * n + 4], "little") for n in range(count)]


def _attach(command: int, cgroup: int, program: int, flags: int) -> None:
    attributes = bytearray(pack("<IIII", cgroup, program, ATTACH_CGROUP_DEVICE, flags))
    kernel.bpf(command, attributes)


def _detach(cgroup: int, number: int) -> None:
    program = kernel.bpf(PROG_GET_FD_BY_ID, bytearray(pack("<III", number, 0, 0)))
    try:
        _attach(PROG_DETACH, cgroup, program, 0)
    finally:
        posix.close(program)


def _address(content: bytes) -> int:
    """Return where the bytes lie in memory, for the kernel to read."""
    if implementation.name == "cpython":
        # The content follows the object's header and ends with one NUL the size includes; this
        # saves the import of ctypes, 3 ms of every start.
        return id(content) + bytes.__basicsize__ - 1
    import ctypes

    return ctypes.cast(ctypes.c_char_p(content), ctypes.c_void_p).value or 0
