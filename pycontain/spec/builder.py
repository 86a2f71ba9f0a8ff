"""Options, image configuration and facts in; Spec (OCI config.json) out. Pure.

Also returns where each part comes from, by its path in config.json: `--explain` joins it with the
plan. A path stands for everything below it. The parts are in process.py, resources.py; the
constants in defaults.py.
"""

from __future__ import annotations

from pycontain.errors import UsageError
from pycontain.spec import defaults, process, resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontain.oci.runtime import Linux, Mount, Namespace, Spec
    from pycontain.spec.host import Host
    from pycontain.spec.options import RunOptions


def build(
    options: RunOptions, image: Mapping[str, Any], command: Sequence[str], host: Host
) -> tuple[Spec, dict[str, str]]:
    """Return (spec, origins). `image` is an execution configuration (`Env`, `Cmd` …).

    Raises UsageError for options that contradict each other or the namespaces, InvalidError for an
    image that asks for nonsense.
    """
    origins: dict[str, str] = {"": "default"}
    spec: Spec = {
        "ociVersion": defaults.OCI_VERSION,
        "process": process.build(options, image, command, host, origins),
        "root": {"path": host.rootfs, "readonly": options.read_only},
        "mounts": mounts(options, host, origins),
        "linux": linux(options, host, origins),
    }
    origins["root.readonly"] = options.given.get("read_only", "default")
    if "uts" in host.namespaces and not host.namespaces["uts"]:
        spec["hostname"] = options.hostname or host.id[:12]
        origins["hostname"] = options.given.get("hostname", "default")
        if options.domainname:
            spec["domainname"] = options.domainname
            origins["domainname"] = options.given.get("domainname", "")
    elif options.hostname:
        raise UsageError("--hostname needs a host name namespace of the container's own")
    if options.annotation:
        spec["annotations"] = dict(options.annotation)
    return spec, origins


def mounts(options: RunOptions, host: Host, origins: dict[str, str]) -> list[Mount]:
    """Return the mounts in order: parents before children, what the user asked for after ours."""
    found: list[tuple[Mount, str]] = [
        (mount, "default") for mount in standard_mounts(options, host)
    ]
    asked = {mount["destination"] for mount, _ in host.mounts}
    found = [(mount, origin) for mount, origin in found if mount["destination"] not in asked]
    for place, source in host.files:
        if place not in asked:
            found.append((_file_mount(place, source), "default"))
    if host.init:
        mount = _file_mount(defaults.INIT, host.init)
        mount["options"] = [*mount["options"], "ro"]
        found.append((mount, "--init"))
    # A volume at /data must not cover one at /data/cache, in whatever order they were asked for.
    found += sorted(host.mounts, key=lambda pair: pair[0]["destination"].count("/"))
    for at, (_, origin) in enumerate(found):
        origins[f"mounts[{at}]"] = origin
    return [mount for mount, _ in found]


def standard_mounts(options: RunOptions, host: Host) -> list[Mount]:
    """Return /proc, /dev, /sys and what lies in them, as the namespaces allow."""
    own = host.namespaces
    own_proc = "pid" in own or not host.uid_maps
    found = [defaults.PROC if own_proc else _bound("/proc"), defaults.DEV]
    found.append(_rootless_pts(host))
    # A user namespace may mount sysfs only with a network namespace of its own
    # (user_namespaces(7)).
    found.append(defaults.SYSFS if "network" in own or not host.uid_maps else _bound("/sys", "ro"))
    if options.privileged:
        found[-1] = _without(found[-1], "ro")
    found.append(_without(defaults.CGROUP, "ro") if options.privileged else defaults.CGROUP)
    # mqueue shows the queues of the IPC namespace one is in; only its owner may mount it.
    if "ipc" not in own:
        return [*found, *([] if host.uid_maps else [defaults.MQUEUE]), _bound("/dev/shm")]
    shm: Mount = {"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}
    shm["options"] = [*defaults.SHM_OPTIONS, f"size={options.shm_size}"]
    return [*found, defaults.MQUEUE, shm]


def _rootless_pts(host: Host) -> Mount:
    """Return /dev/pts; group 5 exists only where the user namespace maps it."""
    mapped = not host.gid_maps or any(row["containerID"] + row["size"] > 5 for row in host.gid_maps)
    return defaults.DEVPTS if mapped else _without(defaults.DEVPTS, "gid=5")


def _without(mount: Mount, option: str) -> Mount:
    changed: Mount = {**mount}
    changed["options"] = [word for word in mount["options"] if word != option]
    return changed


def _bound(path: str, *options: str) -> Mount:
    words = ["rbind", "nosuid", "noexec", "nodev", *options]
    return {"destination": path, "type": "bind", "source": path, "options": words}


def _file_mount(place: str, source: str) -> Mount:
    return {"destination": place, "type": "bind", "source": source, "options": ["bind", "rprivate"]}


def linux(options: RunOptions, host: Host, origins: dict[str, str]) -> Linux:
    """Return the `linux` object."""
    found: Linux = {
        "namespaces": namespaces(options, host, origins),
        "resources": resources.build(options, host, origins),
        "devices": [device for device, _ in host.devices],
        "sysctl": sysctls(options, host),
        "maskedPaths": [] if options.privileged else list(defaults.MASKED_PATHS),
        "readonlyPaths": [] if options.privileged else list(defaults.READONLY_PATHS),
    }
    origins["linux.devices"] = options.given.get("device", "default")
    origins["linux.sysctl"] = options.given.get("sysctl", "default")
    if host.cgroups_path:
        found["cgroupsPath"] = host.cgroups_path
        origins["linux.cgroupsPath"] = options.given.get("cgroup_parent", "default")
    if host.seccomp is not None:
        found["seccomp"] = host.seccomp
        origins["linux.seccomp"] = options.given.get("security_opt", "default")
    if host.uid_maps:
        found["uidMappings"], found["gidMappings"] = host.uid_maps, host.gid_maps
        origins["linux.uidMappings"] = options.given.get("userns", "default")
    if options.time_offset:
        found["timeOffsets"] = {
            clock: {"secs": amount // 10**9, "nanosecs": amount % 10**9}
            for clock, amount in options.time_offset
        }
        origins["linux.timeOffsets"] = options.given.get("time_offset", "")
    return found


def namespaces(options: RunOptions, host: Host, origins: dict[str, str]) -> list[Namespace]:
    """Return the namespaces to make or to join."""
    found: list[Namespace] = []
    for kind, path in host.namespaces.items():
        origins[f"linux.namespaces[{len(found)}]"] = options.given.get(
            _OPTION.get(kind, ""), "default"
        )
        found.append({"type": kind, "path": path} if path else {"type": kind})
    return found


_OPTION = {
    "pid": "pid", "ipc": "ipc", "uts": "uts", "network": "network", "user": "userns",
    "cgroup": "cgroupns", "time": "time_offset",
}  # fmt: skip
"""Namespace type to the option that chooses it."""

NAMESPACED = ("fs.mqueue.", "net.")
IPC_SYSCTLS = frozenset(
    [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
)


def sysctls(options: RunOptions, host: Host) -> dict[str, str]:
    """Return the kernel parameters; one of the host's own is refused."""
    own_net = host.namespaces.get("network") == ""
    found = dict(defaults.SYSCTLS) if own_net and not host.uid_maps else {}
    for key, value in options.sysctl:
        if not (key in IPC_SYSCTLS or key.startswith(NAMESPACED)):
            raise UsageError(
                f"--sysctl {key}: not a parameter of a namespace, it would change the host"
            )
        if key.startswith("net.") and not own_net:
            raise UsageError(f"--sysctl {key}: needs a network namespace of the container's own")
        if not key.startswith("net.") and host.namespaces.get("ipc") != "":
            raise UsageError(f"--sysctl {key}: needs an IPC namespace of the container's own")
        found[key] = value
    return found
