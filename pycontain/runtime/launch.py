"""The parent's side of a plan: gather what it needs, start the child, answer it, undo on failure.

    launch_init   a container's first process, parked in its exec fifo or running its program
    launch_exec   one more process in a container

What the child is told to do is decided in `plan`; the messages the two exchange are drawn in
`draft`. A failure of any kind kills the child and leaves nothing of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import posix

from pycontain.errors import InvalidError, KernelError, UnsupportedError
from pycontain.runtime import gather, namespaces, plan
from pycontain.runtime.dialogue import Dialogue
from pycontain.runtime.state import process_start
from pycontain.syscalls import constants as c
from pycontain.syscalls import executor, kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontain.cgroup.manager import Cgroup
    from pycontain.oci.runtime import Process, Spec
    from pycontain.runtime.container import Container
    from pycontain.runtime.rdt import Group
    from pycontain.syscalls.executor import Running
    from pycontain.syscalls.ops import Program


class LaunchOptions:
    """How a process is started; what it is stands in the Spec.

    id             the container's, for whom it is told
    bundle         directory that relative sources of binds start from
    cgroup         made and limited already; None leaves the process in the caller's
    cgroup_path    where it is made when the Spec names no place; where it does, and this is set,
                   every hierarchy is joined
    stdio          the caller's descriptors for 0, 1, 2 (not used with a terminal)
    console        connected unix socket that receives the terminal's master by SCM_RIGHTS
    plain_newlines that terminal leaves LF as it is: its reader's own adds the CR
    preserve_fds   so many descriptors from 3 on are passed on
    park           path of the exec fifo to wait in, "" to run the program at once
    rootfs_mounts  OCI-shaped mounts the child makes at root.path first
    hooks          called as hooks(stage, pid) for prestart, createRuntime and createContainer
    network        called as network(pid) when the network namespace is there
    notify         called as notify(home, spec) when the container's directory is there
    timeline       keep the times of every op; see `Init.running`
    executor       auto, native or python
    rdt            the resource control group, made already
    sub_cgroup     of an exec: cgroup below the container's
    """

    __slots__ = (
        "bundle", "cgroup", "cgroup_path", "console", "executor", "hooks", "id", "network",
        "no_new_keyring", "no_pivot", "notify", "park", "plain_newlines", "preserve_fds",
        "rdt", "rootfs_mounts", "stdio", "sub_cgroup", "timeline",
    )  # fmt: skip

    def __init__(self) -> None:
        self.id = ""
        self.bundle = "."
        self.cgroup: Cgroup | None = None
        self.cgroup_path = ""
        self.stdio = (0, 1, 2)
        self.console = -1
        self.plain_newlines = False
        self.preserve_fds = 0
        self.park = ""
        self.rootfs_mounts: list[dict[str, Any]] = []
        self.hooks: Callable[[str, int], None] | None = None
        self.network: Callable[[int], None] | None = None
        self.notify: Callable[[str, Spec], None] | None = None
        self.rdt: Group | None = None
        self.timeline = False
        self.executor = "auto"
        self.no_pivot = False
        self.no_new_keyring = False
        self.sub_cgroup = ""


class Init:
    """A process that was started. `pidfd` is the holder's to close.

    start_time   clock ticks since boot (proc_pid_stat(5), field 22): with the pid, an identity
    running      the executor's view, for `timings()`; the rest of it is freed
    """

    __slots__ = ("console_fd", "pid", "pidfd", "running", "start_time")

    def __init__(self, pid: int, pidfd: int, start_time: int, running: Running) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.start_time = start_time
        self.running = running
        self.console_fd = -1


def launch_init(spec: Spec, options: LaunchOptions) -> Init:
    """Start the first process of the container of `spec`.

    Returns when it runs its program, or is parked. Raises KernelError naming the step (its
    subclasses for a program that cannot be run), InvalidError, UnsupportedError, and what the
    hooks and the network raise; nothing is left of the child then.
    """
    try:
        return _launch_init(spec, options)
    except KernelError as error:
        from pycontain.runtime import dangling

        if options.rootfs_mounts or not dangling.mend(spec, options.bundle, error):
            raise
    return _launch_init(spec, options)


def _launch_init(spec: Spec, options: LaunchOptions) -> Init:
    with gather.Gathered() as held:
        inputs = gather.for_init(spec, options, held)
        spaces = namespaces.asked(spec.get("linux", {}))
        dialogue = Dialogue(spec, options, held)
        program = _written(plan.init, spec, inputs)
        flags = namespaces.clone_flags(spaces)
        before_stub = bool(
            inputs.hooks or (inputs.user_namespace and not spaces["user"]) or _copies(spec)
        )
        enter = Enter()
        if "pid" in inputs.namespaces:
            enter.pid(inputs.namespaces["pid"], inputs.rootless)
        if inputs.user_namespace and not inputs.rootless:
            enter.middle += namespaces.before_user(inputs)
        if "user" in inputs.namespaces:
            # What the clone makes must belong to the user namespace that is joined.
            enter.middle += ((inputs.namespaces["user"], c.CLONE_NEWUSER),)
        return _start(program, options, dialogue, flags, not before_stub, enter)


def launch_exec(process: Process, container: Container, options: LaunchOptions) -> Init:
    """Start `process` inside `container`; returns when it runs its program."""
    from pycontain.runtime import execplan

    spec = container.config()
    options.rdt = container.resource_control()
    with gather.Gathered() as held:
        inputs = gather.for_exec(spec, process, container, options, held)
        dialogue = Dialogue(spec, options, held)
        dialogue.process = process
        program = _written(execplan.join, spec, process, inputs)
        enter = Enter()
        if inputs.join_first == c.CLONE_NEWPID:
            enter.pid(inputs.join_pidfd, inputs.rootless)
        elif inputs.join_first:
            enter.middle = ((inputs.join_pidfd, inputs.join_first),)
        return _start(program, options, dialogue, 0, True, enter)


def _written(write: Callable[..., Program], *parts: object) -> Program:
    try:
        return write(*parts)
    except ValueError as error:
        # A NUL byte or an unpaired surrogate has no form as a C string.
        raise InvalidError(f"config.json: {error}") from None


def _copies(spec: Spec) -> bool:
    return any("tmpcopyup" in (m.get("options") or ()) for m in spec.get("mounts") or [])


def _start(
    program: Program,
    options: LaunchOptions,
    dialogue: Dialogue,
    flags: int,
    vfork: bool,
    enter: Enter,
) -> Init:
    cgroup_fd = options.cgroup.fd_for_clone() if options.cgroup is not None else -1

    def spawn(join: tuple[tuple[int, int], ...] = ()) -> Running:
        return executor.spawn(
            program, clone_flags=flags, cgroup_fd=cgroup_fd, vfork=vfork,
            timeline=options.timeline, executor=options.executor, join=join,
        )  # fmt: skip

    try:
        running = _spawn_inside(spawn, enter) if enter else spawn()
    except OSError as error:
        raise _clone_error(error, flags) from None
    try:
        dialogue.serve(running.pid, running.pidfd)
        if not dialogue.parked:
            running.wait_exec()
        start_time = process_start(running.pid)
        return Init(running.pid, running.detach(), start_time, running)
    except executor.OpFailed as failed:
        from pycontain.runtime import failure

        raise dialogue.error or failure.explain(failed, dialogue.findings) from None
    except BaseException:
        _kill(running)
        raise


class Enter:
    """Namespaces to be in before the clone: only children enter some of them.

    pid_fd   a pid namespace (or a process in it), -1 for none: this process joins it for a moment
    middle   descriptors and CLONE_NEW* bits for setns(2) in a process between this and the child
    """

    __slots__ = ("middle", "pid_fd")

    def __init__(self) -> None:
        self.pid_fd = -1
        self.middle: tuple[tuple[int, int], ...] = ()

    def __bool__(self) -> bool:
        return self.pid_fd >= 0 or bool(self.middle)

    def pid(self, fd: int, rootless: bool) -> None:
        """Join a pid namespace."""
        if rootless:
            # Root in a user namespace may lack the right to come back (pid_namespaces(7)).
            self.middle += ((fd, c.CLONE_NEWPID),)
        else:
            self.pid_fd = fd


def _spawn_inside(spawn: Callable[[tuple[tuple[int, int], ...]], Running], enter: Enter) -> Running:
    """Spawn a child in the namespaces of `enter`.

    It has this process's memory and binary until it execs the stub: nobody in there may trace it
    or open its files meanwhile.
    """
    dumpable = kernel.prctl(c.PR_GET_DUMPABLE)
    own = posix.open("/proc/self/ns/pid", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        kernel.prctl(c.PR_SET_DUMPABLE, 0)
        if enter.pid_fd < 0:
            return spawn(enter.middle)
        kernel.setns(enter.pid_fd, c.CLONE_NEWPID)
        try:
            return spawn(enter.middle)
        finally:
            kernel.setns(own, c.CLONE_NEWPID)
    finally:
        kernel.prctl(c.PR_SET_DUMPABLE, dumpable)
        posix.close(own)


def _clone_error(error: OSError, flags: int) -> Exception:
    hint = ""
    if error.errno == errno.EPERM:
        hint = "making these namespaces takes root, or a user namespace"
    elif error.errno == errno.ENOSPC:
        hint = "see /proc/sys/user/max_*_namespaces"
    elif error.errno == errno.EINVAL and flags:
        return UnsupportedError("this kernel lacks one of the namespaces that were asked for")
    return KernelError("make the container's first process", "", error, call="clone3", hint=hint)


def end(init: Init) -> None:
    """End and reap a process that nobody will attend, and close its descriptor."""
    _end(init.pidfd)
    posix.close(init.pidfd)


def _kill(running: Running) -> None:
    _end(running.pidfd)
    running.close()


def _end(pidfd: int) -> None:
    """End and reap a child; it is no error when it is gone already."""
    try:
        _signal.pidfd_send_signal(pidfd, _signal.SIGKILL)
        posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED)
    except (ProcessLookupError, ChildProcessError):
        pass
