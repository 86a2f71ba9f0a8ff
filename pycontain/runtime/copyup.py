"""tmpcopyup: fill a fresh tmpfs with what it covers.

Both directories are the container's. The walk goes by descriptors and never through a symbolic
link; nothing in the source is opened that is not a regular file or a directory.
"""

from __future__ import annotations

import errno
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import stat_result

_TYPE = 0o170000
_REGULAR, _DIRECTORY, _LINK = 0o100000, 0o040000, 0o120000
_READ = posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_CLOEXEC | posix.O_NONBLOCK
_CHUNK = 1 << 20
_MAX_DEPTH = 256


def copy(source: int, target: int) -> None:
    """Copy everything below the directory `source` to the directory `target`; raises OSError."""
    _copy_directory(source, target, 0)
    _adopt(posix.fstat(source), target)


def _copy_directory(source: int, target: int, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise OSError(errno.ELOOP, posix.strerror(errno.ELOOP))
    for name in posix.listdir(source):
        status = posix.stat(name, dir_fd=source, follow_symlinks=False)
        kind = status.st_mode & _TYPE
        if kind == _DIRECTORY:
            _copy_one_directory(source, target, name, status, depth)
        elif kind == _REGULAR:
            _copy_file(source, target, name, status)
        elif kind == _LINK:
            link = posix.readlink(name, dir_fd=source)
            posix.symlink(link, name, dir_fd=target)
            posix.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        else:
            posix.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
            posix.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)


def _copy_one_directory(
    source: int, target: int, name: str, status: stat_result, depth: int
) -> None:
    posix.mkdir(name, 0o700, dir_fd=target)
    below = posix.open(name, _READ | posix.O_DIRECTORY, dir_fd=source)
    try:
        above = posix.open(name, _READ | posix.O_DIRECTORY, dir_fd=target)
        try:
            _copy_directory(below, above, depth + 1)
            _adopt(status, above)
        finally:
            posix.close(above)
    finally:
        posix.close(below)


def _copy_file(source: int, target: int, name: str, status: stat_result) -> None:
    below = posix.open(name, _READ, dir_fd=source)
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        above = posix.open(name, flags, 0o600, dir_fd=target)
        try:
            while posix.sendfile(above, below, None, _CHUNK):
                continue
            _adopt(status, above)
        finally:
            posix.close(above)
    finally:
        posix.close(below)


def _adopt(status: stat_result, fd: int) -> None:
    """Take over owner, mode and times; the owner first, since chown(2) clears setuid bits."""
    posix.chown(fd, status.st_uid, status.st_gid)
    posix.chmod(fd, status.st_mode & 0o7777)
    posix.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
