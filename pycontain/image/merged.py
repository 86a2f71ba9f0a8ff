"""The merged view of a layer being unpacked and the layers below it.

Owns where a path leads: `lib/x` lands in `usr/lib` when a lower layer made `lib` a symlink. The
walk goes component by component with O_NOFOLLOW and expands symlinks itself, `..` ending at the
root: the kernel never follows a link, so no path leads out, whatever the layer holds, with no
mount and no privilege. What is put at the end of a path is `layer`'s business.

A directory of the view is a real directory in the upper layer, in some lower ones, or in both.
Names are looked up from the top down; a character device 0:0 hides what is below, and so does
anything that is not a directory, or an opaque directory
(Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontain import trees
from pycontain.errors import InvalidError, quote
from pycontain.image import attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.image.attributes import Metadata

OPAQUE = "trusted.overlay.opaque"
OPAQUE_USER = "user.overlay.opaque"
_MAX_LINKS = 40
"""As path_resolution(7): more symlinks in one path are a loop."""
_MAX_FDS = 200


class Directory:
    """One directory of the view. `lowers` are the indexes of the lower layers that have it."""

    __slots__ = ("fd", "in_upper", "lowers", "name", "parent", "path")

    def __init__(self, parent: Directory | None, name: bytes, lowers: tuple[int, ...]) -> None:
        self.parent = parent
        self.name = name
        self.path: bytes = child_path(parent, name) if parent else b""
        self.lowers = lowers
        self.in_upper = False
        self.fd = -1


class MergedView:
    """`upper` and `lowers` (top layer first) are descriptors of the layers' root directories."""

    def __init__(self, upper: int, lowers: Sequence[int], *, userxattr: bool = False) -> None:
        self.opaque = OPAQUE_USER if userxattr else OPAQUE
        self.metadata: dict[bytes, Metadata] = {}
        self._lowers = lowers
        self._raw: dict[bytes, Directory] = {}
        self._known: dict[bytes, Directory] = {}
        self._links: set[bytes] = set()
        self._open: dict[Directory, None] = {}
        self.root = Directory(None, b"", tuple(range(len(lowers))))
        self.root.in_upper = True
        self.root.fd = upper
        self.metadata[b""] = self._inherited(self.root)

    def close(self) -> None:
        """Close every descriptor but those handed in."""
        for directory in self._open:
            os.close(directory.fd)
            directory.fd = -1
        self._open.clear()

    # where a path leads

    def parent(self, path: bytes) -> Directory:
        """Return the directory `path` leads to, made in the upper layer where it is missing."""
        found = self._raw.get(path)
        if found is None:
            found = self._raw[path] = self._walk(path, create=True) or self.root
        if not found.in_upper:
            self._make_upper(found)
        return found

    def find(self, path: bytes) -> Directory | None:
        """Return the directory `path` leads to, None when there is none."""
        return self._raw.get(path) or self._walk(path, create=False)

    def _walk(self, path: bytes, *, create: bool) -> Directory | None:
        here = self.root
        left = path.split(b"/")[::-1]
        links = 0
        while left:
            name = left.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                here = here.parent or here
                continue
            step = self._step(here, name)
            if isinstance(step, bytes):
                links += 1
                if links > _MAX_LINKS:
                    raise InvalidError(f"too many symlinks in {quote(path)}")
                here = self.root if step.startswith(b"/") else here
                left.extend(step.split(b"/")[::-1])
                continue
            if step is None and create:
                step = self._new_directory(here, name)
            if step is None:
                return None
            here = step
        return here

    def _step(self, here: Directory, name: bytes) -> Directory | bytes | None:
        """Return the directory or the symlink's target `name` stands for in `here`."""
        path = child_path(here, name)
        known = self._known.get(path)
        if known is not None:
            return known
        found = self.status(here, name)
        if found is None:
            return None
        status, layer = found
        if stat.S_ISLNK(status.st_mode):
            self._links.add(path)
            return self._readlink(here, name, layer)
        if not stat.S_ISDIR(status.st_mode):
            raise InvalidError(f"{quote(path)} is not a directory, yet an entry lies below it")
        directory = Directory(here, name, self._lower_directories(here, name, layer))
        directory.in_upper = layer < 0
        self._known[path] = directory
        return directory

    def status(self, here: Directory, name: bytes) -> tuple[os.stat_result, int] | None:
        """Return the status of what the view shows at `name`, and its layer: -1 is the upper."""
        if here.in_upper:
            status = self.upper_status(here, name)
            if status is not None:
                return None if is_whiteout(status) else (status, -1)
        return self.lower_status(here, name)

    def upper_status(self, here: Directory, name: bytes) -> os.stat_result | None:
        """Return the status of `name` in the upper layer, whiteouts included."""
        return _lstat(name, self.fd(here))

    def lower_status(self, here: Directory, name: bytes) -> tuple[os.stat_result, int] | None:
        """Return the status of what the lower layers show at `name`, and which of them does."""
        path = child_path(here, name)
        for layer in here.lowers:
            status = _lstat(path, self._lowers[layer])
            if status is not None:
                return None if is_whiteout(status) else (status, layer)
        return None

    def lower_names(self, here: Directory) -> set[bytes]:
        """Return every name the lower layers have in `here`, hidden ones included."""
        found: set[bytes] = set()
        for layer in here.lowers:
            fd = os.open(here.path or b".", trees.DIRECTORY, dir_fd=self._lowers[layer])
            try:
                found.update(map(os.fsencode, os.listdir(fd)))
            finally:
                os.close(fd)
        return found

    def lower_fd(self, layer: int) -> int:
        """Return the descriptor of a lower layer's root; paths of the view are valid below it."""
        return self._lowers[layer]

    def _readlink(self, here: Directory, name: bytes, layer: int) -> bytes:
        if layer < 0:
            return os.readlink(name, dir_fd=self.fd(here))
        return os.readlink(child_path(here, name), dir_fd=self._lowers[layer])

    def _lower_directories(self, here: Directory, name: bytes, layer: int) -> tuple[int, ...]:
        if layer < 0 and self._is_opaque(name, self.fd(here)):
            return ()
        path = child_path(here, name)
        found = []
        for index in here.lowers:
            status = _lstat(path, self._lowers[index])
            if status is None:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break
            found.append(index)
            if self._is_opaque(path, self._lowers[index]):
                break
        return tuple(found)

    def _is_opaque(self, path: bytes, dir_fd: int) -> bool:
        fd = os.open(path, trees.DIRECTORY, dir_fd=dir_fd)
        try:
            return os.getxattr(fd, self.opaque) == b"y"
        except OSError:
            return False
        finally:
            os.close(fd)

    # the upper layer

    def fd(self, directory: Directory) -> int:
        """Return a descriptor of a directory of the upper layer, valid until the next call."""
        if directory.fd >= 0:
            return directory.fd
        closed = []
        while directory.fd < 0:
            closed.append(directory)
            assert directory.parent is not None
            directory = directory.parent
        for child in reversed(closed):
            assert child.parent is not None
            child.fd = os.open(child.name, trees.DIRECTORY, dir_fd=child.parent.fd)
            self._open[child] = None
            if len(self._open) > _MAX_FDS:
                self._close_oldest()
        return closed[0].fd

    def _close_oldest(self) -> None:
        oldest = next(iter(self._open))
        del self._open[oldest]
        os.close(oldest.fd)
        oldest.fd = -1

    def enter(self, here: Directory, name: bytes) -> Directory:
        """Return the directory `name`, which is a directory of the upper layer by now."""
        path = child_path(here, name)
        known = self._known.get(path)
        if known is None:
            known = Directory(here, name, self._lower_directories(here, name, -1))
            self._known[path] = known
        known.in_upper = True
        return known

    def set_opaque(self, directory: Directory) -> None:
        """Hide whatever the lower layers have in `directory`."""
        os.setxattr(self.fd(directory), self.opaque, b"y")
        self._invalidate(directory.path)
        directory.lowers = ()

    def placed(self, here: Directory, name: bytes) -> None:
        """Take note that something other than a directory now stands at `name`."""
        path = child_path(here, name)
        if path in self._known or path in self._links:
            self._invalidate(path)

    def removed(self, here: Directory, name: bytes) -> None:
        """Take note that `name` and all below it is gone from the upper layer."""
        path = child_path(here, name)
        self._invalidate(path)
        below = path + b"/"
        for known in [p for p in self.metadata if p == path or p.startswith(below)]:
            del self.metadata[known]

    def unlinked(self, here: Directory, name: bytes) -> None:
        """Take note that a directory now stands at `name`, where a symlink may have stood."""
        if child_path(here, name) in self._links:
            self._invalidate(child_path(here, name))

    def _invalidate(self, path: bytes) -> None:
        # Paths were remembered as they led through `path`: forget them all, it happens rarely.
        self.close()
        self._raw.clear()
        self._links.clear()
        below = path + b"/"
        for known in [p for p in self._known if p == path or p.startswith(below)]:
            del self._known[known]

    def _new_directory(self, here: Directory, name: bytes) -> Directory:
        if not here.in_upper:
            self._make_upper(here)
        status = self.upper_status(here, name)
        if status is not None:
            os.unlink(name, dir_fd=self.fd(here))
        os.mkdir(name, 0o700, dir_fd=self.fd(here))
        directory = self.enter(here, name)
        if status is not None:
            self.set_opaque(directory)
            self._known[directory.path] = directory
        self.metadata[directory.path] = attributes.made_up()
        return directory

    def _make_upper(self, directory: Directory) -> None:
        missing = []
        above: Directory | None = directory
        while above is not None and not above.in_upper:
            missing.append(above)
            above = above.parent
        for made in reversed(missing):
            assert made.parent is not None
            os.mkdir(made.name, 0o700, dir_fd=self.fd(made.parent))
            made.in_upper = True
            self.metadata[made.path] = self._inherited(made)

    def _inherited(self, directory: Directory) -> Metadata:
        """Return the metadata the lower layers show for `directory`: the upper's replaces it."""
        if not directory.lowers:
            return attributes.made_up()
        where = directory.path or b"."
        fd = os.open(where, trees.DIRECTORY, dir_fd=self._lowers[directory.lowers[0]])
        try:
            return attributes.inherited(fd)
        finally:
            os.close(fd)


def child_path(here: Directory, name: bytes) -> bytes:
    """Return the path of `name` in `here`, from the root of the view, without a leading slash."""
    return here.path + b"/" + name if here.path else name


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether this is overlay's whiteout: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _lstat(path: bytes, dir_fd: int) -> os.stat_result | None:
    try:
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
