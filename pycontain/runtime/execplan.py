"""One more process in a container that runs: join what it has, then the same tail as init's.

The child joins the container's pid namespace the moment it is cloned, with the interpreter's memory
and binary: `launch` makes both unreachable (not dumpable) until the stub's exec leaves them behind
(CVE-2019-5736). Descriptors of host files are close-on-exec, and the stub is not dumpable either:
no process of the container can reach them (CVE-2016-9962).
"""

from __future__ import annotations

from pycontain.runtime import devices, namespaces, plan, process
from pycontain.runtime.draft import Draft, Inputs
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process, Spec
    from pycontain.syscalls.ops import Program


def join(spec: Spec, wanted: Process, inputs: Inputs) -> Program:
    """Return the program that joins the container of `spec` and becomes `wanted`.

    `inputs.join_pidfd` is the init process, `inputs.join_flags` the CLONE_NEW* bits of the
    namespaces it does not share with the caller, without those the clone entered.
    """
    draft = Draft(spec, wanted, inputs)
    program = draft.program
    process.before_exec(draft)
    _affinity(draft)
    program.step("join cgroup", "linux.cgroupsPath")
    for fd in inputs.cgroup_fds:
        program.call("write", fd, "0", 1, target="cgroup.procs")
    namespaces.resource_control(draft)
    early = inputs.join_flags & ~c.CLONE_NEWTIME
    if inputs.join_flags & c.CLONE_NEWTIME:
        draft.keep.append(inputs.join_pidfd)
    plan.stub(draft)
    program.step("join namespaces", "linux.namespaces")
    _join(draft, early)
    devices.console(draft, mount=False)
    plan.into_stub(draft)
    if inputs.join_flags & c.CLONE_NEWTIME:
        program.step("join time namespace", "linux.namespaces")
        program.call("setns", inputs.join_pidfd, c.CLONE_NEWTIME, target="time")
    plan.become(draft)
    return program


def _join(draft: Draft, flags: int) -> None:
    """One setns(2) by pidfd for all: the kernel takes them in the right order."""
    program, inputs = draft.program, draft.inputs
    if flags:
        program.call("setns", inputs.join_pidfd, flags, target="init process")
    if inputs.user_namespace:
        namespaces.become_first(draft)
    if inputs.join_root >= 0:
        # A container without a mount namespace of its own has its root by chroot(2).
        program.call("fchdir", inputs.join_root, target="/")
        program.call("chroot", ".", target="/")


def _affinity(draft: Draft) -> None:
    if draft.process.get("execCPUAffinity"):
        from pycontain.runtime import scheduling

        scheduling.initial_affinity(draft)
