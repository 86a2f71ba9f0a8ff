"""`--userns` of root: which ids of the host a container's user namespace gets, and what they own.

    DATA/containers/ID/userns   "UID GID SIZE": the range this container has

A range belongs to a container as long as that exists, so that one that is started again finds its
files; ranges chosen here overlap neither each other nor what /etc/subuid grants to anyone else.
Sources: subuid(5), user_namespaces(7), podman-run(1) "--userns". Cold: nobody else comes here.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pycontain import trees
from pycontain.errors import KernelError, UnsupportedError, UsageError, quote
from pycontain.runtime.mappedroot import host_id

if TYPE_CHECKING:
    from typing import Any

    from pycontain.engine.store import Store
    from pycontain.oci.runtime import IdMapping
    from pycontain.spec.host import Host

SIZE = 65536
OWNER = "containers"
"""Whose entry in /etc/subuid and /etc/subgid serves root's containers, as podman has it."""
FIRST, LAST = 0x1000_0000, 0x7000_0000
"""Where ranges are computed: above what distributions hand out (systemd's UIDS-GIDS.md)."""
_ID_END = (1 << 32) - 1
_FILE = "userns"


@dataclass(frozen=True)
class Range:
    """So many ids of the host, from `uid` and from `gid` on."""

    uid: int
    gid: int
    size: int = SIZE

    def overlaps(self, other: Range) -> bool:
        return _meet(self.uid, self.size, other.uid, other.size) or _meet(
            self.gid, self.size, other.gid, other.size
        )


def _meet(start: int, size: int, other: int, other_size: int) -> bool:
    return start < other + other_size and other < start + size


def apply(store: Store, identity: str, mode: str, host: Host) -> None:
    """Give the container a range of ids and let `host` say so. Raises UsageError."""
    _check(mode, host)
    chosen = claim(store, identity, mode)
    who = host.identity
    if max([who.uid, who.gid, *who.groups]) >= chosen.size:
        raise UsageError(
            f"--userns {mode}: user {who.uid}:{who.gid} is outside of its {chosen.size} ids"
        )
    host.namespaces = {"user": "", **host.namespaces}
    host.uid_maps = [{"containerID": 0, "hostID": chosen.uid, "size": chosen.size}]
    host.gid_maps = [{"containerID": 0, "hostID": chosen.gid, "size": chosen.size}]


def _check(mode: str, host: Host) -> None:
    first = trees.read_file("/proc/self/uid_map", 4096).split()
    if first[:3] != [b"0", b"0", str(_ID_END).encode()]:
        raise UnsupportedError(f"--userns {mode}: this process lives in a user namespace already")
    for kind, path in host.namespaces.items():
        if path:
            raise UsageError(
                f"--userns {mode}: the {kind} namespace to join belongs to another user namespace",
                hint=f"leave --{kind} or --userns out",
            )


def claim(store: Store, identity: str, mode: str) -> Range:
    """Choose a range and write it down in the container's directory."""
    asked = explicit(mode)
    guard = os.open(store.root + "/containers", trees.DIRECTORY)
    try:
        # Between the look at the others and the note of one's own nobody else may choose.
        fcntl.flock(guard, fcntl.LOCK_EX)
        chosen = asked or free(taken(store), identity)
        text = f"{chosen.uid} {chosen.gid} {chosen.size}\n"
        path = f"{store.directory(identity)}/{_FILE}"
        trees.write_atomic(path, text.encode(), sync=False)
    except OSError as error:
        raise KernelError("claim a range of ids", store.root, error) from None
    finally:
        os.close(guard)
    return chosen


def explicit(mode: str) -> Range | None:
    """Return the range of UID:GID:SIZE, None for a word that leaves the choice to us."""
    if mode in ("auto", "private"):
        return None
    if mode.partition(":")[0] in ("keep-id", "nomap"):
        raise UsageError(f"--userns {mode} is for ordinary users", hint="root has --userns auto")
    fields = mode.split(":")
    if len(fields) != 3 or not all(word.isascii() and word.isdigit() for word in fields):
        raise UsageError(
            f"--userns {quote(mode)}: expected host, auto, private, keep-id, nomap or UID:GID:SIZE"
        )
    uid, gid, size = (int(word[:20]) for word in fields)
    if not size or max(uid, gid) + size > _ID_END:
        raise UsageError(f"--userns {quote(mode)}: ids go from 0 to {_ID_END - 1}")
    return Range(uid, gid, size)


def taken(store: Store) -> list[Range]:
    """Return the ranges of the containers there are."""
    found = []
    for identity in store.ids():
        try:
            words = trees.read_file(f"{store.directory(identity)}/{_FILE}", 256).split()
            found.append(Range(*map(int, words)))
        except (OSError, ValueError, TypeError):
            # Most have none.
            continue
    return found


def free(used: list[Range], identity: str) -> Range:
    """Return a range nobody has: of the entry for `containers`, else a computed one."""
    uids, gids = subordinate("/etc/subuid"), subordinate("/etc/subgid")
    for uid, gid in zip(_slots(uids), _slots(gids), strict=False):
        chosen = Range(uid, gid)
        if not any(chosen.overlaps(other) for other in used):
            return chosen
    granted = [Range(start, start, count) for _, start, count in (*uids, *gids)]
    slots = (LAST - FIRST) // SIZE
    # Begin somewhere: the containers of another data root are not seen from here.
    begin = int(identity[:8], 16)
    for step in range(slots):
        start = FIRST + (begin + step) % slots * SIZE
        chosen = Range(start, start)
        if not any(chosen.overlaps(other) for other in (*used, *granted)):
            return chosen
    raise UnsupportedError("--userns auto: every range of ids is taken")


def subordinate(path: str) -> list[tuple[str, int, int]]:
    """Return (owner, first id, how many) of each line of /etc/subuid or /etc/subgid."""
    try:
        text = trees.read_file(path, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return []
    rows = [line.split(":") for line in text.split("\n")]
    return [
        (row[0], int(row[1]), int(row[2]))
        for row in rows
        if len(row) == 3 and row[1].isdigit() and row[2].strip().isdigit()
    ]


def _slots(rows: list[tuple[str, int, int]]) -> list[int]:
    return [
        start + at
        for owner, start, count in rows
        if owner == OWNER
        for at in range(0, count - SIZE + 1, SIZE)
    ]


def own_files(files: list[tuple[str, str]], host: Host) -> None:
    """Give the files made for the container to its root."""
    for _, source in files:
        _give(source, host)


def own_volumes(
    data_root: str, mounts: list[tuple[Any, str]], filled: list[tuple[str, str]], host: Host
) -> None:
    """Give new volumes to the container's root, with the image's files in them.

    A volume that somebody wrote to, and whatever the user binds, stays as it is.
    """
    fresh = {directory for directory, _ in filled}
    for directory in fresh:
        _shift(directory, host)
    for mount, _ in mounts:
        source = mount.get("source", "")
        if not source.startswith(data_root + "/volumes/") or source in fresh:
            continue
        if not os.listdir(source) and os.stat(source).st_uid == 0:
            _give(source, host)


def _give(path: str, host: Host) -> None:
    try:
        os.chown(path, host_id(host.uid_maps, 0), host_id(host.gid_maps, 0))
    except OSError as error:
        raise KernelError("give to the container's root", path, error) from None


def _shift(top: str, host: Host) -> None:
    """Map the ids of a tree that nobody else sees yet."""
    for path, _, files in os.walk(top):
        for name in [path, *(f"{path}/{file}" for file in files)]:
            status = os.lstat(name)
            uid, gid = _mapped(host.uid_maps, status.st_uid), _mapped(host.gid_maps, status.st_gid)
            os.chown(name, uid, gid, follow_symlinks=False)
            if status.st_mode & 0o6000 and not os.path.islink(name):
                os.chmod(name, status.st_mode & 0o7777)


def _mapped(rows: list[IdMapping], inside: int) -> int:
    try:
        return host_id(rows, inside)
    except UnsupportedError:
        return -1


def map_layers(rootfs_mounts: list[dict[str, Any]], data_root: str, directory: str) -> None:
    """Note for the runtime where the layers of the overlay lie."""
    for mount in rootfs_mounts:
        mount["mapped"] = [data_root + "/snapshots", directory]
