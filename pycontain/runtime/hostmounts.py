"""The host's mount table, for the questions a plan has about it.

Which mount holds a path, and where the kernel's own file systems are mounted.
"""

from __future__ import annotations

import posix

from pycontain.errors import KernelError


def mount_point(path: str) -> str:
    """Return the mount point of the mount that `path` lies on (proc_pid_mountinfo(5), field 5)."""
    return holder(_table(), real_path(path))


def kernel_mounts(rootfs: str) -> list[str]:
    """Return where proc and sysfs are mounted outside `rootfs`, the later mounts first."""
    return kernel_points(_table(), real_path(rootfs))


def first_of_type(kind: str) -> str:
    """Return where a file system of type `kind` is mounted, "" when it is nowhere."""
    return whole_of_type(_table(), kind.encode())


def _table() -> bytes:
    fd = posix.open("/proc/self/mountinfo", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        parts = []
        while part := posix.read(fd, 65536):
            parts.append(part)
    finally:
        posix.close(fd)
    return b"".join(parts)


def kernel_points(mountinfo: bytes, rootfs: str) -> list[str]:
    """Return the mount points of proc and sysfs that are not `rootfs` or below, last line first."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(b" - ")
        point = _unescape(head.split(b" ")[4])
        inside = (point + "/").startswith(rootfs.rstrip("/") + "/")
        if tail.split(b" ")[0] in (b"proc", b"sysfs") and not inside:
            found.append(point)
    return found[::-1]


def whole_of_type(mountinfo: bytes, kind: bytes) -> str:
    """Return the first mount point of the root, not of a part, of a file system of type `kind`."""
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(b" - ")
        fields = head.split(b" ")
        if tail.split(b" ")[0] == kind and fields[3] == b"/":
            return _unescape(fields[4])
    return ""


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
