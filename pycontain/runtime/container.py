"""The verbs of the OCI runtime on one container: create, start, kill, delete, exec and the rest.

A verb reads as its list of steps. What a container is made of is decided in `plan`, carried out by
`launch`; files and status are `state`'s. What `create` sets up is undone in reverse when a later
step fails: nothing is left of a failed create. What only some verbs need is imported by them:
`start` and `state` are called for every container and must not pay for `create`.
"""

from __future__ import annotations

import posix
from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]
from errno import EBUSY

from pycontain.errors import ConflictError, InvalidError, KernelError, NotFoundError, PycontainError
from pycontain.runtime import state as states
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cgroup.manager import Cgroup
    from pycontain.oci.runtime import IntelRdt, Process, Resources, Spec
    from pycontain.runtime.hooks import HookError
    from pycontain.runtime.launch import Init, LaunchOptions
    from pycontain.runtime.rdt import Group
    from pycontain.runtime.state import State

KILL_WAIT_MS = 10000
"""How long `delete --force` waits for a killed init: the kernel may be writing its core out."""


ENDING_MS = 100
"""How long `delete` waits before it calls a container running."""

PLANNED = "/planned"
"""The cgroup directories a create was about to make; of use when it was killed right then."""

PLAIN = "/plain"
"""There while start, kill and delete need no Python; see native/oci_verbs.c."""


class Container:
    """One container under a run root: its state, and the verbs on it."""

    __slots__ = ("_cgroup", "home", "run_root", "state")

    def __init__(self, run_root: str, state: State) -> None:
        self.run_root = run_root
        self.state = state
        self.home = f"{run_root}/{state.id}"
        self._cgroup: Cgroup | None = None

    @property
    def id(self) -> str:
        return self.state.id

    @property
    def pid(self) -> int:
        return self.state.pid

    @property
    def cgroup(self) -> Cgroup:
        """The container's cgroup, attached by the paths that state.json holds."""
        if self._cgroup is None:
            from pycontain.cgroup import manager

            self._cgroup = manager.attach(self.state.cgroup)
        return self._cgroup

    def status(self) -> str:
        """Return creating, created, running, paused or stopped, as it is now."""
        status = states.status(self.state, self.home, frozen=False)
        if status in (states.CREATED, states.RUNNING) and _is_frozen(self.state.cgroup):
            return states.PAUSED
        return status

    def document(self) -> dict[str, object]:
        """Return what the `state` verb prints."""
        return states.listing(self.state, self.status())

    def config(self) -> Spec:
        """Return the Spec as it was at create, whatever became of the bundle since."""
        from pycontain.oci import codec

        path = self.home + states.CONFIG_FILE
        try:
            data = states.read_file(path)
        except OSError as error:
            raise KernelError("read", path, error) from None
        return codec.load_object(data, path, lone_surrogates=True)  # type: ignore[return-value]

    def start(self) -> list[HookError]:
        """Let the parked init execute the program; return the failures of poststart hooks.

        Raises ConflictError unless the status is created, HookError when a startContainer hook
        fails (the container is then stopped).
        """
        states.allow("start", self.id, self.status())
        self.start_program()
        return self.poststart()

    def start_program(self) -> None:
        """Run the startContainer hooks, then let the parked init go."""
        try:
            self._start_hooks()
        except PycontainError:
            self.kill_init()
            raise
        fifo = self.home + states.FIFO
        _release(fifo, self.state.pid, until_exec=bool(self.state.hooks.get("poststart")))
        remove_file(fifo)

    def poststart(self) -> list[HookError]:
        """Run the poststart hooks, each of them, and return the failures.

        They are warnings before version 1.3 of the specification and errors from then on
        (runtime.md "Lifecycle", step 9): `check_poststart` decides.
        """
        stage = self.state.hooks.get("poststart")
        if not stage:
            return []
        from pycontain.runtime import hooks

        document = states.document(self.state, states.RUNNING)
        return hooks.run_each("poststart", stage, document, hooks.Place(self.state.pid))

    def kill(self, signal: int, *, all: bool = False) -> None:
        """Send `signal` to init, or with `all` to every process of the container's cgroup.

        Raises ConflictError when the container is stopped, unless processes outlive an init that
        has no pid namespace of its own and are to be killed; with `all` that is no error at all.
        """
        status = self.status()
        if all:
            self._kill_all(signal)
        elif status == states.STOPPED and signal == SIGKILL and self._outlived():
            self.cgroup.kill()
        else:
            states.allow("kill", self.id, status)
            own = is_first(self.state.pid)
            if not send(self.state.pid, self.state.start_time, signal):
                raise ConflictError(f"container not running: {self.id} is stopped")
            if signal == SIGKILL and not own:
                # Without a pid namespace of its own the end of init is not the end of the rest.
                self.cgroup.kill()
        if status == states.PAUSED and signal == SIGKILL:
            # A frozen process of cgroup v1 does not even die.
            self.cgroup.thaw()

    def delete(self, *, force: bool = False) -> list[HookError]:
        """Undo what create made; return the failures of poststop hooks (they are warnings).

        Raises ConflictError when the container runs and not `force`.
        """
        status = self.status()
        if status == states.RUNNING and not force and self._ends_now():
            status = states.STOPPED
        if not force:
            states.allow("delete", self.id, status)
        if status != states.STOPPED:
            self.kill_init()
        self.cgroup.kill()
        self.cgroup.remove()
        remove_resource_control(self.home)
        remove_home(self.home)
        return self.run_poststop()

    def run_poststop(self) -> list[HookError]:
        """Run the hooks that come after everything was undone; return the failures."""
        stage = self.state.hooks.get("poststop")
        if not stage:
            return []
        from pycontain.runtime import hooks

        document = states.document(self.state, states.STOPPED)
        return hooks.run_each("poststop", stage, document, hooks.Place(0))

    def _outlived(self) -> bool:
        """Return whether there are processes that did not end with init."""
        spaces = self.config().get("linux", {}).get("namespaces") or []
        own = any(space["type"] == "pid" and not space.get("path") for space in spaces)
        return not own and bool(self.cgroup.procs())

    def _ends_now(self) -> bool:
        """Return whether init ends within a moment: a kill just before may still be at work."""
        try:
            pidfd = posix.pidfd_open(self.state.pid)
        except ProcessLookupError:
            return True
        try:
            return bool(kernel.poll((pidfd,), ENDING_MS))
        finally:
            posix.close(pidfd)

    def pause(self) -> None:
        """Freeze every process of the container."""
        states.allow("pause", self.id, self.status())
        self.cgroup.freeze()
        self._note_cgroup()

    def resume(self) -> None:
        """Thaw a paused container."""
        states.allow("resume", self.id, self.status())
        self.cgroup.thaw()

    def update(self, resources: Resources, rdt_lines: IntelRdt | None = None) -> None:
        """Apply `resources` and lines of resource control; what is absent stays as it is."""
        states.allow("update", self.id, self.status())
        if rdt_lines:
            from pycontain.runtime import rdt

            remove_file(self.home + PLAIN)
            rdt.update(self, rdt_lines)
        self.cgroup.apply(resources)
        self._note_cgroup()

    def _note_cgroup(self) -> None:
        """Remember directories that came with a controller joined just now (v1)."""
        remove_file(self.home + PLAIN)
        paths = self.cgroup.paths()
        if paths != self.state.cgroup:
            self.state.cgroup = paths
            states.save(self.home, self.state)

    def resource_control(self) -> Group | None:
        """Return the group of linux.intelRdt, None when there is none."""
        if not states.exists(self.home + states.RDT):
            return None
        from pycontain.runtime import rdt

        return rdt.present(self.home)

    def processes(self) -> list[int]:
        """Return the pids of the container's processes as this process sees them."""
        return self.cgroup.procs()

    def exec(
        self,
        process: Process,
        options: LaunchOptions,
        *,
        ignore_paused: bool = False,
        paused_hint: str = "",
    ) -> Init:
        """Start `process` inside the container and return it.

        `paused_hint` is what the caller's user can do about a container that is paused.
        """
        status = self.status()
        if status == states.PAUSED and not ignore_paused:
            raise ConflictError(f"cannot exec in a paused container: {self.id}", hint=paused_hint)
        if status not in (*states.MOVES["exec"], states.PAUSED):
            raise ConflictError(f"cannot exec in a {status} container: {self.id}")
        from pycontain.runtime import launch

        try:
            return launch.launch_exec(process, self, options)
        except (OSError, KernelError) as error:
            fallback = None if options.sub_cgroup else self._cgroup_of_init(error)
            if fallback is None:
                raise
            options.cgroup = fallback
            return launch.launch_exec(process, self, options)

    def _cgroup_of_init(self, error: Exception) -> Cgroup | None:
        """Return the cgroup init is in now, when `error` says that nobody may join its first one.

        Init may have moved below it and switched controllers on (v2's rule of no inner
        processes: EBUSY), or away from it and removed it (ENOENT).
        """
        busy = isinstance(error, KernelError) and error.call == "clone3" and error.number == EBUSY
        gone = isinstance(error, FileNotFoundError)
        if not (busy or gone) or "" not in self.state.cgroup:
            return None
        from pycontain.cgroup import hierarchy, manager
        from pycontain.runtime import subcgroup

        top = hierarchy.detect().unified
        return manager.attach({"": subcgroup.of_process(top, self.pid)})

    def _start_hooks(self) -> None:
        wanted = self.state.hooks.get("startContainer")
        if not wanted:
            return
        from pycontain.runtime import hooks, seccomp

        profile = self.config().get("linux", {}).get("seccomp")
        confine = seccomp.loader(profile) if profile else None
        document = states.document(self.state, states.CREATED)
        hooks.run("startContainer", wanted, document, hooks.Place(self.pid, "/", confine))

    def kill_init(self) -> None:
        if not self.state.pid:
            return
        try:
            pidfd = posix.pidfd_open(self.state.pid)
        except ProcessLookupError:
            return
        try:
            if not states.is_alive(self.state.pid, self.state.start_time):
                return
            pidfd_send_signal(pidfd, SIGKILL)
            if _is_frozen(self.state.cgroup):
                self.cgroup.thaw()
            if not kernel.poll((pidfd,), KILL_WAIT_MS):
                raise ConflictError(f"init process {self.state.pid} of {self.id} does not die")
        finally:
            posix.close(pidfd)

    def _kill_all(self, signal: int) -> None:
        for pid in self.cgroup.procs():
            try:
                posix.kill(pid, signal)
            except ProcessLookupError:
                continue


def load(run_root: str, id: str) -> Container:
    """Return the container `id`; raises NotFoundError, or InvalidError for a half-made one."""
    return Container(run_root, states.load(run_root, id))


def create(
    run_root: str,
    id: str,
    bundle: str,
    spec: Spec,
    options: LaunchOptions,
    *,
    manager_kind: str = "cgroupfs",
    raw: bytes = b"",
) -> Container:
    """Make a container and park its init before the program; return it.

    `spec` is valid, its root.path absolute; `raw` are the bytes it was read from, if any. Raises
    ConflictError when the id is taken and whatever a step raises; nothing is left then.
    """
    from pycontain.runtime import creation

    return creation.make(run_root, id, bundle, spec, options, manager_kind, raw, park=True)[0]


def run(
    run_root: str,
    id: str,
    bundle: str,
    spec: Spec,
    options: LaunchOptions,
    *,
    manager_kind: str = "cgroupfs",
    raw: bytes = b"",
) -> tuple[Container, Init]:
    """Make a container whose init executes the program at once; return both.

    poststart hooks are the caller's to run (`Container.poststart`).
    """
    from pycontain.runtime import creation

    if not spec.get("hooks", {}).get("startContainer"):
        return creation.make(run_root, id, bundle, spec, options, manager_kind, raw, park=False)
    container, init = creation.make(
        run_root, id, bundle, spec, options, manager_kind, raw, park=True
    )
    try:
        container.start_program()
    except BaseException:
        from pycontain.runtime import launch

        container.delete(force=True)
        launch.end(init)
        raise
    return container, init


def _is_frozen(paths: dict[str, str]) -> bool:
    """Return whether the freezer of the cgroup at `paths` is on; see `Cgroup.frozen`."""
    if "freezer" in paths:
        return _word(paths["freezer"] + "/freezer.state") in (b"FROZEN", b"FREEZING")
    return "" in paths and _word(paths[""] + "/cgroup.freeze") == b"1"


def is_first(pid: int) -> bool:
    """Return whether `pid` is the first process of its pid namespace; True when it is gone."""
    try:
        data = states.read_file(f"/proc/{pid}/status")
    except OSError:
        return True
    line = data[data.index(b"\nNSpid:") + 7 :].split(b"\n", 1)[0].split()
    return len(line) > 1 and line[-1] == b"1"


def _word(path: str) -> bytes:
    try:
        return states.read_file(path).strip()
    except OSError:
        # The cgroup is gone with its processes, or there is no freezer: nothing is frozen.
        return b""


def _release(fifo: str, pid: int, *, until_exec: bool) -> None:
    """Open the exec fifo, which lets the parked process `pid` go on, and hear that it does.

    With `until_exec` wait until it executes the program, or died.
    """
    try:
        pidfd = posix.pidfd_open(pid)
    except ProcessLookupError:
        raise ConflictError(f"the container's init process {pid} is gone") from None
    except OSError as error:
        raise KernelError("open process", pid, error, call="pidfd_open") from None
    try:
        # A blocking open would wait for ever for an init that died meanwhile.
        fd = posix.open(fifo, posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC)
    except OSError as error:
        posix.close(pidfd)
        raise KernelError("open exec fifo", fifo, error, call="open") from None
    try:
        kernel.poll((fd, pidfd), KILL_WAIT_MS)
        if not posix.read(fd, 1):
            raise ConflictError(f"the container's init process {pid} died before start")
        if until_exec:
            # It holds the other end up to then; the end of that is all that can be heard now.
            kernel.poll((fd,), KILL_WAIT_MS)
    except BlockingIOError:
        raise ConflictError(f"the container's init process {pid} does not answer") from None
    finally:
        posix.close(fd)
        posix.close(pidfd)


def send(pid: int, start_time: int, signal: int) -> bool:
    """Send `signal` to the process `pid` that started at `start_time`; False when it is gone."""
    try:
        pidfd = posix.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if not states.is_alive(pid, start_time):
            return False
        pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError("send signal to", pid, error, call="pidfd_send_signal") from None
    finally:
        posix.close(pidfd)
    return True


def delete_broken(run_root: str, id: str) -> None:
    """Remove what is left of a container whose state.json is missing or unreadable."""
    home = f"{run_root}/{states.check_id(id)}"
    if not states.is_directory(home):
        raise NotFoundError(f"container {id!r} does not exist")
    try:
        planned = states.read_file(home + PLANNED).split(b"\n")
    except OSError:
        planned = []
    for directory in filter(None, planned):
        try:
            posix.rmdir(directory)
        except OSError:
            # Not made yet, or somebody else's and in use: it is not ours to empty.
            continue
    try:
        remove_resource_control(home)
    except InvalidError:
        # Whatever stands there: it is removed with the rest.
        pass
    from pycontain import trees

    try:
        # A directory may stand where a file was.
        trees.remove(home)
    except OSError as error:
        raise KernelError("remove", home, error) from None


def remove_resource_control(home: str) -> None:
    """Remove the resource control groups that are the container's alone."""
    if states.exists(home + states.RDT):
        from pycontain.runtime import rdt

        group = rdt.recall(home)
        if group is not None:
            group.remove()


def remove_home(home: str) -> None:
    """Remove a container's directory; what is gone already is no error."""
    try:
        names = posix.listdir(home)
    except FileNotFoundError:
        return
    for name in names:
        if name == "notify":
            from pycontain import trees

            trees.remove(f"{home}/{name}")
            continue
        remove_file(f"{home}/{name}")
    try:
        posix.rmdir(home)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError("remove", home, error, call="rmdir") from None


def remove_file(path: str) -> None:
    try:
        posix.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise KernelError("remove", path, error, call="unlink") from None
