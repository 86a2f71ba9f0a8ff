"""One layer's tar, unpacked into a directory that serves as an overlay layer.

Owns what each kind of entry becomes: files, links, devices, whiteouts, attributes. `tar` parses,
`merged` says where a path leads. Every call names one component below an open directory and follows
no symlink; what stands in the way is removed first, so nothing is ever written through a name of
the layer.

Whiteouts become overlay's: `.wh.NAME` a character device 0:0, `.wh..wh..opq` an opaque attribute.
They hide lower layers only, never what the same layer brings (OCI image specification, layer.md).
"""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from typing import TYPE_CHECKING

from pycontain import trees
from pycontain.errors import InvalidError, KernelError, quote
from pycontain.image import attributes, tar
from pycontain.image.attributes import Metadata
from pycontain.image.merged import Directory, MergedView, child_path, is_whiteout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.image.source import Source

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
NAME_MAX = 255
PATH_MAX = 4095
_HOSTILE = {
    errno.ENAMETOOLONG: "name is too long",
    errno.ENOTDIR: "a file stands where a directory is needed",
    errno.ELOOP: "too many symlinks",
    errno.EFBIG: "file is larger than the file system allows",
    errno.EINVAL: "the kernel refuses its attributes",
}


class Unpacked:
    """What came out of one layer: `size` bytes of files, and `skipped`: what -> how many."""

    def __init__(self) -> None:
        self.size = 0
        self.skipped: Counter[str] = Counter()


def unpack(
    source: Source,
    upper: str,
    lowers: Sequence[str],
    *,
    userxattr: bool = False,
    ids: int | None = None,
) -> Unpacked:
    """Unpack the tar of `source` into the empty directory `upper`, above `lowers` (top first).

    `ids` is how many user ids this user namespace maps, None for all; with one, everything belongs
    to it. Raises InvalidError for a malformed or hostile layer, KernelError when the host fails;
    then `upper` holds a part of the layer and is the caller's to remove.
    """
    opened: list[int] = []
    try:
        for path in (upper, *lowers):
            opened.append(os.open(path, trees.DIRECTORY))  # noqa: PERF401 - closed if one fails
        view = MergedView(opened[0], opened[1:], userxattr=userxattr)
        try:
            unpacker = _Unpacker(source, view, ids)
            unpacker.run()
            return unpacker.done
        finally:
            view.close()
    finally:
        for fd in opened:
            os.close(fd)


class _Unpacker:
    def __init__(self, source: Source, view: MergedView, ids: int | None) -> None:
        self.ids = ids
        self.reader = tar.TarReader(source)
        self.what = source.what
        self.view = view
        self.done = Unpacked()

    def run(self) -> None:
        for entry in self.reader:
            try:
                self.place(entry)
            except OSError as error:
                raise self.failed(entry.name, error) from error
        for path in sorted(self.view.metadata, key=len, reverse=True):
            try:
                self.finish_directory(path, self.view.metadata[path])
            except OSError as error:
                raise self.failed(path, error) from error

    def failed(self, name: bytes, error: OSError) -> Exception:
        if error.errno in _HOSTILE:
            return self.bad(name, _HOSTILE[error.errno])
        return KernelError(f"{self.what}: unpack", name, error)

    def bad(self, name: bytes, why: str) -> InvalidError:
        return InvalidError(f"{self.what}: entry {quote(name[:300])}: {why}")

    def place(self, entry: tar.Entry) -> None:
        if self.ids is not None and max(entry.uid, entry.gid) >= self.ids:
            self.map_owner(entry, self.ids)
        path, name = self.split(entry.name)
        if not name:
            self.place_root(entry)
            return
        if name.startswith(WHITEOUT):
            self.place_whiteout(entry, path, name)
            return
        here = self.view.parent(path)
        match entry.type:
            case tar.FILE:
                self.place_file(entry, here, name)
            case tar.DIRECTORY:
                self.place_directory(entry, here, name)
            case tar.SYMLINK:
                self.place_symlink(entry, here, name)
            case tar.HARDLINK:
                self.place_hard_link(entry, here, name)
            case _:
                self.place_node(entry, here, name)

    def map_owner(self, entry: tar.Entry, ids: int) -> None:
        if ids > 1:
            owner = f"{entry.uid}:{entry.gid}"
            raise self.bad(
                entry.name, f"belongs to {owner}, only {ids} ids are mapped (/etc/subuid)"
            )
        entry.uid = entry.gid = 0
        self.done.skipped["entries now belong to root (no subordinate ids)"] += 1

    def split(self, raw: bytes) -> tuple[bytes, bytes]:
        """Return parent path and last component of an entry's name; ("", "") is the root."""
        if len(raw) > PATH_MAX:
            raise self.bad(raw, "name is too long")
        parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
        if not parts:
            return b"", b""
        if b".." in parts:
            raise self.bad(raw, 'name holds ".."')
        name = parts.pop()
        if len(name) > NAME_MAX:
            raise self.bad(raw, "name is too long")
        if any(part.startswith(WHITEOUT) for part in parts):
            raise self.bad(raw, "lies below a whiteout")
        return b"/".join(parts), name

    def place_root(self, entry: tar.Entry) -> None:
        if entry.type != tar.DIRECTORY:
            raise self.bad(entry.name, "the root of a layer must be a directory")
        self.view.metadata[b""] = _metadata(entry)

    def place_file(self, entry: tar.Entry, here: Directory, name: bytes) -> None:
        dir_fd = self.view.fd(here)
        try:
            fd = os.open(name, attributes.CREATE, 0o600, dir_fd=dir_fd)
        except FileExistsError:
            self.clear(here, name)
            fd = os.open(name, attributes.CREATE, 0o600, dir_fd=self.view.fd(here))
        try:
            self.view.placed(here, name)
            if entry.extents is None:
                for piece in self.reader.data():
                    trees.write_all(fd, piece)
            else:
                self.write_sparse(fd, entry)
            # Writing and chown drop set-user-ID bits and capabilities: owner, mode, attributes,
            # times.
            attributes.apply(fd, _metadata(entry), self.done.skipped)
        finally:
            os.close(fd)
        self.done.size += entry.real_size

    def write_sparse(self, fd: int, entry: tar.Entry) -> None:
        extents = iter(entry.extents or ())
        left = 0
        for piece in self.reader.data():
            while piece:
                if not left:
                    offset, left = next(extents)
                    os.lseek(fd, offset, os.SEEK_SET)
                    continue
                taken = piece[:left]
                trees.write_all(fd, taken)
                left -= len(taken)
                piece = piece[len(taken) :]
        os.ftruncate(fd, entry.real_size)

    def place_directory(self, entry: tar.Entry, here: Directory, name: bytes) -> None:
        dir_fd = self.view.fd(here)
        hidden = False
        try:
            os.mkdir(name, 0o700, dir_fd=dir_fd)
        except FileExistsError:
            status = self.view.upper_status(here, name)
            if status is None or not stat.S_ISDIR(status.st_mode):
                hidden = status is not None and is_whiteout(status)
                self.clear(here, name)
                os.mkdir(name, 0o700, dir_fd=self.view.fd(here))
        self.view.unlinked(here, name)
        directory = self.view.enter(here, name)
        if hidden:
            self.view.set_opaque(directory)
        self.view.metadata[directory.path] = _metadata(entry)

    def place_symlink(self, entry: tar.Entry, here: Directory, name: bytes) -> None:
        if not 0 < len(entry.link) <= PATH_MAX:
            raise self.bad(entry.name, "symlink target is empty or too long")
        try:
            os.symlink(entry.link, name, dir_fd=self.view.fd(here))
        except FileExistsError:
            self.clear(here, name)
            os.symlink(entry.link, name, dir_fd=self.view.fd(here))
        self.view.placed(here, name)
        dir_fd = self.view.fd(here)
        os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=dir_fd, follow_symlinks=False)

    def place_hard_link(self, entry: tar.Entry, here: Directory, name: bytes) -> None:
        target_path, target = self.split(entry.link)
        if not target or target.startswith(WHITEOUT):
            raise self.bad(entry.name, "hard link to the root or to a whiteout")
        there = self.view.find(target_path)
        found = self.view.status(there, target) if there else None
        if there is None or found is None:
            raise self.bad(entry.name, f"hard link to {quote(entry.link)}, which does not exist")
        if stat.S_ISDIR(found[0].st_mode) or child_path(there, target) == child_path(here, name):
            raise self.bad(entry.name, "hard link to a directory or to itself")
        if found[1] >= 0:
            there = self.view.parent(there.path)
            self.copy_up(there, target, found[0], found[1])
        # A target that is a symlink is linked itself; nothing is changed through the new name.
        self.link(there, target, here, name)
        self.view.placed(here, name)

    def link(self, there: Directory, target: bytes, here: Directory, name: bytes) -> None:
        for _ in range(2):
            source = os.dup(self.view.fd(there))
            try:
                os.link(
                    target,
                    name,
                    src_dir_fd=source,
                    dst_dir_fd=self.view.fd(here),
                    follow_symlinks=False,
                )
                return
            except FileExistsError:
                self.clear(here, name)
            finally:
                os.close(source)

    def copy_up(self, here: Directory, name: bytes, status: os.stat_result, layer: int) -> None:
        """Bring a file of a lower layer into this one, as overlay does before it links it."""
        lower_fd = self.view.lower_fd(layer)
        path = child_path(here, name)
        dir_fd = self.view.fd(here)
        if stat.S_ISREG(status.st_mode):
            attributes.copy_file(path, lower_fd, name, dir_fd)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(path, dir_fd=lower_fd), name, dir_fd=dir_fd)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=dir_fd)
        if not stat.S_ISREG(status.st_mode):
            os.chown(name, status.st_uid, status.st_gid, dir_fd=dir_fd, follow_symlinks=False)
        self.view.placed(here, name)

    def place_node(self, entry: tar.Entry, here: Directory, name: bytes) -> None:
        kind = {tar.FIFO: stat.S_IFIFO, tar.CHARACTER: stat.S_IFCHR}.get(entry.type, stat.S_IFBLK)
        device = os.makedev(entry.major, entry.minor)
        if entry.type == tar.CHARACTER and device == 0:
            # Some tars are made of an overlay's own upper directory.
            self.hide(here, name)
            return
        self.clear(here, name)
        dir_fd = self.view.fd(here)
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=dir_fd)
        except PermissionError:
            self.done.skipped["device nodes left out (not permitted)"] += 1
            return
        self.view.placed(here, name)
        os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=dir_fd)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)

    def place_whiteout(self, entry: tar.Entry, path: bytes, name: bytes) -> None:
        hidden = name[len(WHITEOUT) :]
        if name == OPAQUE:
            self.hide_all(path)
        elif hidden.startswith(WHITEOUT):
            # AUFS bookkeeping (.wh..wh.plnk, .wh..wh.aufs …): no content of the image.
            self.done.skipped["AUFS bookkeeping entries left out"] += 1
        elif hidden in (b"", b".", b".."):
            raise self.bad(entry.name, "malformed whiteout")
        else:
            # Without a directory there is nothing to hide, and none is made for it.
            here = self.view.find(path)
            if here is not None:
                self.hide(here, hidden)

    def hide_all(self, path: bytes) -> None:
        """Hide whatever the lower layers have in the directory `path`."""
        here = self.view.find(path)
        if here is None or not here.lowers:
            return
        if here is not self.view.root:
            self.view.set_opaque(self.view.parent(path))
            return
        # Overlay does not look for the attribute on the root of a layer.
        for name in self.view.lower_names(here):
            self.hide(here, name)

    def hide(self, here: Directory, name: bytes) -> None:
        """Hide what the lower layers have at `name`."""
        if self.view.lower_status(here, name) is None:
            return
        here = self.view.parent(here.path)
        status = self.view.upper_status(here, name)
        if status is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self.view.fd(here))
            self.view.placed(here, name)
        elif stat.S_ISDIR(status.st_mode):
            self.view.set_opaque(self.view.enter(here, name))

    def clear(self, here: Directory, name: bytes) -> None:
        """Remove what this layer has put at `name`, so that something else can take its place."""
        trees.remove(name, dir_fd=self.view.fd(here))
        self.view.removed(here, name)

    def finish_directory(self, path: bytes, metadata: Metadata) -> None:
        directory = self.view.find(path)
        if directory is None:
            raise self.bad(path, "directory is gone")
        attributes.apply(self.view.fd(directory), metadata, self.done.skipped)


def _metadata(entry: tar.Entry) -> Metadata:
    return Metadata(entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.xattrs)
