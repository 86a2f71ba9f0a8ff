"""What is remembered of a container, and what its status is now.

RUN_ROOT/ID/ holds state.json (small, read by every verb), config.json (the Spec as it was at
create, read by exec only), exec.fifo (there while the container waits for `start`) and intelrdt
(there when it has a resource control group, see `rdt`). Owns these files, the rule for ids and the
table of allowed moves. The status is never stored: it is derived
from the init process (pid and start time, so a reused pid is no container), the fifo and the
freezer.
"""

from __future__ import annotations

import posix
import time
from errno import EEXIST, EISDIR, ELOOP, ENOENT, ESRCH

from pycontain.errors import ConflictError, InvalidError, KernelError, NotFoundError, UsageError
from pycontain.oci import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"

MOVES: dict[str, tuple[str, ...]] = {
    "start": (CREATED,),
    "kill": (CREATED, RUNNING, PAUSED),
    "delete": (CREATED, STOPPED),
    "exec": (CREATED, RUNNING),
    "pause": (CREATED, RUNNING),
    "resume": (PAUSED,),
    "update": (CREATED, RUNNING, PAUSED),
}
"""Verb -> the statuses it is allowed in; runtime.md "Operations", and runc where it is silent."""

ID_LENGTH = 1024
_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-")

STATE_FILE = "/state.json"
CONFIG_FILE = "/config.json"
FIFO = "/exec.fifo"
RDT = "/intelrdt"


class State:
    """One container as state.json holds it.

    pid 0: not made yet; `maker` and `maker_start` are then the process that makes it. `created` is
    seconds since the epoch. `cgroup` is what `Cgroup.paths` gives. `hooks` holds the
    stages that run after create.
    """

    __slots__ = (
        "annotations", "bundle", "cgroup", "created", "hooks", "id", "maker", "maker_start",
        "owner", "pid", "rootfs", "start_time", "version",
    )  # fmt: skip

    def __init__(self, id: str, bundle: str, rootfs: str, version: str) -> None:
        self.id = id
        self.bundle = bundle
        self.rootfs = rootfs
        self.version = version
        self.annotations: dict[str, str] = {}
        self.cgroup: dict[str, Any] = {}
        self.hooks: dict[str, Any] = {}
        self.pid = 0
        self.start_time = 0
        self.maker = posix.getpid()
        self.maker_start = process_start(self.maker)
        self.owner = posix.geteuid()
        self.created = time.time()


def check_id(id: str) -> str:
    """Return `id` when it may name a container (runc's rule), else raise UsageError."""
    if not id:
        raise UsageError("container id cannot be empty")
    if len(id) > ID_LENGTH or not _ID_LETTERS.issuperset(id) or id in (".", ".."):
        shown = id if len(id) < 100 else id[:100] + "..."
        raise UsageError(
            f"invalid container ID format: {shown!r}",
            hint="letters, digits and _ + . - only",
        )
    return id


def allow(verb: str, id: str, status: str) -> None:
    """Raise ConflictError when a container of `status` does not take `verb`."""
    if status in MOVES[verb]:
        return
    if verb == "delete":
        raise ConflictError(f"cannot delete container {id} that is not stopped: {status}")
    if verb == "kill":
        raise ConflictError(f"container not running: {id} is {status}")
    raise ConflictError(f"cannot {verb} container {id} in the {status} state")


def claim(run_root: str, id: str) -> str:
    """Make the container's directory and return it; the id is taken from then on.

    Raises ConflictError when it is taken already.
    """
    home = f"{run_root}/{check_id(id)}"
    try:
        posix.mkdir(home, 0o711)
    except OSError as error:
        if error.errno == EEXIST:
            raise ConflictError(f"container with given ID already exists: {id}") from None
        if error.errno != ENOENT:
            raise KernelError("make state directory", home, error, call="mkdir") from None
        from pycontain import trees

        trees.make_directories(run_root)
        return claim(run_root, id)
    return home


def save(home: str, state: State) -> None:
    """Write state.json of the container whose directory is `home`, by rename."""
    document = {name: getattr(state, name) for name in State.__slots__}
    write_file(home + STATE_FILE, codec.dumps(document))


def load(run_root: str, id: str) -> State:
    """Return the state of container `id`; raises NotFoundError or InvalidError."""
    home = f"{run_root}/{check_id(id)}"
    try:
        data = read_file(home + STATE_FILE)
    except OSError as error:
        if error.errno == ENOENT and is_directory(home):
            raise InvalidError(
                f"container {id} is half made: no {home}{STATE_FILE}",
                hint="delete --force removes it",
            ) from None
        if error.errno == ENOENT:
            raise NotFoundError(f"container {id!r} does not exist") from None
        if error.errno in (EISDIR, ELOOP):
            raise InvalidError(f"{home}{STATE_FILE}: not a regular file") from None
        raise KernelError("read state", home + STATE_FILE, error) from None
    document = codec.load_object(data, home + STATE_FILE, lone_surrogates=True)
    state = State.__new__(State)
    try:
        for name in State.__slots__:
            setattr(state, name, document[name])
    except KeyError as error:
        raise InvalidError(f"{home}{STATE_FILE}: {error} is missing") from None
    return state


def ids(run_root: str) -> list[str]:
    """Return the ids under `run_root`, sorted; entries that cannot be a container are left out."""
    try:
        names = posix.listdir(run_root)
    except OSError as error:
        if error.errno == ENOENT:
            return []
        raise KernelError("list containers", run_root, error) from None
    return sorted(n for n in names if _ID_LETTERS.issuperset(n) and is_directory(f"{run_root}/{n}"))


def status(state: State, home: str, *, frozen: bool) -> str:
    """Return the container's status now; `frozen` is what its freezer says."""
    if not state.pid:
        alive = is_alive(state.maker, state.maker_start)
        return CREATING if alive else STOPPED
    if not is_alive(state.pid, state.start_time):
        return STOPPED
    if frozen:
        return PAUSED
    return CREATED if exists(home + FIFO) else RUNNING


def is_alive(pid: int, start_time: int) -> bool:
    """Return whether `pid` is still the process that started at `start_time`; a zombie is not."""
    letter, started = process_stat(pid)
    return letter not in "ZX" and started == start_time


def process_start(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot, 0 when it is gone."""
    return process_stat(pid)[1]


def process_stat(pid: int) -> tuple[str, int]:
    """Return state letter and start time of `pid` (proc_pid_stat(5), fields 3 and 22)."""
    try:
        data = read_file(f"/proc/{pid}/stat")
    except OSError as error:
        if error.errno in (ENOENT, ESRCH):
            return "X", 0
        raise KernelError("read process status", f"/proc/{pid}/stat", error) from None
    # The command name in field 2 may hold anything, ") Z 1" too: count from its last bracket.
    fields = data[data.rindex(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def document(state: State, now: str) -> Mapping[str, object]:
    """Return the state as the specification and hooks want it (runtime.md "State")."""
    found: dict[str, object] = {
        "ociVersion": state.version,
        "id": state.id,
        "pid": 0 if now == STOPPED else state.pid,
        "status": now,
        "bundle": state.bundle,
    }
    if state.annotations:
        found["annotations"] = state.annotations
    return found


def listing(state: State, now: str) -> dict[str, object]:
    """Return what `state` and `list --format json` print: the specification's fields and runc's."""
    return {
        **document(state, now),
        "rootfs": state.rootfs,
        "created": timestamp(state.created),
        "owner": user_name(state.owner),
    }


def timestamp(seconds: float) -> str:
    """Return RFC 3339 text in UTC with microseconds."""
    whole = int(seconds)
    parts = time.gmtime(whole)
    return (
        f"{parts[0]:04}-{parts[1]:02}-{parts[2]:02}T{parts[3]:02}:{parts[4]:02}:{parts[5]:02}"
        f".{int((seconds - whole) * 1e6):06}Z"
    )


def user_name(uid: int) -> str:
    """Return the host's name of `uid`, or its number."""
    try:
        lines = read_file("/etc/passwd").split(b"\n")
    except OSError:
        return str(uid)
    wanted = str(uid).encode()
    for line in lines:
        fields = line.split(b":")
        if len(fields) > 2 and fields[2] == wanted:
            return fields[0].decode("utf-8", "replace")
    return str(uid)


def read_file(path: str, limit: int = 1 << 24) -> bytes:
    """Return up to `limit` bytes of a file; raises OSError, at once for a fifo nobody writes."""
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        data = posix.read(fd, 65536)
        if len(data) < 65536:
            return data
        parts = [data]
        while data and limit > 0:
            data = posix.read(fd, 1 << 20)
            limit -= len(data)
            parts.append(data)
        return b"".join(parts)
    finally:
        posix.close(fd)


def write_file(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file under a temporary name and rename it into place; raises KernelError."""
    temporary = f"{path}.{posix.getpid()}"
    try:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
        fd = posix.open(temporary, flags, mode)
        try:
            while data:
                data = data[posix.write(fd, data) :]
        finally:
            posix.close(fd)
        posix.rename(temporary, path)
    except OSError as error:
        try:
            posix.unlink(temporary)
        except FileNotFoundError:
            pass
        raise KernelError("write", path, error) from None


def exists(path: str) -> bool:
    """Return whether there is something at `path`."""
    try:
        posix.lstat(path)
    except OSError:
        return False
    return True


def is_directory(path: str) -> bool:
    """Return whether `path` is a directory and no symbolic link."""
    try:
        return posix.lstat(path).st_mode & 0o170000 == 0o040000
    except OSError:
        return False
