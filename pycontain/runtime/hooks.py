"""Hooks: programs of the bundle that run at six places of a container's life.

Owns how one hook runs (state on stdin, environment, timeout) and the rule for its failure; when a
stage runs is decided by `container` and `launch`.

    stage            namespaces   a failure
    prestart         runtime's    ends create with an error
    createRuntime    runtime's    ends create with an error
    createContainer  container's  ends create with an error; path resolved in the runtime's root,
                                  working directory is the rootfs
    startContainer   container's  ends start with an error; path resolved in the container's root,
                                  under the container's seccomp filter
    poststart        runtime's    see `container.poststart`
    poststop         runtime's    is a warning

A hook has the environment it names, be it empty; one that names none has, as with runc and crun,
the runtime's, and inside the container the program's.

Source: opencontainers/runtime-spec config.md "POSIX-platform Hooks", runtime.md "Lifecycle".
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pycontain.errors import KernelError, PycontainError
from pycontain.oci import codec
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pycontain.oci.runtime import Hook

INSIDE = ("createContainer", "startContainer")

OUTPUT_LIMIT = 4096
"""Bytes of a failed hook's output that go into the error."""

OUTPUT_ANNOTATIONS = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
"""Name files that what hooks print is appended to, as with crun."""

# setns(2) order: the user namespace gives the rights for the others, so it is joined first.
_NAMESPACES = (
    ("user", 0x10000000),
    ("mnt", 0x00020000),
    ("uts", 0x04000000),
    ("ipc", 0x08000000),
    ("net", 0x40000000),
    ("cgroup", 0x02000000),
    ("pid", 0x20000000),
)


class Place:
    """The container that hooks run for.

    pid        its init, whose namespaces the stages in INSIDE join
    directory  their working directory
    confine    called in the process that becomes the hook, right before it does
    """

    __slots__ = ("confine", "directory", "pid")

    def __init__(
        self, pid: int, directory: str = "/", confine: Callable[[], None] | None = None
    ) -> None:
        self.pid = pid
        self.directory = directory
        self.confine = confine


class HookError(PycontainError):
    """A hook failed, could not be started or ran out of time."""


def settle(stage: str, wanted: Sequence[Hook], program_env: Sequence[str]) -> Sequence[Hook]:
    """Return the hooks of one stage, those inside the container with an environment each."""
    if stage not in INSIDE:
        return wanted
    return [hook if "env" in hook else {**hook, "env": list(program_env)} for hook in wanted]


def run(stage: str, hooks: Sequence[Hook], state: Mapping[str, object], place: Place) -> None:
    """Run the hooks of one stage in order; the first failure ends it with HookError.

    `state` is what they read on stdin.
    """
    for index in range(len(hooks)):
        run_one(stage, index, hooks[index], state, place)


def run_each(
    stage: str, hooks: Sequence[Hook], state: Mapping[str, object], place: Place
) -> list[HookError]:
    """Run every hook of one stage whatever becomes of the others; return the failures."""
    failures = []
    for index in range(len(hooks)):
        try:
            run_one(stage, index, hooks[index], state, place)
        except HookError as error:
            failures.append(error)
    return failures


def run_one(stage: str, index: int, hook: Hook, state: Mapping[str, object], place: Place) -> None:
    """Run one hook to its end; raises HookError."""
    # Files in memory instead of pipes: a hook that does not read gives no EPIPE, one that writes
    # a lot does not block, and a daemon it leaves behind does not hold us.
    stdin = _memory(codec.dumps(state))
    output = _memory(b"")
    stdio = [stdin, output, output]
    try:
        annotations: Any = state.get("annotations")
        if annotations:
            _divert(stdio, annotations)
        how = _run_inside(hook, stdio, place) if stage in INSIDE else _run_program(hook, stdio)
        if how:
            text = posix.pread(output, OUTPUT_LIMIT, 0).decode("utf-8", "replace").strip()
            said = f", output: {text}" if text else ""
            raise HookError(f"{_failed(stage, index)} {hook['path']}: {how}{said}")
    except OSError as error:
        cause = KernelError(_failed(stage, index), hook["path"], error)
        raise HookError(cause.message) from None
    finally:
        for fd in {output, *stdio}:
            posix.close(fd)


def _divert(stdio: list[int], annotations: Mapping[str, str]) -> None:
    """Put the files that crun's annotations name for the output of hooks into `stdio`."""
    for number, annotation in enumerate(OUTPUT_ANNOTATIONS, 1):
        if annotation in annotations:
            how = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
            stdio[number] = posix.open(annotations[annotation], how, 0o600)


def _failed(stage: str, index: int) -> str:
    # "error running hook" are the words of runc before 1.2.
    return f"error running {stage} hook #{index}: error running hook"


def _memory(content: bytes) -> int:
    fd = posix.memfd_create("pycontain-hook", posix.MFD_CLOEXEC)
    posix.write(fd, content)
    posix.lseek(fd, 0, 0)
    return fd


def _run_program(hook: Hook, stdio: Sequence[int]) -> str:
    """Run the hook in our namespaces; return "" when it succeeds, else how it ended."""
    path = hook["path"]
    child = posix.posix_spawn(
        path,
        hook.get("args") or [path],
        _environment(hook),
        file_actions=[
            (posix.POSIX_SPAWN_DUP2, stdio[0], 0),
            (posix.POSIX_SPAWN_DUP2, stdio[1], 1),
            (posix.POSIX_SPAWN_DUP2, stdio[2], 2),
        ],
        setpgroup=0,
        setsigmask=[],
        setsigdef=_DEFAULT_SIGNALS,
    )
    return _wait(child, hook.get("timeout", 0))


_DEFAULT_SIGNALS = (_signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGINT)


def _environment(hook: Hook) -> dict[Any, Any]:
    if "env" not in hook:
        return posix.environ
    entries = [entry.partition("=") for entry in hook["env"] or []]
    return {name: value for name, _, value in entries}


def _run_confined(hook: Hook, stdio: Sequence[int], confine: Callable[[], None]) -> str:
    """Run the hook as `_run_program` does, under what `confine` puts on it."""
    child = posix.fork()
    if child:
        return _wait(child, hook.get("timeout", 0))
    try:
        posix.setpgid(0, 0)
        for number, fd in enumerate(stdio):
            posix.dup2(fd, number)
        for signal in _DEFAULT_SIGNALS:
            _signal.signal(signal, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        environment, path = _environment(hook), hook["path"]
        arguments = hook.get("args") or [path]
        confine()
        posix.execve(path, arguments, environment)
    except OSError as error:
        posix.write(2, f"{error.strerror}\n".encode())
    finally:
        posix._exit(127)


def _run_inside(hook: Hook, stdio: Sequence[int], place: Place) -> str:
    """Run the hook in the container's namespaces; return as `_run_program` does.

    A forked child joins them, and waits for the hook itself: one that nobody reaped would hold up
    the end of the container's pid namespace.
    """
    verdict = _memory(b"")
    try:
        child = posix.fork()
        if child == 0:
            status = 125
            try:
                posix.setpgid(0, 0)
                _join(place.pid, place.directory)
                if place.confine is None:
                    how = _run_program(hook, stdio)
                else:
                    how = _run_confined(hook, stdio, place.confine)
                posix.write(verdict, how.encode("utf-8", "replace"))
                status = 0
            except OSError as error:
                text = KernelError("start", hook["path"], error).message
                posix.write(verdict, text.encode("utf-8", "replace"))
                status = 0
            except Exception as error:  # the last line of defence, as in cli/oci_main.py
                posix.write(verdict, f"internal error: {type(error).__name__}: {error}".encode())
                status = 0
            finally:
                posix._exit(status)
        return _exit_text(_reap(child)) or posix.pread(verdict, OUTPUT_LIMIT, 0).decode()
    finally:
        posix.close(verdict)


def _join(pid: int, directory: str) -> None:
    # What our caller left open, a descriptor of the host's perhaps, is not the hook's.
    kernel.close_range(3, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    # Python is the host's binary: nothing in the container may open it through /proc meanwhile.
    kernel.prctl(4, 0)
    spaces = []
    for name, flag in _NAMESPACES:
        fd = posix.open(f"/proc/{pid}/ns/{name}", posix.O_RDONLY | posix.O_CLOEXEC)
        own = posix.stat(f"/proc/self/ns/{name}")
        if (own.st_dev, own.st_ino) != (posix.fstat(fd).st_dev, posix.fstat(fd).st_ino):
            spaces.append((fd, flag))
    root = posix.open(f"/proc/{pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    for fd, flag in spaces:
        kernel.setns(fd, flag)
    posix.fchdir(root)
    posix.chroot(".")
    posix.chdir(directory)


_CLOSE_RANGE_CLOEXEC = 4


def _wait(child: int, timeout: int) -> str:
    """Return "" when `child` succeeds, else how it ended; kill its group after `timeout` s."""
    if timeout:
        pidfd = posix.pidfd_open(child)
        try:
            if not kernel.poll((pidfd,), timeout * 1000):
                posix.killpg(child, _signal.SIGKILL)
                _reap(child)
                return f"timed out after {timeout} s"
        finally:
            posix.close(pidfd)
    return _exit_text(_reap(child))


def _reap(child: int) -> int:
    while True:
        try:
            return posix.waitpid(child, 0)[1]
        except InterruptedError:
            continue


def _exit_text(status: int) -> str:
    if posix.WIFSIGNALED(status):
        number = posix.WTERMSIG(status)
        return f"killed by signal {number} ({(_signal.strsignal(number) or 'unknown').lower()})"
    code = posix.WEXITSTATUS(status)
    return f"exit status {code}" if code else ""
