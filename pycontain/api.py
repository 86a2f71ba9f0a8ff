"""The Python API: run a command in a container from this process.

    result = pycontain.run("busybox", ["echo", "hi"], memory="64m", cpus=0.5)

Options are those of `pycontain run` with underscores, each as its text or as a number, a flag as a
bool, a repeatable one as a list or, for pairs, a dict. Nothing is forked in Python and no thread is
started; it may be called from several threads. An exception, as of Ctrl-C, ends the container.
"""

from __future__ import annotations

import fcntl
import math
import posix
import select
import time

from pycontain import paths
from pycontain.cli.options import CONVERTERS
from pycontain.cli.run_options import RUN
from pycontain.engine import removal
from pycontain.engine.engine import Engine, Outcome
from pycontain.errors import KernelError, UsageError
from pycontain.runtime.foreground import reap
from pycontain.runtime.launch import LaunchOptions
from pycontain.spec.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.draft import Draft
    from pycontain.runtime.container import Container
    from pycontain.runtime.launch import Init

NOT_HERE = frozenset(
    ["detach", "tty", "interactive", "explain", "timeline", "format", "runtime", "sig_proxy"]
)
"""Options of the command line that make no sense in a process."""
LONGEST_POLL_S = 86_400.0
_CHUNK = 65536


class Result:
    """How a container ended.

    stdout and stderr are bytes, all that was written; `oom` tells that the kernel killed it for
    memory; `timings` are seconds by phase: make, launch, run, remove.
    """

    __slots__ = ("exit_status", "oom", "stderr", "stdout", "timings")

    def __init__(self, exit_status: int, stdout: bytes, stderr: bytes, *, oom: bool) -> None:
        self.exit_status = exit_status
        self.stdout = stdout
        self.stderr = stderr
        self.oom = oom
        self.timings: dict[str, float] = {}

    def __repr__(self) -> str:
        return f"Result(exit_status={self.exit_status}, stdout={self.stdout!r}, oom={self.oom})"


def run(
    image: str,
    argv: Sequence[str] = (),
    *,
    stdin: bytes = b"",
    root: str = "",
    state: str = "",
    timeout: float | None = None,
    **options: object,
) -> Result:
    """Run a command in a new container, wait for it and remove the container; return its Result.

    `stdin` is what the command reads. After `timeout` seconds the container is killed and its exit
    status is 137. The output is held in memory: bound that of a command that may write without end
    by a pipe to head(1), say. Raises the classes of pycontain.errors.
    """
    engine = Engine(paths.data_root(root), paths.run_root(state))
    wanted = run_options({"rm": True, **options})
    moments = [time.monotonic()]
    removal.reconcile(engine.store)
    session = _Session(engine)
    try:
        session.draft = draft = engine.maker.make(wanted, image, argv)
        moments.append(time.monotonic())
        container, pidfd = session.launch(draft)
        moments.append(time.monotonic())
        stdout, stderr = _talk(container, pidfd, session.ours, stdin, timeout)
        session.outcome = outcome = Outcome(reap(pidfd))
        moments.append(time.monotonic())
        engine.finish(draft.record, draft.lock, container, outcome, session.started)
        session.draft = None
    except BaseException as error:
        session.give_up(error)
        raise
    finally:
        session.close()
    moments.append(time.monotonic())
    result = Result(outcome.status, stdout, stderr, oom=outcome.oom)
    phases = ("make", "launch", "run", "remove")
    result.timings = {name: moments[at + 1] - moments[at] for at, name in enumerate(phases)}
    return result


def run_options(given: dict[str, object]) -> RunOptions:
    """Return the options of keyword arguments, converted by the table of `pycontain run`."""
    known = {option.dest: option for option in RUN if option.dest not in NOT_HERE}
    values: dict[str, object] = {}
    for dest, value in given.items():
        option = known.get(dest)
        if option is None:
            raise UsageError(f"unknown option {dest}")
        parse = CONVERTERS[option.kind]
        if option.many:
            values[dest] = [parse(text, dest) for text in _texts(value)]
        elif value is not None:
            values[dest] = parse(_text(value), dest)
    return RunOptions(values)


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}={part}" for key, part in value.items()]
    if isinstance(value, str):
        return [value]
    return [str(each) for each in value]  # type: ignore[attr-defined]


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.9f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


class _Session:
    """What one run holds, noted as soon as it is there: an exception may come at any moment.

    draft     the container that was made, None before and once it is finished
    launched  the running container and its init
    outcome   how it ended, once its init was reaped
    ours      our ends of stdin, stdout, stderr; theirs are its; pipes are both, at first
    """

    __slots__ = (
        "_engine", "draft", "launched", "ours", "outcome", "pipes", "started", "theirs",
    )  # fmt: skip

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.draft: Draft | None = None
        self.launched: tuple[Container, Init] | None = None
        self.outcome: Outcome | None = None
        self.pipes: list[int] = []
        self.ours: list[int] = []
        self.theirs: list[int] = []
        self.started = time.time()

    def launch(self, draft: Draft) -> tuple[Container, int]:
        """Start the container on pipes; return it and the pidfd of its init."""
        for _ in range(3):
            self.pipes += posix.pipe2(posix.O_CLOEXEC)
        a, b, c, d, e, f = self.pipes
        self.ours, self.theirs, self.pipes = [b, c, e], [a, d, f], []
        how = LaunchOptions()
        how.rootfs_mounts = draft.rootfs_mounts
        how.stdio = (self.theirs[0], self.theirs[1], self.theirs[2])
        self.started = time.time()
        try:
            self.launched = self._engine.start_init(draft.record, draft.spec, draft.directory, how)
        except OSError as error:
            raise KernelError("start the container", "", error) from None
        _close(self.theirs)
        return self.launched[0], self.launched[1].pidfd

    def give_up(self, error: BaseException) -> None:
        """End what runs and clear up behind it."""
        if self.draft is None:
            return
        if self.launched is None:
            self._engine.abandon(self.draft, error)
            return
        container, init = self.launched
        self._engine.cut_short(self.draft, container, init.pidfd, self.started, self.outcome)

    def close(self) -> None:
        """Close every descriptor."""
        if self.launched:
            posix.close(self.launched[1].pidfd)
        for fds in (self.pipes, self.ours, self.theirs):
            _close(fds)


def _close(fds: list[int]) -> None:
    while fds:
        posix.close(fds.pop())


def _talk(
    container: Container, pidfd: int, pipes: list[int], stdin: bytes, timeout: float | None
) -> tuple[bytes, bytes]:
    """Feed stdin and collect output until init has ended; return stdout and stderr.

    Closes the input when all is written, and takes it out of `pipes`.
    """
    feed, *ends = pipes
    output: dict[int, list[bytes]] = {fd: [] for fd in ends}
    left = memoryview(stdin)
    poll = select.poll()
    for fd in output:
        poll.register(fd, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    posix.set_blocking(feed, False)
    poll.register(feed, select.POLLOUT)
    end = math.inf if timeout is None else time.monotonic() + timeout
    ended = False
    while not ended:
        if time.monotonic() >= end:
            container.kill_init()
            end = math.inf
        for fd, _ in poll.poll(math.ceil(min(end - time.monotonic(), LONGEST_POLL_S) * 1000)):
            if fd == pidfd:
                ended = True
            elif fd == feed:
                left = _feed(fd, left)
                if not left:
                    poll.unregister(fd)
                    posix.close(pipes.pop(0))
            elif not _collect(fd, output[fd], _CHUNK):
                poll.unregister(fd)
    for fd, chunks in output.items():
        # What outlived init may write on for ever: what the pipe holds now is the end.
        posix.set_blocking(fd, False)
        _collect(fd, chunks, fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ))
    return b"".join(output[ends[0]]), b"".join(output[ends[1]])


def _feed(fd: int, data: memoryview) -> memoryview:
    """Write what the pipe takes; return what is left, nothing when nobody reads."""
    try:
        return data[posix.write(fd, data[:_CHUNK]) :] if data else data
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return data[:0]


def _collect(fd: int, chunks: list[bytes], most: int) -> bool:
    """Read what is there; False at its end."""
    try:
        data = posix.read(fd, most)
    except BlockingIOError:
        return False
    chunks.append(data)
    return bool(data)
