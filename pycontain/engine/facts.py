"""Facts about the host and about other containers that a Spec is built from.

Owns the meaning of the namespace options, devices and block devices. Looks and does not touch.
"""

from __future__ import annotations

import posix

from pycontain.errors import ConflictError, KernelError, UnsupportedError, UsageError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pycontain.oci.runtime import Device as OciDevice
    from pycontain.spec.files import Device
    from pycontain.spec.options import RunOptions

    PidOf = Callable[[str], tuple[str, int]]

LATER = "bridge networks are a later issue; use --network none, host, container:ID or ns:PATH"
_FILES = {"pid": "pid", "ipc": "ipc", "uts": "uts", "network": "net", "cgroup": "cgroup"}
_BLOCK, _CHARACTER, _KIND = 0o060000, 0o020000, 0o170000


def namespaces(options: RunOptions, pid_of: PidOf) -> tuple[dict[str, str], dict[str, str]]:
    """Return (OCI type to the path to join, "" for a new one; type to the id it is shared with).

    `pid_of(name)` gives the id and the init pid of a running container. A namespace that is the
    host's is absent.
    """
    refuse_bridge(options)
    found = {"mount": ""}
    joins: dict[str, str] = {}
    modes = {
        "pid": options.pid,
        "ipc": options.ipc,
        "uts": options.uts,
        "network": options.network,
        "cgroup": options.cgroupns,
    }
    for kind, mode in modes.items():
        if mode == "host":
            continue
        found[kind] = _path(kind, mode, pid_of, joins)
    if options.time_offset or _has_time_namespaces():
        found["time"] = ""
    return found, joins


def _has_time_namespaces() -> bool:
    try:
        posix.stat("/proc/self/ns/time")
    except FileNotFoundError:
        # Before Linux 5.6, or left out by its configuration.
        return False
    return True


def _path(kind: str, mode: str, pid_of: PidOf, joins: dict[str, str]) -> str:
    """Return the path of the namespace to join, "" for a new one."""
    new = ("", "private", "none") if kind == "network" else ("", "private", "shareable")
    if mode in new:
        return ""
    word, _, rest = mode.partition(":")
    if word == "ns" and rest.startswith("/"):
        return rest
    if word == "container" and rest and kind != "cgroup":
        joins[kind], pid = pid_of(rest)
        return f"/proc/{pid}/ns/{_FILES[kind]}"
    option = "cgroupns" if kind == "cgroup" else kind
    other = "" if kind == "cgroup" else "container:ID "
    raise UsageError(f"--{option} {quote(mode)}: expected private, host, {other}or ns:PATH")


def refuse_bridge(options: RunOptions) -> None:
    """Raise UnsupportedError for what needs a network this project does not make yet."""
    if options.network in ("bridge", "default", "slirp4netns", "pasta"):
        raise UnsupportedError(f"--network {options.network}: not there yet", hint=LATER)
    for dest in ("publish", "publish_all", "ip"):
        if dest in options.given:
            raise UnsupportedError(f"{options.given[dest]}: not there yet", hint=LATER)
    if options.network.startswith("container:") and options.hostname:
        raise ConflictError("--hostname cannot be combined with another container's network")


def devices(wanted: Sequence[Device], *, privileged: bool) -> list[tuple[OciDevice, str]]:
    """Return (OCI device, access) of each device; of every device of the host with `privileged`."""
    found = [(_device(device.source, device.destination), device.access) for device in wanted]
    if privileged:
        taken = {device["path"] for device, _ in found}
        found += [(each, "rwm") for each in host_devices() if each["path"] not in taken]
    return found


def _device(source: str, destination: str) -> OciDevice:
    try:
        status = posix.stat(source)
    except OSError as error:
        raise KernelError("open device", source, error, call="stat") from None
    kind = {_BLOCK: "b", _CHARACTER: "c"}.get(status.st_mode & _KIND, "")
    if not kind:
        raise UsageError(f"--device {quote(source)}: not a device")
    number = status.st_rdev
    return {
        "path": destination,
        "type": kind,
        "major": posix.major(number),
        "minor": posix.minor(number),
        "fileMode": status.st_mode & 0o777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def host_devices(top: str = "/dev") -> list[OciDevice]:
    """Return every device node of the host but those a container has of its own."""
    own = {
        "/dev/" + name
        for name in [
            "console",
            "ptmx",
            "tty",
            "null",
            "zero",
            "full",
            "random",
            "urandom",
            "fd",
            "stdin",
            "stdout",
            "stderr",
        ]
    }
    found: list[OciDevice] = []
    for entry in posix.scandir(top):
        path = f"{top}/{entry.name}"
        if entry.is_symlink() or path in own or path in ("/dev/pts", "/dev/shm", "/dev/mqueue"):
            continue
        if entry.is_dir(follow_symlinks=False):
            found += host_devices(path)
        elif entry.stat(follow_symlinks=False).st_mode & _KIND in (_BLOCK, _CHARACTER):
            found.append(_device(path, path))
    return found


def block_devices(options: RunOptions) -> Mapping[str, tuple[int, int]]:
    """Return the numbers of each block device an I/O limit names."""
    rows = (
        *options.device_read_bps,
        *options.device_write_bps,
        *options.device_read_iops,
        *options.device_write_iops,
        *options.blkio_weight_device,
    )
    found = {}
    for path, _ in rows:
        device = _device(path, path)
        if device["type"] != "b":
            raise UsageError(f"{quote(path)}: not a block device, it takes no I/O limit")
        found[path] = (device["major"], device["minor"])
    return found
