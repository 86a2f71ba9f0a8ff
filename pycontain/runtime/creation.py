"""Making a container, and undoing what was made when a step fails.

Owns the order: directory, cgroup, state, fifo, process. What the verbs on a made container need is
`container`'s; this module is loaded by `create` and `run` alone.
"""

from __future__ import annotations

import posix

from pycontain.cgroup import group, manager
from pycontain.errors import KernelError, PycontainError
from pycontain.oci import codec
from pycontain.runtime import container as containers
from pycontain.runtime import hooks, launch
from pycontain.runtime import state as states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontain.cgroup.manager import Cgroup
    from pycontain.oci.runtime import Spec
    from pycontain.runtime import rdt
    from pycontain.runtime.container import Container
    from pycontain.runtime.launch import Init, LaunchOptions
    from pycontain.runtime.state import State

LATER_STAGES = ("startContainer", "poststart", "poststop")
"""The hook stages that state.json has to remember, since they run after `create`."""


def make(
    run_root: str,
    id: str,
    bundle: str,
    spec: Spec,
    options: LaunchOptions,
    manager_kind: str,
    raw: bytes,
    *,
    park: bool,
) -> tuple[Container, Init]:
    """Make a container, parked in its exec fifo with `park`; see `container.create` and `run`."""
    home = states.claim(run_root, id)
    undo: list[Callable[[], object]] = [lambda: containers.remove_home(home)]
    container = None
    try:
        container = containers.Container(run_root, _new_state(id, bundle, spec))
        _remember_config(home, spec, raw)
        if options.notify:
            options.notify(home, spec)
        if "intelRdt" in spec.get("linux", {}):
            options.rdt = _resource_control(home, id, spec, undo)
        cgroup = options.cgroup or _open_cgroup(id, spec, options, manager_kind)
        undo.append(cgroup.remove)
        undo.append(cgroup.kill)
        _note_cgroup(home, cgroup)
        cgroup.create()
        cgroup.apply(spec.get("linux", {}).get("resources", {}))
        container.state.cgroup = cgroup.paths()
        states.save(home, container.state)
        options.bundle = bundle
        options.cgroup = cgroup
        options.park = _make_fifo(home) if park else ""
        options.hooks = _hook_runner(container, spec)
        init = launch.launch_init(spec, options)
        # At once: an exception from now on must neither leave it running nor its descriptor open.
        undo.append(lambda: launch.end(init))
        cgroup.close()
        container._cgroup = cgroup
        container.state.pid = init.pid
        container.state.start_time = init.start_time
        # By now the program's environment is complete.
        container.state.hooks = _later_hooks(spec)
        states.save(home, container.state)
        plain = cgroup.owned and not options.notify and options.rdt is None
        if park and manager_kind == "cgroupfs" and plain:
            _note_plain(container)
        return container, init
    except BaseException as error:
        _undo(undo)
        if container:
            _tell_hooks(container, error)
        raise


def _new_state(id: str, bundle: str, spec: Spec) -> State:
    state = states.State(id, bundle, spec["root"]["path"], spec["ociVersion"])
    state.annotations = spec.get("annotations", {})
    state.hooks = _later_hooks(spec)
    return state


def _later_hooks(spec: Spec) -> dict[str, Any]:
    wanted: Any = spec.get("hooks", {})
    env = spec["process"].get("env", [])
    return {
        stage: hooks.settle(stage, wanted[stage], env)
        for stage in LATER_STAGES
        if wanted.get(stage)
    }


def _remember_config(home: str, spec: Spec, raw: bytes) -> None:
    if not raw:
        raw = codec.dumps(spec)
    states.write_file(home + states.CONFIG_FILE, raw)


def _note_cgroup(home: str, cgroup: Cgroup) -> None:
    """Write down which directories may be made next, for the case that we are killed meanwhile."""
    if not cgroup.path:
        # A scope is systemd's to make.
        return
    tops = dict.fromkeys(cgroup.hierarchy.tops.values())
    text = "".join(f"{top}{cgroup.path}\n" for top in tops)
    fd = posix.open(
        home + containers.PLANNED, posix.O_WRONLY | posix.O_CREAT | posix.O_CLOEXEC, 0o600
    )
    try:
        posix.write(fd, text.encode("utf-8", "surrogateescape"))
    finally:
        posix.close(fd)


def _resource_control(
    home: str, id: str, spec: Spec, undo: list[Callable[[], object]]
) -> rdt.Group:
    """Make the groups of linux.intelRdt, remembered first: we may be killed meanwhile."""
    from pycontain.runtime import rdt

    wanted = spec["linux"]["intelRdt"]
    group = rdt.choose(rdt.find_root(), id, wanted)
    rdt.remember(home, group)
    undo.append(group.undo)
    group.create(wanted)
    return group


def _note_plain(container: Container) -> None:
    """Write what native/oci_verbs.c needs, for a container that nothing unusual belongs to."""
    state = container.state
    below_ours = any(f"{group.OURS}/" in path for path in state.cgroup.values())
    if state.hooks or below_ours or not containers.is_first(state.pid):
        return
    lines = [f"{state.pid} {state.start_time}", *state.cgroup.values(), ""]
    if len(set(lines)) == len(lines) and not any("\n" in line for line in lines):
        text = "\n".join(lines).encode("utf-8", "surrogateescape")
        states.write_file(container.home + containers.PLAIN, text)


def _open_cgroup(id: str, spec: Spec, options: LaunchOptions, kind: str) -> Cgroup:
    path = spec.get("linux", {}).get("cgroupsPath", "")
    annotations = spec.get("annotations")
    cgroup = manager.open(kind, path or options.cgroup_path, id=id, annotations=annotations)
    cgroup.everywhere = bool(path and options.cgroup_path)
    return cgroup


def _make_fifo(home: str) -> str:
    path = home + states.FIFO
    try:
        posix.mkfifo(path, 0o622)
        # Past the caller's umask: the process opens it as the container's user.
        posix.chmod(path, 0o622)
        posix.chmod(home, 0o711)
    except OSError as error:
        raise KernelError("make exec fifo", path, error, call="mkfifo") from None
    return path


def _hook_runner(container: Container, spec: Spec) -> Callable[[str, int], None] | None:
    wanted: Any = spec.get("hooks")
    if not wanted:
        return None

    def run_stage(stage: str, pid: int) -> None:
        container.state.pid = pid
        if wanted.get(stage):
            document = states.document(container.state, states.CREATED)
            env = spec["process"].get("env", [])
            directory = container.state.rootfs if stage == "createContainer" else "/"
            place = hooks.Place(pid, directory)
            hooks.run(stage, hooks.settle(stage, wanted[stage], env), document, place)

    return run_stage


def _tell_hooks(container: Container, error: BaseException) -> None:
    """Run the poststop hooks of a container that failed after its hooks had begun to run."""
    if not container.state.pid:
        return
    failures = container.run_poststop()
    if isinstance(error, PycontainError):
        error.message = "; ".join([error.message, *map(str, failures)])


def _undo(steps: list[Callable[[], object]]) -> None:
    """Carry out `steps` last first; a step that fails does not keep the others from being done."""
    for step in reversed(steps):
        try:
            step()
        except (OSError, PycontainError):
            # The error on its way to the caller is the cause; this one is its echo.
            continue
