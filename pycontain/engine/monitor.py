"""What stays with a detached container: its output to the log, its end to the record, its restarts.

`launch` starts init as a child of this process, its output in pipes (or a terminal). `stay` pumps
until init ends, in the static C monitor where it is built (45 kB, execs back into `resume` below) and in
this process otherwise. Then the end is recorded and the restart policy applied.
"""

from __future__ import annotations

import posix
import select
import time

from pycontain.engine import removal
from pycontain.engine.engine import Outcome, exit_of
from pycontain.engine.logs import Log
from pycontain.engine.restart import redraft, wanted_end
from pycontain.errors import PycontainError
from pycontain.runtime.foreground import console_pair, reap, receive_console
from pycontain.runtime.launch import LaunchOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.engine.draft import Draft
    from pycontain.engine.engine import Engine
    from pycontain.runtime.container import Container

FIRST_DELAY_S = 0.1
LONGEST_DELAY_S = 60.0
_CHUNK = 65536


class Watch:
    """A running init and the ends of its streams: fd to "stdout" or "stderr"."""

    __slots__ = ("container", "keep_open", "pidfd", "started", "streams")

    def __init__(
        self, container: Container, pidfd: int, streams: dict[int, str], keep_open: int
    ) -> None:
        self.container = container
        self.pidfd = pidfd
        self.streams = streams
        self.keep_open = keep_open
        self.started = time.time()


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


def stay(engine: Engine, draft: Draft, watch: Watch) -> int:
    """Pump, reap, record, restart: until the container is not to run any more."""
    _leave_caller(draft.lock.fd)
    delay, restarts = FIRST_DELAY_S, 0
    while True:
        log = Log(draft.directory, draft.record.log_driver, draft.record.log_opts)
        outcome = Outcome(pump(watch, log))
        log.close()
        again = _end(engine, draft, watch, outcome, restarts)
        if not again:
            return 0
        delay = (
            FIRST_DELAY_S if time.time() - watch.started > 10 else min(delay * 2, LONGEST_DELAY_S)
        )
        restarts += 1
        time.sleep(delay)
        if wanted_end(draft.directory):
            draft.lock.release()
            return 0
        draft = redraft(engine, draft.record, draft.lock)
        try:
            watch = launch(engine, draft, keep=True)
        except PycontainError:
            # Recorded by `abandon`; the lock is given up.
            return 125


def _leave_caller(lock: int) -> None:
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


def _end(engine: Engine, draft: Draft, watch: Watch, outcome: Outcome, restarts: int) -> bool:
    """Record how it ended; return whether it is to run again (the lock is kept then)."""
    record = draft.record
    posix.close(watch.pidfd)
    if outcome.status:
        outcome.oom, outcome.limit, outcome.peak = watch.container.cgroup.oom()
    watch.container.delete(force=True)
    if record.auto_remove:
        removal.remove_files(engine.store, record.id, record.name, record)
        draft.lock.release()
        return False
    # Another command may have renamed it meanwhile.
    draft.record = engine.store.load(record.id)
    end = exit_of(outcome, watch.started)
    end.restarts = restarts
    engine.store.save_exit(record.id, end)
    again = _wants_restart(draft, outcome.status, restarts)
    if not again:
        draft.lock.release()
    return again


def _wants_restart(draft: Draft, status: int, restarts: int) -> bool:
    policy, most = draft.record.restart
    if policy == "no" or wanted_end(draft.directory):
        return False
    if policy == "on-failure":
        return status != 0 and (not most or restarts < most)
    return True
