"""Directory trees without following a symlink: making, removal at any depth, small atomic files.

Owns what image, rootfs and the engine share of it; which trees there are is their business.
Everything goes through `dir_fd`, so a name that becomes a symlink meanwhile leads nowhere.
"""

from __future__ import annotations

import errno
import posix

from pycontain.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from posix import DirEntry

DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_MAX_DEPTH = 64


def make_directories(path: str, mode: int = 0o700) -> None:
    """Make a directory and its parents; those that are there stay as they are.

    Raises KernelError. A dangling symlink counts as there, and what is below it as missing.
    """
    for end in [at for at, letter in enumerate(path) if letter == "/" and at] + [len(path)]:
        try:
            posix.mkdir(path[:end], mode)
        except FileExistsError:
            continue
        except OSError as error:
            raise KernelError("make directory", path[:end], error, call="mkdir") from None


def remove(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove a file or a whole tree; a missing one is no error. Raises OSError.

    A container may nest deeper than PATH_MAX or the recursion limit: below 64 levels a directory is
    renamed up to the top first, so the number of open descriptors stays bounded.
    """
    try:
        if _rmdir(path, dir_fd):
            return
        fd = _open_directory(path, dir_fd)
        try:
            emptier = _Emptier(fd)
            emptier.empty(fd, 0)
            # What lay too deep was moved up, and others may have added something: look again.
            while not _rmdir(path, dir_fd):
                emptier.empty(fd, 0)
        finally:
            posix.close(fd)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        try:
            posix.unlink(path, dir_fd=dir_fd)
        except FileNotFoundError:
            return


class _Emptier:
    """Empties the tree under `top`; somebody else may be removing it too."""

    __slots__ = ("moved", "top")

    def __init__(self, top: int) -> None:
        self.top = top
        self.moved = 0

    def empty(self, fd: int, depth: int) -> None:
        for entry in _entries(fd):
            try:
                self.drop(fd, entry, depth)
            except FileNotFoundError:
                continue

    def drop(self, fd: int, entry: DirEntry[str], depth: int) -> None:
        name = entry.name
        if not entry.is_dir(follow_symlinks=False):
            posix.unlink(name, dir_fd=fd)
        elif not _rmdir(name, fd):
            if depth >= _MAX_DEPTH:
                self.move_up(fd, name)
            else:
                self.descend(fd, name, depth)

    def descend(self, fd: int, name: str, depth: int) -> None:
        child = _open_directory(name, fd)
        try:
            self.empty(child, depth + 1)
            while not _rmdir(name, fd):
                self.empty(child, depth + 1)
        finally:
            posix.close(child)

    def move_up(self, fd: int, name: str) -> None:
        while True:
            self.moved += 1
            try:
                posix.rename(name, f".moved-{self.moved}", src_dir_fd=fd, dst_dir_fd=self.top)
                return
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise


def _rmdir(name: str | bytes, fd: int | None) -> bool:
    """Remove a directory if it is empty; tell whether it was."""
    try:
        posix.rmdir(name, dir_fd=fd)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _open_directory(path: str | bytes, dir_fd: int | None) -> int:
    try:
        return posix.open(path, DIRECTORY, dir_fd=dir_fd)
    except PermissionError:
        # An owner without DAC_OVERRIDE meets a directory of mode 0 (overlay's work/work is one).
        posix.chmod(path, 0o700, dir_fd=dir_fd)
        return posix.open(path, DIRECTORY, dir_fd=dir_fd)


def _entries(fd: int) -> list[DirEntry[str]]:
    with posix.scandir(fd) as found:
        return list(found)


def write_atomic(path: str, content: bytes, *, mode: int = 0o600, sync: bool = True) -> None:
    """Put `content` at `path` by write, fsync, rename; a crash leaves the old file or the new."""
    temporary = f"{path}.tmp-{posix.getpid()}-{posix.urandom(4).hex()}"
    fd = posix.open(
        temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, mode
    )
    try:
        try:
            write_all(fd, content)
            if sync:
                posix.fsync(fd)
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError:
        posix.unlink(temporary)
        raise
    if sync:
        sync_directory(path.rpartition("/")[0] or "/")


def write_all(fd: int, content: bytes | memoryview) -> None:
    """Write all of `content`: one write(2) moves at most 2 GiB, and less when the disk fills."""
    view = memoryview(content)
    while view:
        view = view[posix.write(fd, view) :]


def sync_directory(path: str) -> None:
    """Make the names in a directory durable."""
    fd = posix.open(path, DIRECTORY)
    try:
        posix.fsync(fd)
    finally:
        posix.close(fd)


def read_file(path: str | bytes, limit: int, *, dir_fd: int | None = None) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; never blocks on a fifo.

    Raises OSError; EFBIG for a larger file, EINVAL for anything but a regular file.
    """
    flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
    fd = posix.open(path, flags, dir_fd=dir_fd)
    try:
        status = posix.fstat(fd)
        if status.st_mode & 0o170000 != 0o100000:
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > limit:
            raise OSError(errno.EFBIG, posix.strerror(errno.EFBIG))
        return _read_up_to(fd, limit, status.st_size)
    finally:
        posix.close(fd)


def _read_up_to(fd: int, limit: int, size: int) -> bytes:
    content = posix.read(fd, size + 1)
    while len(content) < limit and (more := posix.read(fd, limit - len(content))):
        content += more
    return content
