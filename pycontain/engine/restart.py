"""An existing container, ready to run again: files as it left them, Spec as it was made.

Only what belongs to the moment is looked up anew: the namespaces of other containers it shares.
"""

from __future__ import annotations

import posix
import time

from pycontain import trees
from pycontain.engine import removal
from pycontain.engine.draft import Draft
from pycontain.errors import ConflictError, KernelError, NotFoundError
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.engine import Engine
    from pycontain.engine.record import Record
    from pycontain.engine.store import Lock
    from pycontain.oci.runtime import Spec

LOCK_WAIT_S = 10.0
ALIVE = ("running", "paused", "restarting")
"""The status of a container that needs no start, and may not be removed without force."""
NAMESPACE_FILES = {"network": "net"}
STOPPED = "stopped"
"""A file in the container's directory: somebody wanted it to end, no policy starts it again."""
WAKE = "wake"
"""A fifo in the container's directory from an end to the restart; its monitor waits at it."""
FIRST_DELAY_S = 0.1
STEADY_S = 10.0
"""A container that ran this long did start: the delay before a restart begins anew."""
LONGEST_DELAY_S = 60.0


def delay_after(quick: int, lived_s: float) -> tuple[float, int]:
    """Return the delay before a restart and how many short lives there were now, one after another.

    `quick` is how many there were before this life of `lived_s` seconds.
    """
    if lived_s > STEADY_S:
        return FIRST_DELAY_S, 0
    # 2.0 ** 1024 is an OverflowError.
    return min(FIRST_DELAY_S * 2.0 ** min(quick, 20), LONGEST_DELAY_S), quick + 1


def announce(directory: str) -> None:
    """Say that the container will be started again: its status is restarting until `forget`."""
    try:
        posix.mkfifo(f"{directory}/{WAKE}", 0o600)
    except OSError:
        # It is there already; or `rest` will not find it and say so.
        return


def forget(directory: str) -> None:
    """Undo `announce`: the container runs again, or stays down."""
    trees.remove(f"{directory}/{WAKE}")


def is_announced(directory: str) -> bool:
    """Return whether a container, whose monitor lives, waits to be started again."""
    try:
        posix.lstat(f"{directory}/{WAKE}")
    except OSError:
        return False
    return True


def rest(directory: str, seconds: float) -> bool:
    """Wait before a restart; return at once, and False, when the container is not wanted any more.

    `want_end` opens the fifo of `announce`: that wakes us.
    """
    flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC
    fd = posix.open(f"{directory}/{WAKE}", flags)
    try:
        if not wanted_end(directory):
            kernel.poll((fd,), int(seconds * 1000))
    finally:
        posix.close(fd)
    return not wanted_end(directory)


def want_end(directory: str) -> bool:
    """Tell the monitor that this end is wanted; return whether it was waiting to restart."""
    path = f"{directory}/{STOPPED}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC
    try:
        posix.close(posix.open(path, flags, 0o600))
    except FileNotFoundError:
        # Another command removed it meanwhile.
        return False
    except OSError as error:
        raise KernelError("write", path, error) from None
    try:
        wake = posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC
        posix.close(posix.open(f"{directory}/{WAKE}", wake))
    except OSError:
        # No fifo, or nobody reads it: it does not wait.
        return False
    return True


def redraft(engine: Engine, record: Record, lock: Lock | None = None) -> Draft:
    """Return a container that does not run as a Draft; the caller becomes responsible for it.

    `lock` is handed in by a process that is responsible already: it stays so when this raises, and
    a wish for the end that came meanwhile stays in force. Raises ConflictError when the container
    runs.
    """
    if lock is not None:
        return _redraft(engine, record, lock)
    lock = _lock(engine, record)
    try:
        lock.write(record.name)
        wanted_end(engine.store.directory(record.id), clear=True)
        return _redraft(engine, record, lock)
    except BaseException:
        lock.release()
        raise


def _redraft(engine: Engine, record: Record, lock: Lock) -> Draft:
    if not engine.store.exists(record.id):
        raise NotFoundError(f"container {record.name}: not found")
    removal.stop_runtime(engine.store, record.id, record)
    directory = engine.store.directory(record.id)
    spec: Spec = engine.store.config(record.id)  # type: ignore[assignment]
    _join_again(engine, record, spec)
    if record.runtime or not record.ran:
        # From here on it is our own runtime's.
        record.runtime, record.ran = "", True
        engine.store.save(record)
    return Draft(record, directory, lock, record.rootfs_mounts, spec, {})


def _lock(engine: Engine, record: Record) -> Lock:
    """Return the lock of a container that does not run; somebody may be starting it just now."""
    end = time.monotonic() + LOCK_WAIT_S
    while True:
        if engine.status(record) in ALIVE:
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
