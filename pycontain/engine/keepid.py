"""`--userns keep-id` of an ordinary user: the caller has inside the ids it has outside.

The layers of an ordinary user lie on disk by the map in which that user is root (`rootfs.userns`),
and no ordinary user may make id-mapped mounts. So the container gets a copy of the image's files,
their owners moved from one map to the other. Source: podman-run(1) "--userns". Cold.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from pycontain.errors import KernelError, UnsupportedError, UsageError, quote
from pycontain.rootfs import copy, userns

if TYPE_CHECKING:
    from typing import Any

    from pycontain.rootfs.snapshotter import Snapshotter
    from pycontain.rootfs.userns import IdMap
    from pycontain.spec.host import Host
    from pycontain.spec.options import RunOptions

Move = tuple[int, int]
"""The caller's own id, and how many subordinate ids there are."""


def wanted(options: RunOptions) -> bool:
    """Return whether an ordinary user asks for it; raises for what such a user cannot have."""
    mode = options.userns
    if mode in ("", "host", "private"):
        # A user's container has a user namespace in any case.
        return False
    if mode == "keep-id":
        return True
    if mode == "nomap":
        raise UnsupportedError(
            "--userns nomap: not there yet", hint="--userns keep-id, or leave it out to be root"
        )
    hint = "an ordinary user has keep-id, or is root inside without --userns"
    raise UsageError(f"--userns {quote(mode)} is for root", hint=hint)


def prepare(
    snapshots: Snapshotter, container_dir: str, chain_ids: list[str]
) -> list[dict[str, Any]]:
    """Copy the layers to `container_dir`/rootfs with moved owners; return the bind mount."""
    uids, gids = _moves()
    mounts = copy.prepare(snapshots, container_dir, chain_ids)
    userns.run(move_owners, f"{container_dir}/rootfs", uids, gids)
    return mounts


def apply(host: Host) -> None:
    """Let `host` have the maps of keep-id, and its root the files made for the container."""
    maps = userns.id_maps()
    host.namespaces = {"user": "", **host.namespaces}
    rows = kept(maps.uids, os.getuid())
    host.uid_maps = [{"containerID": a, "hostID": b, "size": n} for a, b, n in rows]
    rows = kept(maps.gids, os.getgid())
    host.gid_maps = [{"containerID": a, "hostID": b, "size": n} for a, b, n in rows]
    host.delegated = False


def own_files(files: list[tuple[str, str]]) -> None:
    """Give the files made for the container to its root."""
    uids, gids = _moves()
    for _, source in files:
        userns.run(_move, source, uids, gids)


def _moves() -> tuple[Move, Move]:
    maps = userns.id_maps()
    uids = sum(count for _, _, count in maps.uids) - 1
    gids = sum(count for _, _, count in maps.gids) - 1
    if not maps.helpers or min(uids, gids) < 1:
        hint = "install uidmap and give this user ranges in /etc/subuid and /etc/subgid"
        raise UsageError("--userns keep-id needs subordinate ids", hint=hint)
    return (os.getuid(), uids), (os.getgid(), gids)


def kept(rows: list[IdMap], own: int) -> list[IdMap]:
    """Return the map with `own` in its own place, from one in which it is 0 and others follow."""
    (_, outside, _), *granted = rows
    found: list[IdMap] = []
    for inside, start, count in granted:
        first = inside - 1
        below = max(0, min(count, own - first))
        if below:
            found.append((first, start, below))
        if below < count:
            found.append((first + below + 1, start + below, count - below))
    return sorted([*found, (own, outside, 1)])


def moved(identity: int, move: Move) -> int:
    """Return the id, in the map with the user as root, that shows as `identity` with keep-id."""
    own, granted = move
    if identity == own:
        return 0
    there = identity + 1 if identity < own else identity
    return there if there <= granted else -1


def move_owners(top: str, uids: Move, gids: Move) -> None:
    """Move the owners of a tree; runs as root of the user namespace. Raises KernelError."""
    seen: set[int] = set()
    try:
        for path, _, _ in os.walk(top, topdown=False):
            for name in os.listdir(path):
                status = os.lstat(f"{path}/{name}")
                # A file of several names is moved once.
                if not stat.S_ISDIR(status.st_mode) and status.st_ino not in seen:
                    seen.add(status.st_ino)
                    _move(f"{path}/{name}", uids, gids)
            _move(path, uids, gids)
    except OSError as error:
        raise KernelError("move owners below", error.filename or top, error) from error


def _move(path: str, uids: Move, gids: Move) -> None:
    status = os.lstat(path)
    uid, gid = moved(status.st_uid, uids), moved(status.st_gid, gids)
    os.chown(path, uid, gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        # chown(2) takes the setuid and setgid bits away.
        os.chmod(path, stat.S_IMODE(status.st_mode))
