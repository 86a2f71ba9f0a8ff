"""A deterministic writer of newc cpio archives, the format of the initramfs.

Owns the bytes of the archive (see the kernel's Documentation/driver-api/early-userspace/
buffer-format.rst). What goes into a guest's archive is decided by `guest`. The same tree gives
the same bytes: entries are sorted, inode numbers count up, and nothing of the host's inodes,
device numbers or clock enters; times of files are those of the tree.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from pycontain.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_BYTES = 0xFFFFFFFF
COPY_BYTES = 1 << 20


class CpioWriter:
    """Writes entries to `out`; `close` writes the trailer. Names are relative."""

    def __init__(self, out: BinaryIO) -> None:
        self.out = out
        self.inode = 0
        self.offset = 0
        self.linked: dict[tuple[int, int], int] = {}

    def directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory owned by root."""
        self._entry(name, stat.S_IFDIR | mode)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a regular file owned by root."""
        self._entry(name, stat.S_IFREG | mode, size=len(content))
        self._write(content)
        self._pad()

    def character_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Add a character device node; needs no privilege, for it is only written down."""
        self._entry(name, stat.S_IFCHR | mode, device=(major, minor))

    def tree(self, root: Path) -> None:
        """Add everything below `root`, without following links; sockets are left out."""
        for name, path in walk(root):
            self._add(name, path)

    def close(self) -> None:
        """End the archive; four-byte padding only, so a further archive may follow."""
        self._entry("TRAILER!!!", 0, inode=0)

    def _add(self, name: str, path: str) -> None:
        info = os.lstat(path)
        device = (0, 0)
        if stat.S_ISSOCK(info.st_mode):
            return
        if stat.S_ISCHR(info.st_mode) or stat.S_ISBLK(info.st_mode):
            device = (os.major(info.st_rdev), os.minor(info.st_rdev))
        if stat.S_ISREG(info.st_mode):
            self._add_file(name, path, info)
            return
        target = os.fsencode(os.readlink(path)) if stat.S_ISLNK(info.st_mode) else b""
        self._entry(name, info.st_mode, info=info, size=len(target), device=device)
        self._write(target)
        self._pad()

    def _add_file(self, name: str, path: str, info: os.stat_result) -> None:
        if info.st_size > MAX_FILE_BYTES:
            raise InvalidError(f"pack {path}: over 4 GiB, which an initramfs cannot hold")
        key = (info.st_dev, info.st_ino)
        if info.st_nlink > 1 and key in self.linked:
            # The kernel links by inode number and keeps what the first entry wrote.
            self._entry(name, info.st_mode, info=info, inode=self.linked[key])
            return
        inode = self._entry(name, info.st_mode, info=info, size=info.st_size)
        if info.st_nlink > 1:
            self.linked[key] = inode
        self._copy(path, info.st_size)
        self._pad()

    def _copy(self, path: str, size: int) -> None:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as source:
            left = size
            while left:
                block = source.read(min(left, COPY_BYTES))
                if not block:
                    raise InvalidError(f"pack {path}: it shrank while being read")
                self._write(block)
                left -= len(block)

    def _entry(
        self,
        name: str,
        mode: int,
        *,
        info: os.stat_result | None = None,
        inode: int | None = None,
        size: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> int:
        if inode is None:
            self.inode += 1
            inode = self.inode
        links = 2 if info is not None and stat.S_ISREG(mode) and info.st_nlink > 1 else 1
        raw = os.fsencode(name) + b"\0"
        owner = (info.st_uid, info.st_gid, int(info.st_mtime)) if info else (0, 0, 0)
        uid, gid, mtime = owner
        head = (
            inode,
            mode,
            uid,
            gid,
            links,
            max(mtime, 0),
            size,
            0,
            0,
            *device,
            len(raw),
            0,
        )
        self._write(b"070701" + b"".join(b"%08X" % (word & 0xFFFFFFFF) for word in head))
        self._write(raw)
        self._pad()
        return inode

    def _write(self, data: bytes) -> None:
        self.out.write(data)
        self.offset += len(data)

    def _pad(self) -> None:
        self._write(b"\0" * (-self.offset % 4))


def walk(root: Path) -> Iterator[tuple[str, str]]:
    """Yield (relative name, path) of everything below `root`, parents first, in byte order."""
    stack = [("", str(root))]
    while stack:
        prefix, directory = stack.pop()
        with os.scandir(directory) as entries:
            found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        below = []
        for entry in found:
            name = prefix + entry.name
            yield name, entry.path
            if entry.is_dir(follow_symlinks=False):
                below.append((name + "/", entry.path))
        stack.extend(reversed(below))


def tree_bytes(root: Path) -> int:
    """Return the bytes of all regular files below `root`."""
    return sum(
        os.lstat(path).st_size for _, path in walk(root) if stat.S_ISREG(os.lstat(path).st_mode)
    )
