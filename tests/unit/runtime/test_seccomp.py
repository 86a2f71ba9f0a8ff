"""The compiled filters against libseccomp's, verdict by verdict, in a small BPF interpreter."""

from __future__ import annotations

import ctypes
import os
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import InvalidError, UnsupportedError
from pycontain.runtime import capabilities, seccomp, seccomp_compiler, seccomp_profile
from pycontain.spec import defaults
from pycontain.syscalls.tables import TABLES

X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50001, 0x50026
TABLE_OF = {X86_64: "x86_64", I386: "x86", AARCH64: "aarch64"}
LIBSECCOMP_ARCH = {"SCMP_ARCH_X86_64": X86_64, "SCMP_ARCH_X86": I386, "SCMP_ARCH_X32": 0x4000003E}


def run(program: bytes, nr: int, arch: int, args: tuple[int, ...] = ()) -> tuple[int, int]:
    """Return (verdict, instructions executed) as the kernel would."""
    data = struct.pack("<IIQ6Q", nr & 0xFFFFFFFF, arch, 0, *[*args, *[0] * 6][:6])
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = at = steps = 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        steps += 1
        if op == 0x20:
            accumulator = int.from_bytes(data[k : k + 4], "little")
        elif op == 0x54:
            accumulator &= k
        elif op == 0x05:
            at += k
        elif op == 0x06:
            return k, steps
        else:
            test = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k,
                    0x45: bool(accumulator & k)}  # fmt: skip
            at += jt if test[op] else jf


class _Compare(ctypes.Structure):
    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def _compare(arg: dict) -> _Compare:
    op = OPS.index(arg["op"].removeprefix("SCMP_CMP_")) + 1
    return _Compare(arg["index"], op, arg["value"], arg.get("valueTwo", 0))


OPS = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]


@pytest.fixture(scope="module")
def libseccomp() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        pytest.skip("libseccomp.so.2 is not installed")
    lib.seccomp_init.restype = ctypes.c_void_p
    return lib


def reference(lib: ctypes.CDLL, profile: dict, tmp_path: object) -> bytes:
    """Compile `profile` with libseccomp, rule by rule as runc hands it over."""
    default = seccomp.action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(default)))
    for name in profile.get("architectures", []):
        lib.seccomp_arch_add(context, ctypes.c_uint32(LIBSECCOMP_ARCH[name]))
    for rule in profile["syscalls"]:
        action = seccomp.action(rule["action"], rule.get("errnoRet"))
        if action == default:
            continue
        for name in rule["names"]:
            nr = lib.seccomp_syscall_resolve_name(name.encode())
            args = [_compare(arg) for arg in rule.get("args", [])]
            single = len({a.arg for a in args}) < len(args)
            for group in [[a] for a in args] if single else [args]:
                array = (_Compare * len(group))(*group)
                done = lib.seccomp_rule_add_array(
                    context, ctypes.c_uint32(action), nr, len(group), array
                )
                assert done in (0, -17), (name, done)
    fd = os.memfd_create("bpf")
    assert lib.seccomp_export_bpf(context, fd) == 0
    lib.seccomp_release(context)
    os.lseek(fd, 0, 0)
    content = os.read(fd, 1 << 20)
    os.close(fd)
    return content


def any_of(lib: ctypes.CDLL, profile: dict, *case: object) -> int:
    """Return libseccomp's verdict on a case, asked about each alternative rule by itself.

    Together they go through its merging of 64-bit comparisons, which is wrong for some: of
    "argument 0 <= 2**32" and "argument 0 <= 0" version 2.5.4 forgets the first.
    """
    default = seccomp.action(profile["defaultAction"], None)
    for rule in profile["syscalls"]:
        args = rule.get("args") or []
        single = len({arg["index"] for arg in args}) < len(args)
        for group in [[arg] for arg in args] if single else [args]:
            alone = {**profile, "syscalls": [{**rule, "args": group}]}
            verdict = run(reference(lib, alone, None), *case)[0]
            if verdict != default:
                return verdict
    return default


def known(lib: ctypes.CDLL, profile: dict) -> dict:
    """Return `profile` without the names this libseccomp is too old for."""
    rules = []
    for rule in profile["syscalls"]:
        names = [n for n in rule["names"] if lib.seccomp_syscall_resolve_name(n.encode()) != -1]
        rules.append({**rule, "names": names})
    return {**profile, "syscalls": [rule for rule in rules if rule["names"]]}


VALUES = (0, 1, 2, 8, 11, 12, 13, 16, 19, 20, 25, 37, 38, 39, 40, 41, 45, 46, 0x20000, 0x20008,
          0x7E020000, 0x10000000, 0x01200011, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1,
          (1 << 64) - 1)  # fmt: skip


@pytest.mark.parametrize("caps", [(), defaults.CAPABILITIES, capabilities.NAMES])
def test_default_profile_gives_the_verdicts_of_libseccomp(libseccomp, tmp_path, caps):
    profile = known(libseccomp, seccomp_profile.default_profile(caps, "x86_64"))
    ours = seccomp_compiler.compile_filter(profile, "x86_64")
    theirs = reference(libseccomp, profile, tmp_path)
    for arch in (X86_64, I386):
        table = TABLES[TABLE_OF[arch]]
        newest = max(table[n] for rule in profile["syscalls"] for n in rule["names"] if n in table)
        for nr in range(newest + 1):
            assert run(ours, nr, arch)[0] == run(theirs, nr, arch)[0], (nr, arch)
        for name in ("socket", "personality", "clone", "clone3", "socketcall", "unshare"):
            for value in VALUES:
                value &= 0xFFFFFFFF if arch == I386 else -1
                case = table.get(name, 0), arch, (value,)
                assert run(ours, *case)[0] == any_of(libseccomp, profile, *case), (name, case)


def test_every_foreign_architecture_is_killed_as_libseccomp_does(libseccomp, tmp_path):
    profile = known(libseccomp, seccomp_profile.default_profile((), "x86_64"))
    ours = seccomp_compiler.compile_filter(profile, "x86_64")
    theirs = reference(libseccomp, profile, tmp_path)
    for arch in (AARCH64, 0, 0xFFFFFFFF, 0x40000028):
        assert run(ours, 1, arch)[0] == run(theirs, 1, arch)[0] == 0
    assert run(ours, 0x40000001, X86_64)[0] == run(theirs, 0x40000001, X86_64)[0] == 0


def test_x32_has_its_own_numbers_when_it_is_listed(libseccomp, tmp_path):
    rules = [{"names": ["ioctl", "read", "ptrace"], "action": "SCMP_ACT_ALLOW"}]
    profile = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules,
               "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"]}  # fmt: skip
    ours = seccomp_compiler.compile_filter(profile, "x86_64")
    theirs = reference(libseccomp, profile, tmp_path)
    for nr in [*range(102), *range(0x40000000, 0x40000000 + 522)]:
        assert run(ours, nr, X86_64)[0] == run(theirs, nr, X86_64)[0], hex(nr)
    assert run(ours, 0x40000000 + 514, X86_64)[0] == ALLOW, "x32 ioctl"


NAMES = ["read", "socket", "personality", "clone", "mkdir", "semop", "chown32", "getpid", "ipc"]
ARG = st.fixed_dictionaries({
    "index": st.integers(0, 2),
    "value": st.sampled_from(VALUES),
    "valueTwo": st.sampled_from((0, 1, 0x10, 1 << 33)),
    "op": st.sampled_from(["SCMP_CMP_" + op for op in OPS]),
})  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    args=st.lists(ARG, min_size=1, max_size=3),
    values=st.lists(st.tuples(*[st.sampled_from(VALUES)] * 3), min_size=1, max_size=12),
)
def test_one_rule_with_arguments_gives_the_verdicts_of_libseccomp(libseccomp, args, values):
    rules = [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": args}]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    ours = seccomp_compiler.compile_filter(profile, "x86_64")
    for triple in values:
        case = 0, X86_64, triple
        assert run(ours, *case)[0] == any_of(libseccomp, profile, *case), triple


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rules=st.lists(
        st.fixed_dictionaries(
            {
                "names": st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
                "action": st.sampled_from(["SCMP_ACT_ALLOW"]),
            },
            optional={"args": st.lists(ARG, min_size=1, max_size=1)},
        ),
        min_size=1,
        max_size=8,
    ),
    value=st.sampled_from(VALUES),
)
def test_several_rules_on_one_call_are_alternatives(libseccomp, rules, value):
    profile = {"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": rules}
    ours = seccomp_compiler.compile_filter(profile, "x86_64")
    for name in NAMES:
        nr = TABLES["x86_64"].get(name)
        newest = max((TABLES["x86_64"].get(n, -1) for r in rules for n in r["names"]), default=-1)
        if nr is not None and nr <= newest:
            case = nr, X86_64, (value, value, value)
            assert run(ours, *case)[0] == any_of(libseccomp, profile, *case), (name, case)


@pytest.mark.parametrize(
    ("action", "value"),
    [
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_THREAD", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x80000000),
        ("SCMP_ACT_TRAP", 0x30000),
        ("SCMP_ACT_ERRNO", 0x50001),
        ("SCMP_ACT_TRACE", 0x7FF00001),
        ("SCMP_ACT_NOTIFY", 0x7FC00000),
        ("SCMP_ACT_LOG", 0x7FFC0000),
    ],
)
def test_every_action_reaches_the_kernel(action, value):
    rules = [{"names": ["mkdir"], "action": action}]
    program = seccomp_compiler.compile_filter(
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "x86_64"
    )
    assert run(program, TABLES["x86_64"]["mkdir"], X86_64)[0] == value
    assert run(program, TABLES["x86_64"]["rmdir"], X86_64)[0] == ALLOW


def test_calls_newer_than_the_profile_are_enosys():
    profile = seccomp_profile.default_profile((), "x86_64")
    program = seccomp_compiler.compile_filter(profile, "x86_64")
    assert run(program, 470, X86_64)[0] == ENOSYS
    assert run(program, 470, I386)[0] == ENOSYS
    assert run(program, TABLES["x86_64"]["io_uring_setup"], X86_64)[0] == EPERM
    assert run(program, TABLES["x86_64"]["clone3"], X86_64)[0] == ENOSYS
    assert run(program, TABLES["x86_64"]["mount"], X86_64)[0] == EPERM


def test_under_a_tolerant_default_new_calls_pass():
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]
    program = seccomp_compiler.compile_filter(
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "x86_64"
    )
    assert run(program, 9999, X86_64)[0] == ALLOW


def test_vsock_and_alg_sockets_are_refused_and_garbage_in_the_high_half_does_not_help():
    program = seccomp_compiler.compile_filter(
        seccomp_profile.default_profile((), "x86_64"), "x86_64"
    )
    socket = TABLES["x86_64"]["socket"]
    for family in (12, 38, 40, 46, 38 | 1 << 32, 40 | 1 << 63, 1 << 32 | 1):
        assert run(program, socket, X86_64, (family,))[0] == EPERM, family
    for family in (1, 2, 10, 16, 17, 44):
        assert run(program, socket, X86_64, (family,))[0] == ALLOW, family


def test_namespace_flags_of_clone_are_refused_without_sys_admin():
    profile = seccomp_profile.default_profile((), "x86_64")
    program = seccomp_compiler.compile_filter(profile, "x86_64")
    clone = TABLES["x86_64"]["clone"]
    assert run(program, clone, X86_64, (0x01200011,))[0] == ALLOW
    for bit in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert run(program, clone, X86_64, (0x11 | bit,))[0] == EPERM, hex(bit)


def test_i386_multiplexer_does_not_go_round_a_denied_socket():
    rules = [{"names": ["socket", "semop"], "action": "SCMP_ACT_ERRNO"}]
    program = seccomp_compiler.compile_filter(
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules},
        "x86_64",
    )
    table = TABLES["x86"]
    assert run(program, table["socketcall"], I386, (1,))[0] == EPERM
    assert run(program, table["socketcall"], I386, (2,))[0] == ALLOW
    assert run(program, table["ipc"], I386, (1,))[0] == EPERM


def test_the_default_filter_is_short_and_its_paths_shorter():
    profile = seccomp_profile.default_profile(defaults.CAPABILITIES, "x86_64")
    program = seccomp_compiler.compile_filter(profile, "x86_64")
    assert len(program) // 8 <= 220
    longest = max(
        run(program, nr, arch, (value,))[1]
        for arch in (X86_64, I386) for nr in range(480) for value in (0, 45, 46)
    )  # fmt: skip
    assert longest <= 24


def test_far_targets_are_reached_over_trampolines():
    # Alternating verdicts with distinct errnos: no range merges, no return is shared.
    table = TABLES["x86_64"]
    rules = [
        {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": nr % 4000}
        for name, nr in table.items()
    ]
    program = seccomp_compiler.compile_filter(
        {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": rules},
        "x86_64",
    )
    assert len(program) // 8 <= 4096
    for nr in table.values():
        assert run(program, nr, X86_64)[0] == 0x50000 | nr % 4000, nr


def test_aarch64_has_its_own_numbers():
    profile = seccomp_profile.default_profile((), "aarch64")
    program = seccomp_compiler.compile_filter(profile, "aarch64")
    table = TABLES["aarch64"]
    assert run(program, table["openat"], AARCH64)[0] == ALLOW
    assert run(program, table["mount"], AARCH64)[0] == EPERM
    assert run(program, 0, X86_64)[0] == 0


def test_unknown_names_are_tolerated_and_unknown_words_refused():
    def compiled(**rule: object) -> bytes:
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}
        return seccomp_compiler.compile_filter(profile, "x86_64")

    assert compiled(names=["no_such_call"], action="SCMP_ACT_ERRNO")
    with pytest.raises(InvalidError, match="unknown action"):
        compiled(names=["read"], action="SCMP_ACT_SHRUG")
    with pytest.raises(InvalidError, match="unknown comparison"):
        args = [{"index": 0, "value": 1, "op": "SCMP_CMP_ALMOST"}]
        compiled(names=["read"], action="SCMP_ACT_ERRNO", args=args)
    with pytest.raises(InvalidError, match="unknown architecture"):
        profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}
        seccomp_compiler.compile_filter(profile, "x86_64")
    with pytest.raises(UnsupportedError, match="vax"):
        seccomp_compiler.compile_filter({"defaultAction": "SCMP_ACT_ALLOW"}, "vax")


def test_a_profile_beyond_4096_instructions_is_an_error():
    args = [{"index": 0, "value": 2 * n << 32, "op": "SCMP_CMP_EQ"} for n in range(1500)]
    rules = [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": args}]
    with pytest.raises(InvalidError, match="too large"):
        seccomp_compiler.compile_filter(
            {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}, "x86_64"
        )


def test_compiled_filters_are_kept_and_a_suspect_file_is_not_used(tmp_path):
    profile = seccomp_profile.default_profile((), "x86_64")
    cache = str(tmp_path / "cache")

    def again() -> bytes:
        seccomp._memory.clear()
        return seccomp.program(profile, "x86_64", cache=cache)

    program = again()
    (file,) = (tmp_path / "cache").iterdir()
    assert file.read_bytes().endswith(program)
    instruction = struct.pack("<HBBI", 6, 0, 0, ALLOW)
    fake = file.read_bytes().removesuffix(program) + instruction
    file.write_bytes(fake)
    assert again() == instruction, "the cache is read"
    file.write_bytes(b"?" + fake[1:])
    assert again() == program, "not when it was compiled from something else"
    file.write_bytes(fake)
    file.chmod(0o666)
    assert again() == program, "not when others may write it"
    file.unlink()
    file.write_bytes(fake + b"x")
    file.chmod(0o600)
    assert again() == program, "nor when its size is no multiple of 8"
    file.unlink()
    (tmp_path / "elsewhere").write_bytes(fake)
    file.symlink_to(tmp_path / "elsewhere")
    assert again() == program, "nor through a symbolic link"


def test_an_unusable_cache_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    seccomp._memory.clear()
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}
    assert seccomp.program(profile, "x86_64", cache=str(tmp_path / "file" / "below"))


def test_notify_asks_for_a_listener():
    rules = [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]
    assert seccomp.flags({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}) == 8
    assert seccomp.flags({"flags": ["SECCOMP_FILTER_FLAG_LOG"]}) == 2
    with pytest.raises(InvalidError):
        seccomp.flags({"flags": ["SECCOMP_FILTER_FLAG_NOPE"]})
