"""What this runtime and this host can do, and the refusal of what they cannot.

`refuse` is on the hot path: it looks at the host only for fields that are there. `features` builds
the document of the specification's features.md.
"""

from __future__ import annotations

from pycontain.errors import UnsupportedError
from pycontain.runtime.state import exists, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Features, Process, Spec

NAMESPACE_FILES = {
    "cgroup": "cgroup",
    "ipc": "ipc",
    "mount": "mnt",
    "network": "net",
    "pid": "pid",
    "time": "time",
    "user": "user",
    "uts": "uts",
}
"""Name in config.json -> file in /proc/self/ns."""


def refuse(spec: Spec) -> None:
    """Raise UnsupportedError, with the field's name, for what this host lacks."""
    refuse_process(spec["process"], "process.")
    linux = spec.get("linux", {})
    for space in linux.get("namespaces", []):
        name = NAMESPACE_FILES[space["type"]]
        if space["type"] in ("time", "cgroup", "user") and not exists("/proc/self/ns/" + name):
            raise _lacks("linux.namespaces", f"no {space['type']} namespaces in this kernel")
    if linux.get("mountLabel") and not has_selinux():
        raise _lacks("linux.mountLabel", "SELinux is not enabled")
    if "intelRdt" in linux:
        from pycontain.runtime import rdt

        rdt.find_root()
    if "memoryPolicy" in linux and not exists("/proc/self/numa_maps"):
        raise _lacks("linux.memoryPolicy", "this kernel is built without NUMA")


def refuse_process(process: Process, where: str = "") -> None:
    """Raise UnsupportedError for a security label this host cannot set."""
    if process.get("apparmorProfile") and not has_apparmor():
        raise _lacks(where + "apparmorProfile", "AppArmor is not enabled")
    if process.get("selinuxLabel") and not has_selinux():
        raise _lacks(where + "selinuxLabel", "SELinux is not enabled")


def has_apparmor() -> bool:
    """Return whether the kernel enforces AppArmor profiles."""
    try:
        return read_file("/sys/module/apparmor/parameters/enabled", 1)[:1] == b"Y"
    except OSError:
        return False


def has_selinux() -> bool:
    """Return whether SELinux is enabled (its file system is mounted)."""
    return exists("/sys/fs/selinux/enforce")


def _lacks(field: str, why: str) -> UnsupportedError:
    return UnsupportedError(f"config.json: {field}: {why}", hint="remove the field")


def features() -> Features:
    """Return the features document: what the runtime implements, whatever this host has of it."""
    from pycontain.oci.runtime import SPEC_VERSION
    from pycontain.runtime import feature_tables as tables

    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPEC_VERSION,
        "hooks": list(tables.HOOKS),
        "mountOptions": tables.mount_options(),
        "linux": {
            "namespaces": list(NAMESPACE_FILES),
            "capabilities": tables.capabilities(),
            "cgroup": {
                "v1": True,
                "v2": True,
                "systemd": True,
                "systemdUser": True,
                "rdma": True,
            },
            "seccomp": tables.seccomp(),
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": True, "schemata": True, "monitoring": True},
            "memoryPolicy": tables.memory_policy(),
            "mountExtensions": {"idmap": {"enabled": True}},
            "netDevices": {"enabled": True},
        },
        "annotations": {
            "org.opencontainers.runc.checkpoint.enabled": "false",
            "run.oci.crun.checkpoint.enabled": "false",
        },
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "run.oci."],
    }
