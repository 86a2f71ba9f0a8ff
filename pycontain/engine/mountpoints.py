"""The mount points an image lacks, as one more lower layer made once for the image.

A container gets /proc, /sys, /dev and three files below /etc mounted. Where an image has nothing
at these names, each start would have to make them in the container's own layer: six inodes and a
copy of /etc, a millisecond on ext4, and as much again to remove them. What the image does have, of
whatever kind, is left alone: mounting on it is the runtime's business. A link that leads nowhere is
followed, and what it leads to is made: /etc/resolv.conf may be one into /run.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

from pycontain.engine.lookup import Layers

if TYPE_CHECKING:
    from pycontain.rootfs.snapshotter import Snapshotter

DIRECTORIES = ("dev", "proc", "sys")
FILES = ("hostname", "hosts", "resolv.conf")


def make(snapshots: Snapshotter, chain_ids: list[str]) -> None:
    """Make the layer of mount points of the image that `chain_ids` are, unless it is there.

    It is complete or absent: it appears by rename.
    """
    target = snapshots.mount_points(chain_ids[-1])
    if os.path.exists(target):
        return
    layers = Layers([snapshots.diff(chain_id) for chain_id in reversed(chain_ids)])
    stage = tempfile.mkdtemp(prefix=".tmp-", dir=f"{snapshots.root}/snapshots")
    try:
        _fill(stage, layers)
        os.rename(stage, target)
    except FileExistsError:
        shutil.rmtree(stage)
    except BaseException:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    finally:
        layers.close()


def _fill(stage: str, layers: Layers) -> None:
    top = layers.find("/")
    assert top is not None
    os.chmod(stage, stat.S_IMODE(layers.status(top).st_mode))
    for name in DIRECTORIES:
        if layers.child(top, name) is None:
            _directory(f"{stage}/{name}", None)
    etc = layers.child(top, "etc")
    status = layers.status(etc) if etc else None
    if status is not None and not stat.S_ISDIR(status.st_mode):
        return
    for name in FILES:
        lost = layers.lost(f"/etc/{name}") if etc else ""
        if lost:
            _make_file(stage, layers, lost)
    missing = [name for name in FILES if etc is None or layers.child(etc, name) is None]
    if not missing:
        return
    os.makedirs(f"{stage}/etc", exist_ok=True)
    os.chmod(f"{stage}/etc", 0o755)
    for name in missing:
        with open(f"{stage}/etc/{name}", "xb") as file:
            os.fchmod(file.fileno(), 0o644)
    if status is not None:
        # The topmost directory's attributes are the ones that show.
        _directory(f"{stage}/etc", status)


def _make_file(stage: str, layers: Layers, path: str) -> None:
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts))]
    for directory in above:
        if not os.path.isdir(f"{stage}/{directory}"):
            _directory(f"{stage}/{directory}", None)
    with open(f"{stage}/{path}", "wb") as file:
        os.fchmod(file.fileno(), 0o644)
    for directory in reversed(above):
        place = layers.find(directory)
        if place is not None:
            _directory(f"{stage}/{directory}", layers.status(place))


def _directory(path: str, like: os.stat_result | None) -> None:
    if like is None:
        os.mkdir(path)
        os.chmod(path, 0o755)
        return
    os.chown(path, like.st_uid, like.st_gid)
    os.chmod(path, stat.S_IMODE(like.st_mode))
    os.utime(path, ns=(like.st_mtime_ns, like.st_mtime_ns))
