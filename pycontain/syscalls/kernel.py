"""Thin system calls that the standard library lacks, under their man-page names.

Each takes the man page's arguments, returns its result and raises OSError with errno and, where
there is one, the path. No policy. The calls go through the native module when it is built and
through ctypes when it is not; nothing is imported for the second unless it is needed.
"""

from __future__ import annotations

import posix
import time

from pycontain.syscalls.constants import MS_REMOUNT
from pycontain.syscalls.numbers import NR, number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    Path: TypeAlias = "str | bytes"
    Arg: TypeAlias = "int | bytes | bytearray | memoryview | None"

_syscall: Callable[..., int]
native: Any = None
"""The extension module (native/_core.pyi), or None."""
try:
    from pycontain.native import _core as _built

    native = _built
    _syscall = _built.syscall
except ImportError:
    from pycontain.syscalls.libc import syscall as _by_ctypes

    _syscall = _by_ctypes

HAVE_NATIVE = native is not None
"""Whether the native module is built."""


def syscall(name: str, *args: Arg, path: object = None) -> int:
    """Enter the kernel by the name of the call; bytes are passed as pointers, None as NULL.

    The kernel may write into a bytearray, never into bytes. Raises OSError (with `path` as its
    file name when given).
    """
    nr = NR.get(name)
    try:
        return _syscall(number(name) if nr is None else nr, *args)
    except OSError as error:
        if path is not None:
            error.filename = path
        raise


def _c(path: Path) -> bytes:
    """Return a path as a C string; a NUL byte inside is EINVAL's business, so ValueError."""
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    return raw


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """openat2(2). Add O_CLOEXEC yourself."""
    how = flags.to_bytes(8, "little") + mode.to_bytes(8, "little") + resolve.to_bytes(8, "little")
    return syscall("openat2", dirfd, _c(path), how, 24, path=path)


def socketpair(domain: int, kind: int, protocol: int = 0) -> tuple[int, int]:
    """socketpair(2). The extension module `_socket` takes half a millisecond to load."""
    pair = bytearray(8)
    syscall("socketpair", domain, kind, protocol, pair)
    return int.from_bytes(pair[:4], "little"), int.from_bytes(pair[4:], "little")


def poll(fds: Sequence[int], timeout_ms: int = -1, *, writing: Sequence[int] = ()) -> list[int]:
    """ppoll(2): return those of `fds` that can be read (or have an error), [] after the time-out.

    So with those of `writing` that can be written; one that stands in both may come twice. A signal
    does not end it: its handler runs, and the rest of the time is waited. The extension module
    `select` takes 0.15 ms to load.
    """
    polled = bytearray()
    for fd in fds:
        polled += fd.to_bytes(4, "little") + b"\1\0\0\0"
    for fd in writing:
        polled += fd.to_bytes(4, "little") + b"\4\0\0\0"
    fds = (*fds, *writing)
    end = time.monotonic_ns() + timeout_ms * 1_000_000
    while True:
        limit = None
        if timeout_ms >= 0:
            left = max(0, end - time.monotonic_ns())
            limit = b"".join([n.to_bytes(8, "little") for n in divmod(left, 1_000_000_000)])
        try:
            syscall("ppoll", polled, len(fds), limit, None, 8)
        except InterruptedError:
            continue
        return [fd for n, fd in enumerate(fds) if polled[8 * n + 6] or polled[8 * n + 7]]


def flock(fd: int, operation: int) -> None:
    """flock(2). The extension module `fcntl` takes 0.1 ms to load."""
    syscall("flock", fd, operation)


def mount(
    source: Path | None, target: Path, fstype: Path | None, flags: int = 0, data: Path | None = None
) -> None:
    """mount(2)."""
    syscall(
        "mount",
        None if source is None else _c(source),
        _c(target),
        None if fstype is None else _c(fstype),
        flags,
        None if data is None else _c(data),
        path=target,
    )


def umount2(target: Path, flags: int = 0) -> None:
    """umount2(2)."""
    syscall("umount2", _c(target), flags, path=target)


def open_tree(dirfd: int, path: Path, flags: int) -> int:
    """open_tree(2)."""
    return syscall("open_tree", dirfd, _c(path), flags, path=path)


def move_mount(from_fd: int, from_path: Path, to_fd: int, to_path: Path, flags: int) -> None:
    """move_mount(2)."""
    syscall("move_mount", from_fd, _c(from_path), to_fd, _c(to_path), flags, path=to_path or None)


def fsopen(fstype: Path, flags: int = 1) -> int:
    """fsopen(2); FSOPEN_CLOEXEC by default."""
    return syscall("fsopen", _c(fstype), flags, path=fstype)


def fsconfig(fd: int, command: int, key: Path | None, value: Path | None, aux: int = 0) -> None:
    """fsconfig(2)."""
    syscall(
        "fsconfig",
        fd,
        command,
        None if key is None else _c(key),
        None if value is None else _c(value),
        aux,
        path=key,
    )


def fsmount(fd: int, flags: int = 1, attributes: int = 0) -> int:
    """fsmount(2); FSMOUNT_CLOEXEC by default."""
    return syscall("fsmount", fd, flags, attributes)


def mount_setattr(
    dirfd: int,
    path: Path,
    flags: int,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2)."""
    words = (attr_set, attr_clr, propagation, userns_fd)
    attr = b"".join(word.to_bytes(8, "little") for word in words)
    syscall("mount_setattr", dirfd, _c(path), flags, attr, len(attr), path=path or None)


def remount(target: Path, flags: int) -> None:
    """Change the flags of a mount: mount(2) with MS_REMOUNT."""
    mount(None, target, None, flags | MS_REMOUNT)


def pidfd_open(pid: int, flags: int = 0) -> int:
    """pidfd_open(2); the fd is close-on-exec."""
    return syscall("pidfd_open", pid, flags)


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """pidfd_send_signal(2) without siginfo."""
    syscall("pidfd_send_signal", pidfd, signal, None, 0)


def setns(fd: int, kinds: int = 0) -> None:
    """setns(2): `fd` is a namespace file, or a pidfd with the CLONE_NEW* bits in `kinds`."""
    syscall("setns", fd, kinds)


def unshare(flags: int) -> None:
    """unshare(2)."""
    syscall("unshare", flags)


def prctl(option: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> int:
    """prctl(2) with plain numbers."""
    return syscall("prctl", option, a, b, c, d)


def close_range(first: int, last: int, flags: int = 0) -> None:
    """close_range(2)."""
    syscall("close_range", first, last, flags)


def memfd_create(name: str, flags: int = 1) -> int:
    """memfd_create(2); MFD_CLOEXEC by default."""
    return syscall("memfd_create", _c(name), flags)


def seccomp(operation: int, flags: int, argument: bytes) -> int:
    """seccomp(2)."""
    return syscall("seccomp", operation, flags, argument)


def bpf(command: int, attributes: bytearray) -> int:
    """bpf(2); the kernel may write into `attributes`."""
    return syscall("bpf", command, attributes, len(attributes))


def fchmodat2(dirfd: int, path: Path, mode: int, flags: int) -> None:
    """fchmodat2(2), Linux 6.6."""
    syscall("fchmodat2", dirfd, _c(path), mode, flags, path=path)


def in_user_namespace() -> bool:
    """Return whether this process lives in a user namespace other than the host's first."""
    fd = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 256).split()[:3] != [b"0", b"0", b"4294967295"]
    finally:
        posix.close(fd)
