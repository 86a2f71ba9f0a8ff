"""What is undone when a container ends, is removed, or was left behind by a process that died.

`remove` and `reconcile` meet every state a crash can leave: a runtime state without record, a
record without runtime state, a cgroup that nobody remembers, half a directory. Each step takes what
is missing for done, so it may be repeated.
"""

from __future__ import annotations

import posix
import time
from errno import EINVAL, ENOENT, EPERM

from pycontain import trees
from pycontain.engine.record import Exit
from pycontain.errors import (
    InvalidError,
    KernelError,
    NotFoundError,
    PycontainError,
    UnsupportedError,
)
from pycontain.rootfs.snapshotter import Snapshotter
from pycontain.runtime import container as containers
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.record import Record
    from pycontain.engine.store import Lock, Store

KILLED = 137
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8


def reconcile(store: Store) -> None:
    """Undo what processes that died left: called at the start of every command.

    A lock that nobody holds names a container without a responsible process. It is stopped (its
    output would go nowhere), and removed when it was half made or --rm; else its end is recorded.
    A container that cannot be cleared now is left for the next command.
    """
    for lock, identity, name in store.abandoned():
        try:
            clear(store, identity, name)
        except PycontainError:
            lock.release(keep_file=True)
            continue
        lock.release()


def reconcile_all(store: Store) -> None:
    """Undo what a host that went down left, whose locks are gone with it; reads every container.

    What was half made, and what ran with --rm, has no responsible process any more.
    """
    reconcile(store)
    for identity in store.ids():
        if store.is_locked(identity) or not _is_left_over(store, identity):
            continue
        lock = store.lock(identity)
        if lock is None:
            continue
        try:
            # Its maker may have finished, or begun, between the two looks.
            if _is_left_over(store, identity):
                clear(store, identity, "")
        except PycontainError:
            lock.release(keep_file=True)
            continue
        lock.release()


def _is_left_over(store: Store, identity: str) -> bool:
    try:
        record = store.load(identity)
    except NotFoundError:
        return True
    except InvalidError:
        return False
    return record.auto_remove and record.ran


def clear(store: Store, identity: str, name: str) -> None:
    """Undo what is left of a container that nobody else is responsible for."""
    record = None
    try:
        record = store.load(identity)
    except (NotFoundError, InvalidError):
        # Half made: there is nothing to keep.
        pass
    started = stop_runtime(store, identity, record)
    if record is None or record.auto_remove:
        remove_files(store, identity, record.name if record else name, record)
    elif started:
        end = Exit(KILLED, started, time.time())
        end.error = "the process responsible for the container died"
        store.save_exit(identity, end)


def stop_runtime(store: Store, identity: str, record: Record | None) -> float:
    """Kill what runs of a container and remove the runtime's state of it; return when it started.

    0 when the runtime knows nothing of it. `record` is None when it cannot be read.
    """
    if record is None:
        unmount(store.directory(identity))
    elif record.runtime:
        from pycontain.engine import foreign

        foreign.stop(store, record)
        return record.created if store.load_exit(identity) is None else 0.0
    try:
        found = containers.load(store.run_root, identity)
    except NotFoundError:
        return 0.0
    except PycontainError:
        # Killed between making the state directory and writing state.json, or it was damaged.
        stop_lost(store, identity, record)
        containers.delete_broken(store.run_root, identity)
        return 0.0
    started = found.state.created
    found.delete(force=True)
    return started


def unmount(directory: str) -> None:
    """Unmount the root file system of a container; one that is not mounted is no error."""
    target = directory + "/rootfs"
    while True:
        try:
            kernel.umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (EINVAL, ENOENT, EPERM):
                return
            raise KernelError("unmount rootfs", target, error, call="umount2") from None


def stop_lost(store: Store, identity: str, record: Record | None) -> None:
    """Kill what runs of a container whose state is lost, by its cgroup, and remove that.

    Where it may have none (an ordinary user, `disabled`) by its root file system.

    Whoever is responsible for the container then sees its end.
    """
    _kill_cgroup(store, identity, record)
    if posix.geteuid() != 0 or record is None or record.cgroup_manager == "disabled":
        from pycontain.engine import lost

        lost.kill(identity)


def _kill_cgroup(store: Store, identity: str, record: Record | None) -> None:
    """Kill and remove the cgroup of a container; it may not exist.

    It is named by the runtime's config.json, by the container's own, or by the default. Its manager
    is the record's, or what the name's form says.
    """
    from pycontain.cgroup import manager

    wanted = ""
    for path in (f"{store.run_root}/{identity}/config.json",
                 f"{store.directory(identity)}/config.json"):  # fmt: skip
        if found := _cgroups_path(path):
            wanted = found
            break
    kind = record.cgroup_manager if record else "systemd" if ":" in wanted else "cgroupfs"
    try:
        cgroup = manager.open(kind, wanted, id=identity)
    except (InvalidError, UnsupportedError):
        # Nothing was made under such a name, or systemd is not here any more.
        return
    # `remove` leaves a cgroup alone that it did not make; this one is ours by its name.
    cgroup.owned = True
    cgroup.kill()
    cgroup.remove()


def _cgroups_path(path: str) -> str:
    """Return linux.cgroupsPath of a config.json, "" when it cannot be read."""
    from pycontain.oci import codec

    try:
        linux = codec.load_object(trees.read_file(path, 1 << 24), path).get("linux")
    except (OSError, InvalidError):
        return ""
    found = linux.get("cgroupsPath", "") if isinstance(linux, dict) else ""
    return found if isinstance(found, str) else ""


def remove_files(
    store: Store, identity: str, name: str, record: Record | None, *, volumes: bool = True
) -> None:
    """Remove a stopped container's directory, anonymous volumes and name; the name goes last."""
    directory = store.directory(identity)
    try:
        Snapshotter(store.root).remove(directory)
        trees.remove(directory)
    except OSError as error:
        raise KernelError("remove container directory", directory, error) from None
    if record and record.volumes and volumes:
        from pycontain.engine.volumes import remove_anonymous

        remove_anonymous(store, record.volumes)
    if not store.release_name(name, identity):
        # It was renamed meanwhile.
        store.release_names(identity)


def remove(store: Store, record: Record, lock: Lock, *, volumes: bool) -> None:
    """Remove a stopped container; `lock` is given up with it."""
    if not stop_runtime(store, record.id, record) and record.ran:
        # The state may have been deleted under it.
        stop_lost(store, record.id, record)
    remove_files(store, record.id, record.name, record, volumes=volumes)
    lock.release()


def remove_damaged(store: Store, identity: str, *, wait: float) -> None:
    """Kill and remove a container whose record cannot be read; its volumes stay."""
    # The monitor gives the lock up when its container ends.
    stop_runtime(store, identity, None)
    stop_lost(store, identity, None)
    lock = store.lock_now(identity, wait=wait)
    stop_runtime(store, identity, None)
    remove_files(store, identity, "", None)
    lock.release()
