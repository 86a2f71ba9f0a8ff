"""Namespaces: which are new, which are joined, and the first steps of the child inside them.

New ones are flags of clone3(2), except two: a cgroup namespace takes the cgroup its maker is in, so
it is unshared after the child joined its own (v1), and a time namespace takes its offsets before
the first process enters it. Who writes the id maps is `idmap`'s business.
"""

from __future__ import annotations

from pycontain.errors import InvalidError
from pycontain.runtime import capabilities
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import IdMapping, Linux
    from pycontain.runtime.draft import Draft, Inputs

FLAGS = {
    "user": c.CLONE_NEWUSER,
    "mount": c.CLONE_NEWNS,
    "uts": c.CLONE_NEWUTS,
    "ipc": c.CLONE_NEWIPC,
    "network": c.CLONE_NEWNET,
    "cgroup": c.CLONE_NEWCGROUP,
    "pid": c.CLONE_NEWPID,
    "time": c.CLONE_NEWTIME,
}
"""In the order of joining: the user namespace gives the rights for the others."""

FILES = {
    "user": "user",
    "mount": "mnt",
    "uts": "uts",
    "ipc": "ipc",
    "network": "net",
    "cgroup": "cgroup",
    "pid": "pid",
    "time": "time",
}
"""Type -> file under /proc/PID/ns."""

_AF_INET, _SOCK_DGRAM, _SIOCSIFFLAGS, _IFF_UP = 2, 2, 0x8914, 1
_LATER = ("cgroup", "time")
_FOREIGN: tuple[str, ...] = ("network", "ipc", "uts")
_ELSEWHERE: tuple[str, ...] = ("pid", "user", *_LATER)
_CLOCKS = ("monotonic", "boottime")


def asked(linux: Linux) -> dict[str, str]:
    """Return type -> path ("" for a new one) of the namespaces in config.json."""
    spaces: dict[str, str] = {}
    for space in linux.get("namespaces") or []:
        if space["type"] not in FLAGS:
            raise InvalidError(f"linux.namespaces: unknown type {space['type']!r}")
        spaces[space["type"]] = space.get("path", "")
    return spaces


def clone_flags(spaces: dict[str, str]) -> int:
    """Return the CLONE_NEW* bits of the namespaces that clone3(2) makes."""
    flags = 0
    for kind, path in spaces.items():
        if not path and kind not in _LATER:
            flags |= FLAGS[kind]
    return flags


def before_user(inputs: Inputs) -> tuple[tuple[int, int], ...]:
    """Return what to join, as (descriptor, flag), before a user namespace that may not own it."""
    return tuple((inputs.namespaces[k], FLAGS[k]) for k in _FOREIGN if k in inputs.namespaces)


def enter(draft: Draft, spaces: dict[str, str]) -> None:
    """Write: join the namespaces given by path, wait for the id maps of a new user namespace."""
    program, inputs = draft.program, draft.inputs
    # Before the clone, since they only take children (pid) or shall own what it makes (user).
    others = _ELSEWHERE
    if inputs.user_namespace and not inputs.rootless:
        others += _FOREIGN
    for kind, flag in FLAGS.items():
        if kind in inputs.namespaces and kind not in others:
            program.step("join namespace", "linux.namespaces")
            program.call("setns", inputs.namespaces[kind], flag, target=spaces[kind])
    if spaces.get("user") == "":
        program.step("enter user namespace", "linux.uidMappings")
        draft.await_parent("id maps")


def take_root(draft: Draft, spaces: dict[str, str]) -> None:
    """Write: take root's ids in the user namespace.

    It makes the child undumpable, and what is undumpable may not write to its own /proc files.
    """
    program = draft.program
    if "user" not in spaces:
        return
    program.step("enter user namespace", "linux.uidMappings")
    # Files made from here on belong to the container's root, not to an unmapped id.
    become_first(draft)


def become_first(draft: Draft) -> None:
    """Write: take the ids of root in the user namespace, or the first there are without a root."""
    linux, program = draft.spec.get("linux", {}), draft.program
    gid, uid = _first(linux.get("gidMappings")), _first(linux.get("uidMappings"))
    program.call("setresgid", gid, gid, gid, target=str(gid))
    program.call("setresuid", uid, uid, uid, target=str(uid))
    if uid:
        # Who is not root has capabilities after an exec only if they are ambient; capset(2) takes
        # them away again at the end.
        last = draft.inputs.last_capability
        every = (1 << last + 1) - 1
        header = program.block(capabilities.header())
        program.call("capset", header, program.block(capabilities.data(every, every, every)))
        for bit in range(last + 1):
            program.call("prctl", c.PR_CAP_AMBIENT, c.PR_CAP_AMBIENT_RAISE, bit, 0, 0)


def _first(mappings: list[IdMapping] | None) -> int:
    ids = [mapping.get("containerID", 0) for mapping in mappings or []]
    return 0 if 0 in ids or not ids else ids[0]


def resource_control(draft: Draft) -> None:
    """Write: join the groups of linux.intelRdt; children inherit them."""
    for fd in draft.inputs.rdt_fds:
        draft.program.step("join resource control group", "linux.intelRdt")
        draft.program.call("write", fd, "0", 1, target="tasks")


def cgroup(draft: Draft, spaces: dict[str, str]) -> None:
    """Write: join the cgroups of v1, then make the cgroup namespace, then join one by path."""
    program, inputs = draft.program, draft.inputs
    program.step("join cgroup", "linux.cgroupsPath")
    for fd in inputs.cgroup_fds:
        program.call("write", fd, "0", 1, target="cgroup.procs")
    if "cgroup" in inputs.namespaces:
        program.step("join namespace", "linux.namespaces")
        fd = inputs.namespaces["cgroup"]
        program.call("setns", fd, c.CLONE_NEWCGROUP, target=spaces["cgroup"])
    elif "cgroup" in spaces:
        program.step("make cgroup namespace", "linux.namespaces")
        program.call("unshare", c.CLONE_NEWCGROUP)


def time(draft: Draft, spaces: dict[str, str]) -> None:
    """Write: make the time namespace and set its clocks; `enter_time` goes in after the exec.

    A process that shares its memory cannot change its own time namespace (time_namespaces(7)). A
    newer kernel enters it at the exec, for nothing; setns(2) costs 0.2 ms.
    """
    if "time" not in spaces:
        return
    program = draft.program
    if "time" in draft.inputs.namespaces:
        draft.time_fd = draft.inputs.namespaces["time"]
        draft.keep.append(draft.time_fd)
        return
    program.step("make time namespace", "linux.timeOffsets")
    program.call("unshare", c.CLONE_NEWTIME)
    offsets = draft.spec.get("linux", {}).get("timeOffsets") or {}
    lines = [
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in offsets.items()
        if clock in _CLOCKS
    ]
    if lines:
        path = "/proc/self/timens_offsets"
        text = "".join(lines)
        fd = program.fd("openat", c.AT_FDCWD, path, c.O_WRONLY | c.O_CLOEXEC, target=path)
        program.call("write", fd, text, len(text), target=path)
        program.close(fd)
    if draft.inputs.exec_enters_time:
        return
    path = "/proc/self/ns/time_for_children"
    draft.time_fd = program.fd("openat", c.AT_FDCWD, path, c.O_CLOEXEC, target=path)
    draft.keep.append(draft.time_fd)


def enter_time(draft: Draft, spaces: dict[str, str]) -> None:
    """Write, for after the stub's exec: enter the time namespace that `time` kept open, if any."""
    if draft.time_fd == -1:
        return
    draft.program.step("enter time namespace", "linux.namespaces")
    draft.program.call("setns", draft.time_fd, c.CLONE_NEWTIME)


def names(draft: Draft) -> None:
    """Write: host name and domain name of the uts namespace."""
    for key, call in (("hostname", "sethostname"), ("domainname", "setdomainname")):
        name = draft.spec.get(key, "")
        if name:
            raw = str(name).encode("utf-8", "surrogateescape")
            draft.program.step("set " + key, key)
            draft.program.call(call, raw, len(raw), target=str(name))


def loopback(draft: Draft, spaces: dict[str, str]) -> None:
    """Write: bring `lo` up in a new network namespace, as every OCI runtime does (netdevice(7))."""
    if spaces.get("network") != "":
        return
    draft.program.step("bring up loopback", "linux.namespaces")
    fd = draft.program.fd("socket", _AF_INET, _SOCK_DGRAM | c.O_CLOEXEC, 0, target="AF_INET")
    # struct ifreq: 16 bytes of name, then the flags.
    request = draft.program.block(
        b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, "little") + bytes(22)
    )
    draft.program.call("ioctl", fd, _SIOCSIFFLAGS, request, target="lo")
    draft.program.close(fd)
