"""Limits into the files of a cgroup: where each goes, the write, the error that names the cure.

What to write is decided by `limits` and `limits_v1`; on a hybrid host a limit goes to the version
that has its controller. Nothing asked for is dropped in silence.
"""

from __future__ import annotations

import errno

from pycontain.cgroup.files import exists, number, read_or, write_existing
from pycontain.errors import ConflictError, InvalidError, KernelError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from pycontain.cgroup.group import Cgroup
    from pycontain.cgroup.limits import Writes
    from pycontain.oci.runtime import Resources

UNIFIED = ""
PAGE_BYTES = 65536
"""The largest page: the kernel rounds a memory limit down to whole pages."""

SECTIONS = {
    "memory": "memory",
    "pids": "pids",
    "blockIO": "blkio",
    "hugepageLimits": "hugetlb",
    "rdma": "rdma",
    "network": "net_cls",
}
"""Section of linux.resources -> the v1 controller that takes it; cpu is split in two."""


def apply(cgroup: Cgroup, resources: Resources) -> None:
    """Set every limit in `resources`, read back what the kernel made of it; see Cgroup.apply."""
    if cgroup.why:
        _refuse(cgroup, resources)
        return
    _check_memory(cgroup, resources)
    late: list[tuple[str, str, str]] = []
    for directory, file, value in writes(cgroup, resources):
        try:
            write_existing(f"{directory}/{file}", value)
        except OSError as error:
            # Some files check each other (limit and memsw, quota and burst): EINVAL now may be
            # right once the other one is written.
            if error.errno != errno.EINVAL:
                raise explain(cgroup, directory, file, value, error) from None
            late.append((directory, file, value))
        else:
            _verify(directory, file, value)
    for directory, file, value in late:
        try:
            write_existing(f"{directory}/{file}", value)
        except OSError as error:
            raise explain(cgroup, directory, file, value, error) from None
    if resources.get("devices") and "devices" not in cgroup.hierarchy.v1:
        from pycontain.runtime import device_bpf

        device_bpf.guard(cgroup.directory(UNIFIED), resources["devices"], replace=cgroup.joined)


def applied(cgroup: Cgroup, resources: Resources) -> list[dict[str, str]]:
    """Return for each limit file what was asked for and what the kernel holds now."""
    if cgroup.why:
        return []
    report = []
    for directory, file, value in writes(cgroup, resources):
        if not file.startswith("devices."):
            got = read_or(f"{directory}/{file}", "unreadable")
            report.append({"file": f"{directory}/{file}", "asked": value, "got": got})
    return report


def _refuse(cgroup: Cgroup, resources: Resources) -> None:
    asked = [name for name, wanted in resources.items() if wanted and name != "devices"]
    if asked:
        raise UnsupportedError(
            f"linux.resources.{asked[0]} needs a cgroup: {cgroup.why}",
            hint="delegate one (systemd-run --user --scope -p Delegate=yes), run as root, "
            "or ask for no limit",
        )


def _check_memory(cgroup: Cgroup, resources: Resources) -> None:
    memory = resources.get("memory") or {}
    wanted = memory.get("limit", -1)
    if not memory.get("checkBeforeUpdate") or wanted < 0:
        return
    used = _memory_used(cgroup)
    if used > wanted:
        raise ConflictError(f"memory limit {wanted} is below the {used} bytes in use")


def _memory_used(cgroup: Cgroup) -> int:
    if "memory" in cgroup.dirs:
        return int(read_or(f"{cgroup.dirs['memory']}/memory.usage_in_bytes", "0"))
    return int(read_or(f"{cgroup.dirs.get(UNIFIED, '')}/memory.current", "0"))


def _verify(directory: str, file: str, value: str) -> None:
    """Read a number back: the kernel may clamp or round one and report success."""
    if not value.isdigit() or file == "memory.oom_control":
        return
    asked, got = int(value), number(read_or(f"{directory}/{file}", value))
    if got == asked or got == -1 or (file.startswith("memory.") and 0 <= asked - got < PAGE_BYTES):
        return
    raise UnsupportedError(f"limit {directory}/{file}: asked for {asked}, the kernel set {got}")


def writes(cgroup: Cgroup, resources: Resources) -> list[tuple[str, str, str]]:
    """Return (directory, file, value) per limit, in the hierarchy that has its controller.

    Makes the directories of controllers the container did not need before.
    """
    if cgroup.hierarchy.pure_v2:
        directory = cgroup.directory(UNIFIED)
        return [(directory, *write) for write in _v2_files(directory, resources)]
    from pycontain.cgroup import limits_v1

    v1 = cgroup.hierarchy.v1
    _check_unified(resources, v1)

    def has(name: str) -> bool:
        controller = name.partition(".")[0]
        return controller in v1 and exists(f"{cgroup.directory(controller)}/{name}")

    here: list[tuple[str, str, str]] = []
    there = bool(resources.get("unified"))
    for file, value in limits_v1.limit_files(resources, has):
        controller = file.partition(".")[0]
        if controller in v1:
            here.append((cgroup.directory(controller), file, value))
        elif controller != "devices":
            there = True
    return here + _hybrid_writes(cgroup, resources) if there else here


def _check_unified(resources: Resources, v1: Mapping[str, str]) -> None:
    for file in resources.get("unified") or {}:
        controller = file.partition(".")[0]
        if controller in v1:
            raise InvalidError(
                f"invalid configuration: linux.resources.unified[{file!r}]: "
                f"the controller {controller} is mounted as cgroup v1"
            )


def _hybrid_writes(cgroup: Cgroup, resources: Resources) -> list[tuple[str, str, str]]:
    """Return what no mounted v1 controller takes, as v2 files."""
    v1 = cgroup.hierarchy.v1
    rest = _without(resources, v1)
    if not cgroup.hierarchy.unified:
        raise UnsupportedError(
            f"linux.resources.{', '.join(rest)}: no cgroup controller for it is mounted",
            hint=f"mounted are the v1 controllers {' '.join(v1)}",
        )
    directory = cgroup.directory(UNIFIED)
    return [(directory, *write) for write in _v2_files(directory, rest)]


def _v2_files(directory: str, resources: Resources) -> Writes:
    from pycontain.cgroup import limits

    quota = "max"
    if (resources.get("cpu") or {}).get("period"):
        quota = read_or(f"{directory}/cpu.max", "max").split(" ")[0]
    return limits.limit_files(resources, lambda name: exists(f"{directory}/{name}"), quota)


def _without(resources: Resources, v1: Mapping[str, str]) -> Resources:
    """Return `resources` without what the mounted v1 controllers took."""
    rest: Resources = {}
    for section, controller in SECTIONS.items():
        if resources.get(section) and controller not in v1:
            rest[section] = resources[section]  # type: ignore[literal-required]
    if "unified" in resources:
        rest["unified"] = resources["unified"]
    cpu = resources.get("cpu") or {}
    left = {
        key: value
        for key, value in cpu.items()
        if ("cpuset" if key in ("cpus", "mems") else "cpu") not in v1
    }
    if left:
        rest["cpu"] = left  # type: ignore[typeddict-item]
    return rest


def explain(cgroup: Cgroup, directory: str, file: str, value: str, error: OSError) -> KernelError:
    """Return the error of a failed write: file, controller and what to do about it."""
    controller = file.partition(".")[0]
    hint = ""
    if error.errno == errno.ENOENT and directory == cgroup.dirs.get(UNIFIED):
        hint = _cure_v2(cgroup, directory, file, controller)
    elif error.errno == errno.ENOENT:
        hint = f"this kernel's v1 controller {controller} has no such limit"
    elif error.errno == errno.EBUSY and controller == "memory":
        hint = f"the container uses more: {_memory_used(cgroup)} bytes"
    elif error.errno == errno.EINVAL:
        hint = f"the kernel does not take {value!r} here"
    elif error.errno == errno.EPERM and controller == "devices":
        hint = "the parent cgroup denies this device"
    action = f"set limit {value!r} (cgroup controller {controller}) in"
    return KernelError(action, f"{directory}/{file}", error, call="write", hint=hint)


def _cure_v2(cgroup: Cgroup, directory: str, file: str, controller: str) -> str:
    parent = directory.rpartition("/")[0]
    if controller in cgroup.refused:
        return f"controller {controller} is not enabled: {cgroup.refused[controller]}"
    if controller in read_or(f"{parent}/cgroup.subtree_control").split():
        return f"controller {controller} is enabled, but this kernel has no {file}"
    offered = cgroup.hierarchy.v2_controllers()
    if controller not in offered:
        return (
            f"the requested cgroup controller `{controller}` is not available, "
            f"only {' '.join(offered)} are"
        )
    return (
        f"controller {controller} is not enabled in {parent}/cgroup.subtree_control: "
        f"echo +{controller} into it"
    )
