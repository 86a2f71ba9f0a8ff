"""An existing container, ready to run again: files as it left them, Spec as it was made.

Only what belongs to the moment is looked up anew: the namespaces of other containers it shares.
"""

from __future__ import annotations

import posix
import time

from pycontain.engine import removal
from pycontain.engine.draft import Draft
from pycontain.errors import ConflictError, NotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.engine import Engine
    from pycontain.engine.record import Record
    from pycontain.engine.store import Lock
    from pycontain.oci.runtime import Spec

LOCK_WAIT_S = 10.0
NAMESPACE_FILES = {"network": "net"}
STOPPED = "stopped"
"""A file in the container's directory: somebody wanted it to end, no policy starts it again."""


def redraft(engine: Engine, record: Record, lock: Lock | None = None) -> Draft:
    """Return a container that does not run as a Draft; the caller becomes responsible for it.

    `lock` is handed in by a process that is responsible already. Raises ConflictError when the
    container runs.
    """
    if lock is None:
        lock = _lock(engine, record)
        lock.write(record.name)
    try:
        if not engine.store.exists(record.id):
            raise NotFoundError(f"container {record.name}: not found")
        removal.stop_runtime(engine.store, record.id, record)
        directory = engine.store.directory(record.id)
        spec: Spec = engine.store.config(record.id)  # type: ignore[assignment]
        _join_again(engine, record, spec)
        wanted_end(directory, clear=True)
        if record.runtime or not record.ran:
            # From here on it is our own runtime's.
            record.runtime, record.ran = "", True
            engine.store.save(record)
    except BaseException:
        lock.release()
        raise
    return Draft(record, directory, lock, record.rootfs_mounts, spec, {})


def _lock(engine: Engine, record: Record) -> Lock:
    """Return the lock of a container that does not run; somebody may be starting it just now."""
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        if engine.status(record) in ("running", "paused"):
            raise ConflictError(f"container {record.name} is running")
        try:
            return engine.store.lock_now(record.id)
        except ConflictError:
            if time.monotonic() > end:
                raise
        time.sleep(0.01)


def wanted_end(directory: str, *, clear: bool = False) -> bool:
    """Return whether somebody asked the container to end; `clear` forgets it."""
    path = f"{directory}/{STOPPED}"
    try:
        if clear:
            posix.unlink(path)
        else:
            posix.stat(path)
    except FileNotFoundError:
        return False
    return True


def _join_again(engine: Engine, record: Record, spec: Spec) -> None:
    for kind, other in record.joins.items():
        _, pid = engine.maker.running(other)
        for space in spec["linux"]["namespaces"]:
            if space["type"] == kind:
                space["path"] = f"/proc/{pid}/ns/{NAMESPACE_FILES.get(kind, kind)}"
