"""What stays with a detached container: its output to the log, its end to the record, its restarts.

`launch` starts init as a child of this process, its output in pipes (or a terminal). `stay` pumps
until init ends, in the static C monitor where it is built (45 kB, execs back into `resume` below)
and in this process otherwise. Then the end is recorded and the restart policy applied.
"""

from __future__ import annotations

import posix
import select
import sys
import time

from pycontain.engine import removal
from pycontain.engine.engine import Engine, Outcome, exit_of
from pycontain.engine.logs import Log, log_arguments
from pycontain.engine.record import Exit
from pycontain.engine.restart import announce, delay_after, forget, redraft, rest, wanted_end
from pycontain.engine.store import Lock
from pycontain.errors import PycontainError
from pycontain.runtime import container as containers
from pycontain.runtime.foreground import console_pair, reap, receive_console
from pycontain.runtime.launch import LaunchOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.draft import Draft
    from pycontain.engine.record import Record
    from pycontain.runtime.container import Container

HERE = __file__.rpartition("/")[0].rpartition("/")[0]
RESUME = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); "
    "from pycontain.engine.monitor import resume; resume(sys.argv[1:])"
)
_CHUNK = 65536


class Watch:
    """A running init and the ends of its streams: fd to "stdout" or "stderr"."""

    __slots__ = ("container", "keep_open", "pidfd", "streams")

    def __init__(
        self, container: Container, pidfd: int, streams: dict[int, str], keep_open: int
    ) -> None:
        self.container = container
        self.pidfd = pidfd
        self.streams = streams
        self.keep_open = keep_open


def launch(engine: Engine, draft: Draft, *, keep: bool) -> Watch:
    """Start the container with its output in pipes; `keep` it when that fails.

    Raises what the runtime raises; the container is abandoned then.
    """
    streams = Streams(draft.record.tty, draft.record.open_stdin)
    try:
        container, init = engine.start_init(
            draft.record, draft.spec, draft.directory, streams.options(draft.rootfs_mounts)
        )
    except BaseException as error:
        engine.abandon(draft, error, keep=keep)
        raise
    return Watch(container, init.pidfd, streams.opened(), streams.keep_open)


class Streams:
    """The standard streams of a detached container: pipes, or one terminal."""

    __slots__ = ("_far", "_near", "_outputs", "_passed", "keep_open")

    def __init__(self, tty: bool, open_stdin: bool) -> None:
        self._near = self._far = self.keep_open = -1
        self._passed: list[int] = []
        self._outputs: dict[int, str] = {}
        if tty:
            self._near, self._far = console_pair()
            return
        self._passed = [self._stdin(open_stdin)]
        for name in ("stdout", "stderr"):
            read_end, write_end = posix.pipe2(posix.O_CLOEXEC)
            self._outputs[read_end] = name
            self._passed.append(write_end)

    def _stdin(self, open_stdin: bool) -> int:
        if not open_stdin:
            return posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)
        # -i without anybody at the other end: input that never comes and never ends.
        read_end, self.keep_open = posix.pipe2(posix.O_CLOEXEC)
        return read_end

    def options(self, rootfs_mounts: list[dict[str, object]]) -> LaunchOptions:
        how = LaunchOptions()
        how.rootfs_mounts = rootfs_mounts
        if self._far >= 0:
            how.console = self._far
        else:
            how.stdio = (self._passed[0], self._passed[1], self._passed[2])
        return how

    def opened(self) -> dict[int, str]:
        """Return our ends by fd, once init has its own; the others are closed."""
        for fd in [*self._passed, self._far]:
            if fd >= 0:
                posix.close(fd)
        if self._near >= 0:
            return {receive_console(self._near): "stdout"}
        return self._outputs


def stay(engine: Engine, draft: Draft, watch: Watch, restarts: int = 0, quick: int = 0) -> int:
    """Pump, reap, record, restart: until the container is not to run any more.

    `restarts` counts all of them, `quick` the short lives in a row before this one.
    """
    _leave_caller()
    while True:
        _become_native(engine, draft, watch, restarts, quick)
        log = Log(draft.directory, draft.record.log_driver, draft.record.log_opts)
        status = pump(watch, log)
        log.close()
        posix.close(watch.pidfd)
        ended = Ended(draft.record, draft.lock, watch.container, status, restarts, quick)
        again = relaunch(engine, ended)
        if again is None:
            return 0
        draft, watch = again
        restarts, quick = ended.restarts, ended.quick


class Ended:
    """A container whose init was reaped, and what the policy has to know."""

    __slots__ = ("container", "lock", "quick", "record", "restarts", "status")

    def __init__(
        self,
        record: Record,
        lock: Lock,
        container: Container,
        status: int,
        restarts: int,
        quick: int,
    ) -> None:
        self.record = record
        self.lock = lock
        self.container = container
        self.status = status
        self.restarts = restarts
        self.quick = quick


def relaunch(engine: Engine, ended: Ended) -> tuple[Draft, Watch] | None:
    """Record an end and start the container again if the policy says so; None if it stays down."""
    if not _wants_restart(engine, ended):
        _end(engine, ended)
        ended.lock.release()
        return None
    directory = engine.store.directory(ended.record.id)
    announce(directory)
    try:
        _end(engine, ended)
        return _start_again(engine, ended)
    finally:
        forget(directory)


def _start_again(engine: Engine, ended: Ended) -> tuple[Draft, Watch] | None:
    lived_s = time.time() - ended.container.state.created
    delay, ended.quick = delay_after(ended.quick, lived_s)
    ended.restarts += 1
    try:
        if not rest(engine.store.directory(ended.record.id), delay):
            ended.lock.release()
            return None
        draft = redraft(engine, ended.record, ended.lock)
    except (OSError, PycontainError) as error:
        engine.give_up(ended.record, ended.lock, error)
        return None
    try:
        return draft, launch(engine, draft, keep=True)
    except (OSError, PycontainError):
        # Recorded by `abandon`; the lock is given up.
        return None


def _become_native(engine: Engine, draft: Draft, watch: Watch, restarts: int, quick: int) -> None:
    """Become the static monitor, which execs into `resume`; return where there is none."""
    program = HERE + "/native/bin/monitor"
    argv = [program, "--pid", str(watch.container.pid), "--pidfd", str(watch.pidfd)]
    for fd, name in watch.streams.items():
        argv += ["--console" if draft.record.tty else "--" + name, str(fd)]
    argv += log_arguments(draft.directory, draft.record.log_driver, draft.record.log_opts)
    argv += ["--", sys.executable, "-I", "-S", "-c", RESUME, HERE.rpartition("/")[0]]
    argv += [engine.store.root, engine.store.state, draft.record.id]
    argv += [str(draft.lock.fd), str(restarts), str(quick)]
    kept = [watch.pidfd, draft.lock.fd, *watch.streams]
    kept += [watch.keep_open] if watch.keep_open >= 0 else []
    for fd in kept:
        posix.set_inheritable(fd, True)
    try:
        posix.execv(program, argv)
    except OSError:
        # Not built: this process does the same.
        for fd in kept:
            posix.set_inheritable(fd, False)


def resume(argv: list[str]) -> None:
    """Go on where the static monitor ended: its last argument is the raw wait status of init."""
    data, state, identity, lock_fd, restarts, quick, raw = argv
    engine = Engine(data, state)
    posix.set_inheritable(int(lock_fd), False)
    lock = Lock(f"{state}/locks/{identity}", int(lock_fd))
    status = posix.waitstatus_to_exitcode(int(raw)) if int(raw) >= 0 else 255
    status = status if status >= 0 else 128 - status
    try:
        record = engine.store.load(identity)
        container = containers.load(engine.store.run_root, identity)
    except PycontainError:
        # Record or state were deleted or damaged: it ends here, whatever the policy says.
        removal.clear(engine.store, identity, "")
        if engine.store.exists(identity):
            engine.store.save_exit(identity, Exit(status, time.time(), time.time()))
        lock.release()
        posix._exit(0)
    ended = Ended(record, lock, container, status, int(restarts), int(quick))
    again = relaunch(engine, ended)
    if again is not None:
        posix._exit(stay(engine, *again, restarts=ended.restarts, quick=ended.quick))
    posix._exit(0)


def _leave_caller() -> None:
    """Let go of the caller's directory, streams and descriptors; nobody waits for their end."""
    posix.chdir("/")
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    for fd in (0, 1, 2):
        posix.dup2(null, fd)


def pump(watch: Watch, log: Log) -> int:
    """Copy the streams into the log until init ends; return its exit status.

    Output of other processes that outlive init ends with them: the pid namespace dies with init.
    """
    poll = select.poll()
    poll.register(watch.pidfd, select.POLLIN)
    for fd in watch.streams:
        poll.register(fd, select.POLLIN)
    ended = False
    while not ended:
        for fd, _ in poll.poll():
            if fd == watch.pidfd:
                ended = True
            elif not log.copy(fd, watch.streams[fd]):
                poll.unregister(fd)
                posix.close(fd)
                del watch.streams[fd]
    for fd, name in watch.streams.items():
        posix.set_blocking(fd, False)
        while log.copy(fd, name):
            pass
        posix.close(fd)
    if watch.keep_open >= 0:
        posix.close(watch.keep_open)
    return reap(watch.pidfd)


def _end(engine: Engine, ended: Ended) -> None:
    """Clear up behind the init that was reaped and record its end, or remove all of it (--rm)."""
    record, outcome = ended.record, Outcome(ended.status)
    if outcome.status:
        outcome.oom, outcome.limit, outcome.peak = ended.container.cgroup.oom()
    ended.container.delete(force=True)
    if record.auto_remove:
        ended.lock.tell(record.name, outcome.status)
        removal.remove_files(engine.store, record.id, record.name, record)
        return
    # Another command may have renamed it meanwhile.
    ended.record = engine.store.load(record.id)
    end = exit_of(outcome, ended.container.state.created)
    end.restarts = ended.restarts
    engine.store.save_exit(record.id, end)


def _wants_restart(engine: Engine, ended: Ended) -> bool:
    policy, most = ended.record.restart
    if policy == "no" or wanted_end(engine.store.directory(ended.record.id)):
        return False
    if policy == "on-failure":
        return ended.status != 0 and (not most or ended.restarts < most)
    return True
