"""The files of an image archive, members of a tar or of a layout directory; never followed out.

Owns where a blob's bytes are. What the documents in them mean is `archive`'s business.
"""

from __future__ import annotations

import os
import posixpath
import stat
from contextlib import ExitStack

from pycontain import trees
from pycontain.errors import InvalidError, KernelError, quote
from pycontain.image import tar
from pycontain.image.pipeline import Blob
from pycontain.image.source import FileSource

DOCUMENTS = ("manifest.json", "oci-layout", "repositories")
"""A member of one of these names makes a tar an image archive."""
_MAX_MEMBERS = 200_000
_MAX_LINKS = 10


class TarFiles:
    """The members of an uncompressed tar in `size` bytes of a seekable file."""

    def __init__(self, fd: int, size: int, what: str) -> None:
        self._fd = fd
        self._what = what
        self._members: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._index(FileSource(fd, 0, size, what))

    def blob(self, name: str, digest: str = "") -> Blob | None:
        """Return a regular member; symlinks lead only to other members. Raises InvalidError."""
        path = self._inside(name, "")
        for _ in range(_MAX_LINKS):
            if path in self._members:
                return Blob(self._fd, *self._members[path], f"{self._what}: {name}", digest)
            if path not in self._links:
                return None
            path = self._inside(self._links[path], posixpath.dirname(path))
        raise InvalidError(f"{self._what}: member {quote(name)} is a loop of links")

    def close(self) -> None:
        """Nothing is held beyond the descriptor that was handed in."""

    def _index(self, source: FileSource) -> None:
        reader = tar.TarReader(source)
        for entry in reader:
            name = posixpath.normpath(os.fsdecode(entry.name)).lstrip("/")
            self._members.pop(name, None)
            self._links.pop(name, None)
            if entry.type == tar.FILE and entry.extents is None:
                # Never past the end: the last member may be cut.
                self._members[name] = (source.offset, entry.size)
            elif entry.type == tar.SYMLINK:
                self._links[name] = os.fsdecode(entry.link)
            elif entry.type == tar.HARDLINK:
                target = os.fsdecode(entry.link)
                self._links[name] = posixpath.relpath("/" + target, "/" + posixpath.dirname(name))
            if len(self._members) + len(self._links) > _MAX_MEMBERS:
                self._forget()

    def _forget(self) -> None:
        # No image archive is this large, but a root file system may be: keep what tells them apart.
        if any(name in self._members for name in DOCUMENTS):
            raise InvalidError(f"{self._what}: more than {_MAX_MEMBERS} members")
        self._members.clear()
        self._links.clear()

    def _inside(self, name: str, directory: str) -> str:
        path = posixpath.normpath(posixpath.join(directory, name))
        if name.startswith("/") or path.startswith("..") or "\0" in name:
            raise InvalidError(f"{self._what}: {quote(name[:300])} leads out of the archive")
        return path


class DirectoryFiles:
    """The files of an OCI layout directory."""

    def __init__(self, path: str) -> None:
        self._what = path
        self._stack = ExitStack()
        try:
            self._root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", path, error) from error
        self._stack.callback(os.close, self._root)

    def blob(self, name: str, digest: str = "") -> Blob | None:
        """Return a regular file below the directory, opened without following any symlink."""
        parts = name.split("/")
        if ".." in parts or "\0" in name:
            raise InvalidError(f"{self._what}: {quote(name[:300])} leads out of the layout")
        try:
            fd = self._open(parts)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise KernelError("open", f"{self._what}/{name}", error) from error
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise InvalidError(f"{self._what}: {quote(name)} is not a regular file")
        return Blob(fd, 0, status.st_size, f"{self._what}: {name}", digest)

    def close(self) -> None:
        """Close every file handed out."""
        self._stack.close()

    def _open(self, parts: list[str]) -> int:
        here = self._root
        for part in parts[:-1]:
            here = os.open(part, trees.DIRECTORY, dir_fd=here)
            self._stack.callback(os.close, here)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(parts[-1], flags, dir_fd=here)
        self._stack.callback(os.close, fd)
        return fd


Files = TarFiles | DirectoryFiles
