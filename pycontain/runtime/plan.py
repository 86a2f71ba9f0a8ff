"""Spec -> Program: the container as data.

`init` writes the plan of a new container, `execplan` that of one more process in it. One function
writes one step; here is their order. Nothing enters the kernel in this module and nothing is left
to be decided by the child: it carries the list out. What the list needs besides the Spec comes in
`Inputs`; `launch` gathers it.

    child   namespaces, cgroup, mounts, devices, console, hooks, root
    stub    limits, identity, park, privileges, filter, program
"""

from __future__ import annotations

from pycontain.runtime import devices, mounts, namespaces, process, rootfs
from pycontain.runtime.draft import Draft, Inputs
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Spec
    from pycontain.syscalls.ops import Program

_CLONE = c.OPEN_TREE_CLONE | c.OPEN_TREE_CLOEXEC


def init(spec: Spec, inputs: Inputs) -> Program:
    """Return the program that makes the container of `spec` and becomes its first process.

    Raises InvalidError or UnsupportedError, with the place in config.json, for what the Spec asks
    and nobody can give.
    """
    draft = Draft(spec, spec.get("process") or {}, inputs)
    spaces = namespaces.asked(spec.get("linux", {}))
    mounts.check(draft)
    process.before_exec(draft)
    namespaces.resource_control(draft)
    namespaces.enter(draft, spaces)
    namespaces.time(draft, spaces)
    namespaces.take_root(draft, spaces)
    namespaces.cgroup(draft, spaces)
    namespaces.names(draft)
    namespaces.loopback(draft, spaces)
    _file_systems(draft, spaces)
    devices.console(draft)
    # After the console: /dev may be one of them.
    mounts.finish(draft)
    _hooks(draft)
    stub(draft)
    rootfs.enter(draft)
    into_stub(draft)
    namespaces.enter_time(draft, spaces)
    _network(draft)
    become(draft)
    return draft.program


def _file_systems(draft: Draft, spaces: dict[str, str]) -> None:
    if "mount" not in spaces and "user" in spaces:
        draft.program.step("open rootfs", "root.path")
        path = draft.inputs.rootfs
        flags = c.O_PATH | c.O_DIRECTORY | c.O_CLOEXEC
        draft.root = draft.program.fd("openat", c.AT_FDCWD, path, flags, target=path)
        return
    if "mount" not in spaces:
        rootfs.leave_mount_namespace(draft)
    rootfs.isolate(draft)
    rootfs.mount(draft)
    draft.program.step("make nodes with exact modes")
    draft.program.call("umask", 0)
    mounts.write(draft)
    devices.write(draft)
    _working_directory(draft)
    if draft.spec.get("linux", {}).get("sysctl"):
        _sysctls(draft)
    rootfs.protect(draft)


def _working_directory(draft: Draft) -> None:
    cwd = draft.process.get("cwd") or "/"
    if cwd != "/":
        draft.program.step("make working directory", "process.cwd")
        draft.release(draft.mount_point(cwd))


def _sysctls(draft: Draft) -> None:
    """Write the kernel's parameters through the container's own proc, before it is read-only."""
    program = draft.program
    for name, value in sorted((draft.spec["linux"].get("sysctl") or {}).items()):
        program.step("set sysctl", f"linux.sysctl[{name!r}]")
        # A slash separates where one is there; only then a dot belongs to a name (sysctl(8)).
        path = "sys/" + (name if "/" in name else name.replace(".", "/"))
        resolve = c.RESOLVE_BENEATH | c.RESOLVE_NO_MAGICLINKS | c.RESOLVE_NO_SYMLINKS
        how = draft.how(c.O_WRONLY | c.O_CLOEXEC, resolve)
        if draft.proc is None:
            path = "/proc/" + path
            how = draft.how(c.O_WRONLY | c.O_CLOEXEC, c.RESOLVE_NO_MAGICLINKS)
        directory = c.AT_FDCWD if draft.proc is None else draft.proc
        fd = program.fd("openat2", directory, path, how, 24, target=name)
        program.call("write", fd, value, len(value.encode()), target=f"{name}={value}")
        program.close(fd)


def _hooks(draft: Draft) -> None:
    if draft.inputs.hooks:
        draft.program.step("wait for hooks", "hooks")
        draft.tell("H", answer=True, target="hooks")


def _network(draft: Draft) -> None:
    if draft.inputs.network:
        draft.program.step("wait for network")
        draft.tell("N", answer=True, target="network")


def stub(draft: Draft) -> None:
    """Write: open the stub on a read-only mount of its own: nobody writes to it through /proc."""
    program, path = draft.program, draft.inputs.stub
    if draft.inputs.stub_fd >= 0:
        draft.stub = draft.inputs.stub_fd
    if not path or draft.inputs.stub_fd >= 0:
        return
    program.step("open stub")
    draft.stub = program.fd("open_tree", c.AT_FDCWD, path, _CLONE, target=path)
    attr = program.block(c.MOUNT_ATTR_RDONLY.to_bytes(8, "little") + bytes(24))
    program.call("mount_setattr", draft.stub, "", c.AT_EMPTY_PATH, attr, 32, target=path)


def into_stub(draft: Draft) -> None:
    """Write: the exec that leaves the parent's memory and binary behind."""
    if process.wanted_labels(draft.process):
        draft.keep.append(draft.label_proc)
    if draft.inputs.sync >= 0:
        draft.keep.append(draft.inputs.sync)
    if draft.inputs.park_dir >= 0:
        draft.keep.append(draft.inputs.park_dir)
    if draft.inputs.park_name:
        # Who waits for start must not hold the caller's files open until then (CVE-2024-21626).
        process.mark_descriptors(draft)
    if draft.inputs.stub:
        draft.program.step("exec stub")
        # The program's keep list takes registers too: the loop reads them there.
        draft.program.exec_stub(draft.stub, draft.keep)  # type: ignore[arg-type]


def become(draft: Draft) -> None:
    """Write the tail that a first process and any other have in common."""
    who = process.Credentials(draft.process)
    process.check_capabilities(who)
    process.null_stdio(draft)
    process.limits(draft)
    process.identity(draft, who)
    if not draft.process.get("args"):
        process.park(draft)
        return
    if draft.inputs.park_name:
        process.check_program(draft)
    if process.listens(draft):
        # Who takes the listener has to be there still: the parent leaves when the child parks.
        process.restrict(draft, who)
        process.park(draft)
    else:
        process.park(draft)
        process.restrict(draft, who)
    process.execute(draft)
