"""The home directory of a uid, from a container's own /etc/passwd.

The file is the image's: it may be a link to the host's, a fifo or endless. It is opened inside the
root, must be a regular file and is read up to a limit (CVE-2024-9676, CVE-2019-14271).
"""

from __future__ import annotations

import posix

from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

LIMIT_BYTES = 1 << 20
_TYPE, _REGULAR = 0o170000, 0o100000


def lookup(rootfs: str, uid: int) -> str:
    """Return the home directory of `uid`, "/" when there is none to be found."""
    wanted = str(uid).encode()
    for line in read_inside(rootfs, "etc/passwd").split(b"\n"):
        fields = line.split(b":")
        named = len(fields) >= 6 and fields[2] == wanted and fields[5].startswith(b"/")
        if named and b"\0" not in fields[5]:
            return fields[5].decode("utf-8", "surrogateescape")
    return "/"


def read_inside(rootfs: str, path: str) -> bytes:
    """Return the content of a regular file inside `rootfs`, b"" for anything else."""
    try:
        top = posix.open(rootfs, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        return b""
    try:
        resolve = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
        fd = kernel.openat2(top, path, c.O_CLOEXEC | c.O_NONBLOCK | c.O_NOCTTY, 0, resolve)
    except OSError:
        return b""
    finally:
        posix.close(top)
    try:
        return read_regular(fd)
    finally:
        posix.close(fd)


def read_regular(fd: int) -> bytes:
    """Return up to LIMIT_BYTES of `fd` when it is a regular file, else b""."""
    if posix.fstat(fd).st_mode & _TYPE != _REGULAR:
        return b""
    parts = []
    left = LIMIT_BYTES
    while left and (part := posix.read(fd, min(left, 65536))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
