"""What a file of a layer carries besides content: owner, mode, times, extended attributes.

Owns which attributes an image may set, and copying a lower layer's file as it is. What an entry
becomes is decided in `layer`.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter

CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT = (b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default")


class Metadata:
    """What a directory gets when all is unpacked: its mode may forbid, its mtime would change."""

    __slots__ = ("gid", "mode", "mtime_ns", "uid", "xattrs")

    def __init__(
        self, mode: int, uid: int, gid: int, mtime_ns: int | None, xattrs: dict[bytes, bytes]
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs


def made_up() -> Metadata:
    """Return what a directory gets that no entry describes: it belongs to whoever unpacks."""
    return Metadata(0o755, os.geteuid(), os.getegid(), None, {})


def inherited(fd: int) -> Metadata:
    """Return the metadata of an open directory of a lower layer: the upper's copy replaces it."""
    status = os.fstat(fd)
    mode = stat.S_IMODE(status.st_mode)
    return Metadata(mode, status.st_uid, status.st_gid, status.st_mtime_ns, copied_xattrs(fd))


def apply(fd: int, metadata: Metadata, skipped: Counter[str]) -> None:
    """Give an open file its metadata; attributes that cannot be set are counted in `skipped`."""
    # chown drops set-user-ID bits and capabilities: owner, mode, attributes, times.
    os.fchown(fd, metadata.uid, metadata.gid)
    os.fchmod(fd, metadata.mode)
    if metadata.xattrs:
        _set_xattrs(fd, metadata.xattrs, skipped)
    if metadata.mtime_ns is not None:
        os.utime(fd, ns=(metadata.mtime_ns, metadata.mtime_ns))


def _set_xattrs(fd: int, xattrs: dict[bytes, bytes], skipped: Counter[str]) -> None:
    for name, value in xattrs.items():
        if not _is_kept(name):
            skipped["extended attributes left out (not for images to set)"] += 1
            continue
        try:
            os.setxattr(fd, name, value)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
            skipped["extended attributes left out (not permitted)"] += 1


def _is_kept(name: bytes) -> bool:
    # Overlay reads trusted.overlay.* and user.overlay.*: with them a layer could redirect names.
    if name.startswith(b"user."):
        return not name.startswith(b"user.overlay.")
    return name in _KEPT


def copied_xattrs(fd: int) -> dict[bytes, bytes]:
    """Return the extended attributes of a file of a lower layer, without overlay's own."""
    try:
        names = [name for name in os.listxattr(fd) if ".overlay." not in name]
        return {os.fsencode(name): os.getxattr(fd, name) for name in names}
    except OSError:
        return {}  # this file system keeps none


def copy_file(path: bytes, from_fd: int, name: bytes, to_fd: int) -> None:
    """Copy a regular file with all it carries; both names are relative to open directories."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=from_fd)
    try:
        target = os.open(name, CREATE, 0o600, dir_fd=to_fd)
        try:
            _copy(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy(source: int, target: int) -> None:
    while os.sendfile(target, source, None, 1 << 30):
        pass
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for key, value in copied_xattrs(source).items():
        os.setxattr(target, key, value)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
