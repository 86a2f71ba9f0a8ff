"""The host's mount table, for the one question a plan has about it: which mount holds a path."""

from __future__ import annotations

import posix

from pycontain.errors import KernelError


def mount_point(path: str) -> str:
    """Return the mount point of the mount that `path` lies on (proc_pid_mountinfo(5), field 5)."""
    fd = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while part := posix.read(fd, 65536):
            parts.append(part)
    finally:
        posix.close(fd)
    return holder(b"".join(parts), real_path(path))


def real_path(path: str) -> str:
    """Return `path` without symbolic links; raises KernelError when it is not there."""
    try:
        fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open rootfs", path, error, call="open") from None
    try:
        return posix.readlink(f"/proc/self/fd/{fd}")
    finally:
        posix.close(fd)


def holder(mountinfo: bytes, path: str) -> str:
    """Return the longest mount point that is `path` or above it; the last of equals is on top."""
    best = "/"
    for line in mountinfo.splitlines():
        point = _unescape(line.split(b" ")[4])
        if (path + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best = point
    return best


def _unescape(field: bytes) -> str:
    head, *rest = field.split(b"\\")
    parts = [bytes([int(part[:3], 8)]) + part[3:] for part in rest]
    return b"".join([head, *parts]).decode("utf-8", "surrogateescape")
