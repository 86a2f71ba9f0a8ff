"""What a container gets when nobody asks: capabilities, mounts, paths, devices, environment.

The choices are argued in docs/security.md. Sources: moby daemon/pkg/oci (masked and read-only
paths, mounts, device rules), containers/common (capabilities, process limit).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import DeviceRule, Mount

OCI_VERSION = "1.2.0"

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
)
"""podman's eleven: docker's without MKNOD, NET_RAW and AUDIT_WRITE."""

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INIT = "/sbin/docker-init"
"""Where --init shows the static init, docker's place for it."""
PIDS_LIMIT = 2048
CPU_PERIOD_US = 100000
UMASK = 0o022

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""Harmless in a network namespace of its own; they serve processes without privilege."""

PROC: Mount = {
    "destination": "/proc",
    "type": "proc",
    "source": "proc",
    "options": ["nosuid", "noexec", "nodev"],
}
DEV: Mount = {
    "destination": "/dev",
    "type": "tmpfs",
    "source": "tmpfs",
    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
}
DEVPTS: Mount = {
    "destination": "/dev/pts",
    "type": "devpts",
    "source": "devpts",
    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
}
SYSFS: Mount = {
    "destination": "/sys",
    "type": "sysfs",
    "source": "sysfs",
    "options": ["nosuid", "noexec", "nodev", "ro"],
}
CGROUP: Mount = {
    "destination": "/sys/fs/cgroup",
    "type": "cgroup",
    "source": "cgroup",
    "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
}
MQUEUE: Mount = {
    "destination": "/dev/mqueue",
    "type": "mqueue",
    "source": "mqueue",
    "options": ["nosuid", "noexec", "nodev"],
}
SHM_OPTIONS = ("nosuid", "noexec", "nodev", "mode=1777")


def _device(major: int, minor: int | None, access: str = "rwm", kind: str = "c") -> DeviceRule:
    rule: DeviceRule = {"allow": True, "type": kind, "major": major, "access": access}
    if minor is not None:
        rule["minor"] = minor
    return rule


DEVICE_RULES: tuple[DeviceRule, ...] = (
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    _device(1, 3),
    _device(1, 5),
    _device(1, 7),
    _device(1, 8),
    _device(1, 9),
    _device(5, 0),
    _device(5, 1),
    _device(5, 2),
    _device(136, None),
)
"""The standard devices and pts; nodes of other devices can be made and do not open."""
