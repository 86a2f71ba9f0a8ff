"""A rootfs by plain copy, where overlay is not to be had: slow, and said so.

Owns applying layer after layer to one directory: what overlay would show becomes what is there.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from pycontain import trees
from pycontain.errors import KernelError
from pycontain.rootfs import userns

if TYPE_CHECKING:
    from pycontain.rootfs.snapshotter import Snapshotter

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def prepare(
    snapshots: Snapshotter, container_dir: str, chain_ids: list[str]
) -> list[dict[str, Any]]:
    """Copy the layers into `container_dir`/rootfs; return the bind mount."""
    rootfs = f"{container_dir}/rootfs"
    snapshots.root_status(chain_ids)
    layers = [snapshots.diff(chain_id) for chain_id in chain_ids]
    if os.geteuid() == 0:
        merge(layers, rootfs)
    else:
        userns.run(merge, layers, rootfs)
    return [{"destination": "", "type": "bind", "source": rootfs, "options": ["bind"]}]


def merge(layers: list[str], target: str) -> None:
    """Make `target` what an overlay of `layers`, lowest first, would show. Raises KernelError."""
    try:
        os.mkdir(target, 0o700)
        for layer in layers:
            _Applied().directory(layer, target)
    except OSError as error:
        raise KernelError("copy layer to", error.filename or target, error) from error


class _Applied:
    """One layer being applied; `links` maps an inode seen with several names to its first copy."""

    def __init__(self) -> None:
        self.links: dict[int, str] = {}

    def directory(self, source: str, target: str) -> None:
        if _is_opaque(source):
            for name in os.listdir(target):
                trees.remove(f"{target}/{name}")
        with os.scandir(source) as entries:
            found = list(entries)
        for entry in found:
            self.entry(entry, f"{target}/{entry.name}")
        _copy_metadata(source, target)

    def entry(self, entry: os.DirEntry[str], target: str) -> None:
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if not _is_directory(target):
                trees.remove(target)
                os.mkdir(target, 0o700)
            self.directory(entry.path, target)
            return
        trees.remove(target)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            return
        if status.st_nlink > 1 and status.st_ino in self.links:
            os.link(self.links[status.st_ino], target, follow_symlinks=False)
            return
        self.links[status.st_ino] = target
        _copy_node(entry.path, target, status)


def _copy_node(source: str, target: str, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(status.st_mode):
        _copy_content(source, target, status.st_size)
    else:
        os.mknod(target, status.st_mode, status.st_rdev)
    _copy_metadata(source, target)


def _copy_content(source: str, target: str, size: int) -> None:
    with open(source, "rb") as reader, open(target, "xb") as writer:
        left = size
        while left:
            # In the kernel; shares the blocks where the file system can.
            done = os.copy_file_range(reader.fileno(), writer.fileno(), min(left, 1 << 30))
            if not done:
                break
            left -= done


def _copy_metadata(source: str, target: str) -> None:
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        os.chmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source, follow_symlinks=False):
        if name not in _OPAQUE:
            value = os.getxattr(source, name, follow_symlinks=False)
            os.setxattr(target, name, value, follow_symlinks=False)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(target, ns=times, follow_symlinks=False)


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _is_opaque(path: str) -> bool:
    names = os.listxattr(path)
    return any(name in names and os.getxattr(path, name) == b"y" for name in _OPAQUE)
