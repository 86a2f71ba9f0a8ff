"""The OCI linux.seccomp object as a classic BPF filter (seccomp(2), config-linux.md "Seccomp").

Each ABI of the architecture becomes one binary search over ranges of call numbers: about seven
comparisons for any call, and some 150 instructions for a profile of 400 names. The verdicts are
libseccomp's as runc uses it: a rule without arguments wins over those with, rules with arguments
are tried in order, a rule equal to the default does nothing, and a call newer than everything the
profile names is ENOSYS, so that programs fall back to what they used before.

Compiled filters are kept in the run root (`program`). The default profile is in
`seccomp_profile`, the assembler in `bpf`; loading is the plan's work.
"""

from __future__ import annotations

import errno
import marshal
import posix
from _imp import source_hash

from pycontain.errors import InvalidError, KernelError, UnsupportedError
from pycontain.paths import run_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.oci.runtime import Seccomp

VERSION = b"1"
"""Part of the cache key: raise it whenever the same profile may compile to something else."""

ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
"""SECCOMP_RET_* of linux/seccomp.h."""

FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}
FLAG_NEW_LISTENER = 8

MAX_FILTER_BYTES = 4096 * 8
_memory: dict[bytes, bytes] = {}


def program(profile: Seccomp, arch: str = "", *, cache: str = "") -> bytes:
    """Return the filter of `profile` as an array of struct sock_filter (8 bytes each).

    `arch` is the machine as uname(2) says it, this one's by default. `cache` is the directory of
    compiled filters, RUN_ROOT/.seccomp by default; one that cannot be used costs time, no more.
    Raises InvalidError for an unknown action, comparison, flag or architecture and UnsupportedError
    for a machine without tables.
    """
    arch = arch or posix.uname().machine
    content = _content(profile, arch)
    found = _memory.get(content)
    if found is None:
        directory = cache or run_root() + "/.seccomp"
        found = _load(directory, content)
        if not found:
            from pycontain.runtime import seccomp_compiler

            found = seccomp_compiler.compile_filter(profile, arch)
            _save(directory, content, found)
        _memory[content] = found
    return found


def loader(profile: Seccomp) -> Callable[[], None]:
    """Return a function that puts the calling process under the filter of `profile`.

    Without a listener: a call that an agent should decide is ENOSYS there. The process needs
    CAP_SYS_ADMIN; raises OSError.
    """
    from pycontain.syscalls import kernel, libc

    code = bytearray(program(profile))
    fprog = (len(code) // 8).to_bytes(8, "little") + libc.address(code).to_bytes(8, "little")
    bits = flags(profile) & ~FLAG_NEW_LISTENER & ~FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]

    def load() -> None:
        assert code, "the filter the address points to"
        kernel.seccomp(1, bits, fprog)

    return load


def flags(profile: Seccomp) -> int:
    """Return the flags of seccomp(2) for `profile`; NOTIFY rules make it NEW_LISTENER."""
    bits = 0
    for name in profile.get("flags") or []:
        if name not in FLAGS:
            raise InvalidError(f"linux.seccomp.flags: unknown flag {name!r}")
        bits |= FLAGS[name]
    return bits | FLAG_NEW_LISTENER if notifies(profile) else bits


def notifies(profile: Seccomp) -> bool:
    """Return whether a rule hands calls to an agent (SCMP_ACT_NOTIFY)."""
    return any(rule.get("action") == "SCMP_ACT_NOTIFY" for rule in profile.get("syscalls") or [])


def action(name: str, errno_ret: int | None = None) -> int:
    """Return the filter's return value for an action; ERRNO without a number is EPERM."""
    if name not in ACTIONS:
        raise InvalidError(f"linux.seccomp: unknown action {name!r}")
    value = ACTIONS[name]
    if name in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        number = errno.EPERM if errno_ret is None else errno_ret
        if not 0 <= number <= 0xFFFF:
            raise InvalidError(f"linux.seccomp: errnoRet {number} is out of range")
        return value | number
    if errno_ret is not None:
        raise InvalidError(f"linux.seccomp: {name} takes no errnoRet")
    return value


def _content(profile: Seccomp, arch: str) -> bytes:
    """Return all a filter is compiled from, as bytes."""
    # Version 2 of marshal has no references: equal values give equal bytes.
    return marshal.dumps((dict(profile), arch, VERSION), 2)


def _key(content: bytes) -> str:
    """Return the file name of a compiled filter.

    The hash is short, and two profiles may share it: the file holds what it was compiled from.
    """
    return source_hash(0, content).hex()


def _load(directory: str, content: bytes) -> bytes:
    """Return the cached filter, b"" when there is none that can be trusted."""
    try:
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW
        fd = posix.open(f"{directory}/{_key(content)}", flags)
    except OSError:
        return b""
    try:
        status = posix.fstat(fd)
        # A filter somebody else could write is no filter.
        if status.st_uid != posix.geteuid() or status.st_mode & 0o777022 != 0o100000:
            return b""
        size = status.st_size - len(content)
        if not 0 < size <= MAX_FILTER_BYTES or size % 8:
            return b""
        kept = posix.read(fd, status.st_size)
        whole = len(kept) == status.st_size and kept.startswith(content)
        return kept[len(content) :] if whole else b""
    finally:
        posix.close(fd)


def _save(directory: str, content: bytes, compiled: bytes) -> None:
    """Keep a compiled filter; a directory that cannot be written is no error."""
    from pycontain import trees

    key = _key(content)
    temporary = f"{directory}/.{key}.{posix.getpid()}"
    try:
        trees.make_directories(directory)
        fd = posix.open(
            temporary,
            posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW,
            0o600,
        )
        try:
            posix.write(fd, content + compiled)
        finally:
            posix.close(fd)
        posix.rename(temporary, f"{directory}/{key}")
    except (OSError, KernelError):
        return


def check_arch(arch: str) -> None:
    """Raise UnsupportedError for a machine whose call numbers are not known."""
    if arch not in ("x86_64", "aarch64"):
        raise UnsupportedError(
            f"seccomp filters are not supported on {arch}", hint="use seccomp=unconfined"
        )
