"""How a snapshot comes and goes: staged aside, committed by rename, swept when nothing needs it.

Cold half of the snapshotter. Two loaders of one layer each unpack into a stage of their own; the
first rename wins and the other is thrown away, so neither waits.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontain import trees
from pycontain.errors import KernelError
from pycontain.rootfs.overlay import SHORT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from pycontain.rootfs.snapshotter import Snapshotter

_PREFIX = ".tmp-"


class Stages:
    """The snapshots directory of one data root, for those who write it."""

    def __init__(self, snapshots: Snapshotter) -> None:
        self.snapshots = snapshots
        self.path = f"{snapshots.root}/snapshots"

    def prepare(self) -> None:
        """Make the directories; only their owner may enter, since layers hold setuid programs."""
        for path in (self.path, f"{self.path}/l"):
            trees.make_directories(path)

    def has(self, chain_id: str) -> bool:
        """Tell whether the layer is unpacked."""
        return os.path.isdir(self.snapshots.diff(chain_id))

    def size(self, chain_id: str) -> int:
        """Return the bytes of the files of an unpacked layer, as counted when it was unpacked."""
        path = self.snapshots.diff(chain_id).removesuffix("diff") + "size"
        return int(trees.read_file(path, 64))

    @contextmanager
    def stage(self) -> Iterator[tuple[str, Callable[[str, int], None]]]:
        """Give a fresh directory and the function that commits it: (chain ID, bytes of its files).

        What is not committed is removed at the end.
        """
        stage = f"{self.path}/{_PREFIX}{os.urandom(8).hex()}"
        try:
            os.makedirs(f"{stage}/diff", 0o700)
        except OSError as error:
            raise KernelError("make directory", stage, error) from error
        try:
            yield f"{stage}/diff", lambda chain_id, size: self._commit(stage, chain_id, size)
        finally:
            trees.remove(stage)

    def _commit(self, stage: str, chain_id: str, size: int) -> None:
        trees.write_atomic(f"{stage}/size", str(size).encode(), sync=False)
        digits = chain_id.removeprefix("sha256:")
        try:
            self._link(digits)
            os.rename(stage, f"{self.path}/{digits}")
        except OSError as error:
            # Another loader was first: its copy is as good as ours.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise KernelError("commit snapshot", digits, error) from error

    def _link(self, digits: str) -> None:
        try:
            os.symlink(f"../{digits}/diff", f"{self.path}/l/{digits[:SHORT]}")
        except FileExistsError:
            return

    def sweep(self, live: Collection[str]) -> None:
        """Remove every snapshot whose chain ID is not in `live`, and stages left by a crash.

        The caller holds the store's lock exclusively, so nobody is unpacking.
        """
        for name in _listing(self.path):
            known = len(name) == 64 and "sha256:" + name in live
            if not known and (_PREFIX in name or len(name) == 64):
                self._discard(name)
        for name in _listing(f"{self.path}/l"):
            if not os.path.isdir(f"{self.path}/l/{name}"):
                trees.remove(f"{self.path}/l/{name}")

    def _discard(self, name: str) -> None:
        # Renamed first: a snapshot that is half removed must not look whole after a crash.
        aside = f"{self.path}/{_PREFIX}{os.urandom(8).hex()}"
        os.rename(f"{self.path}/{name}", aside)
        trees.remove(aside)


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
