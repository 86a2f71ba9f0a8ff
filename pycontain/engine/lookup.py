"""Files of an image, read from its unpacked layers without mounting anything.

Overlay's rules by hand: the top layer that has a name wins, a character device 0:0 hides what is
below, an opaque directory too, and directories merge. Symbolic links are expanded here and end at
the image's root, so no image can make us read a file of the host. Sources: path_resolution(7),
Documentation/filesystems/overlayfs.rst. Hot path: a run reads /etc/passwd and /etc/group.
"""

from __future__ import annotations

import posix

from pycontain import trees
from pycontain.errors import InvalidError, KernelError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Place: TypeAlias = "tuple[str, list[int]]"

MAX_LINKS = 40
_KIND = 0o170000
_LINK, _DIRECTORY, _CHARACTER = 0o120000, 0o040000, 0o020000


class Layers:
    """A stack of directories, the top one first, seen as one root file system."""

    __slots__ = ("_fds",)

    def __init__(self, directories: Sequence[str]) -> None:
        self._fds: list[int] = []
        for path in directories:
            try:
                self._fds.append(posix.open(path, trees.DIRECTORY))
            except OSError as error:
                self.close()
                raise KernelError("open layer", path, error) from None

    def close(self) -> None:
        for fd in self._fds:
            posix.close(fd)
        self._fds = []

    def read(self, path: str, limit: int) -> bytes | None:
        """Return the content of a regular file, None when there is none at `path`.

        Raises InvalidError for a fifo, a device, a directory, or more than `limit` bytes: an image
        must not make us wait, or fill our memory.
        """
        found = self.find(path)
        if found is None:
            return None
        name, layers = found
        try:
            return trees.read_file(name, limit, dir_fd=self._fds[layers[0]])
        except OSError as error:
            why = error.strerror or "cannot be read"
            raise InvalidError(f"image file {quote(path)}: {why}") from None

    def find(self, path: str) -> Place | None:
        """Return (path below a layer without links, layers that have it, top first), or None."""
        above: list[Place] = []
        here: Place = ("", list(range(len(self._fds))))
        left = [part for part in path.split("/") if part][::-1]
        links = 0
        while left:
            name = left.pop()
            if name == ".":
                continue
            if name == "..":
                here = above.pop() if above else here
                continue
            step = self._step(here, name)
            if step is None:
                return None
            if isinstance(step, str):
                links += 1
                if links > MAX_LINKS:
                    raise InvalidError(f"image file {quote(path)}: too many symbolic links")
                if step.startswith("/"):
                    above, here = [], ("", list(range(len(self._fds))))
                left.extend([part for part in step.split("/") if part][::-1])
                continue
            above.append(here)
            here = step
        return here

    def lost(self, path: str) -> str:
        """Return where the link `path` leads, without links, when nothing is there yet; else "".

        It is "" as well where nothing can be made: below a file, or links in a circle.
        """
        try:
            if self.find(path) is not None:
                return ""
        except InvalidError:
            return ""
        here: list[str] = []
        left = [part for part in path.split("/") if part][::-1]
        through_link = False
        while left:
            name = left.pop()
            if name == "..":
                del here[-1:]
            elif name != ".":
                above = self.find("/".join(here))
                step = self._step(above, name) if above else None
                if isinstance(step, str):
                    through_link = True
                    here = [] if step.startswith("/") else here
                    left.extend([part for part in step.split("/") if part][::-1])
                elif step and self.status(step).st_mode & _KIND != _DIRECTORY:
                    return ""
                else:
                    here.append(name)
        return "/".join(here) if through_link else ""

    # what `find` found: the top layer's entry is the one that shows

    def status(self, place: Place) -> posix.stat_result:
        """Return the status of a place, of a link itself."""
        return posix.lstat(place[0] or ".", dir_fd=self._fds[place[1][0]])

    def readlink(self, place: Place) -> str:
        """Return where a link leads."""
        return posix.readlink(place[0], dir_fd=self._fds[place[1][0]])

    def open(self, place: Place, flags: int) -> int:
        """Open a file; a link is an error."""
        flags |= posix.O_NOFOLLOW | posix.O_CLOEXEC
        return posix.open(place[0], flags, dir_fd=self._fds[place[1][0]])

    def names(self, place: Place) -> list[str]:
        """Return the names in a directory, of all layers; some may be hidden (see `child`)."""
        found: dict[str, None] = {}
        for layer in place[1]:
            fd = posix.open(place[0] or ".", trees.DIRECTORY, dir_fd=self._fds[layer])
            try:
                found.update(dict.fromkeys(posix.listdir(fd)))
            finally:
                posix.close(fd)
        return list(found)

    def child(self, place: Place, name: str) -> Place | None:
        """Return the place of a name in a directory, a link as itself; None when it is hidden."""
        step = self._step(place, name)
        if not isinstance(step, str):
            return step
        path = f"{place[0]}/{name}" if place[0] else name
        return path, [layer for layer in place[1] if self._lstat(path, layer) is not None]

    def _step(self, here: Place, name: str) -> Place | str | None:
        """Return the place of `name` in `here`, its target if it is a link, or None."""
        path = f"{here[0]}/{name}" if here[0] else name
        merged: list[int] = []
        for layer in here[1]:
            status = self._lstat(path, layer)
            if status is None:
                continue
            kind = status.st_mode & _KIND
            if kind != _DIRECTORY:
                if merged or (kind == _CHARACTER and status.st_rdev == 0):
                    break
                if kind == _LINK:
                    return posix.readlink(path, dir_fd=self._fds[layer])
                return path, [layer]
            merged.append(layer)
            if self._opaque(path, layer):
                break
        return (path, merged) if merged else None

    def _lstat(self, path: str, layer: int) -> posix.stat_result | None:
        try:
            return posix.lstat(path, dir_fd=self._fds[layer])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise KernelError("read image file", path, error) from None

    def _opaque(self, path: str, layer: int) -> bool:
        if layer == len(self._fds) - 1:
            return False
        fd = posix.open(path, trees.DIRECTORY, dir_fd=self._fds[layer])
        try:
            for name in ("trusted.overlay.opaque", "user.overlay.opaque"):
                try:
                    if posix.getxattr(fd, name) == b"y":
                        return True
                except OSError:
                    # ENODATA: not opaque by this name.
                    continue
        finally:
            posix.close(fd)
        return False
