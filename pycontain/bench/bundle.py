"""The OCI configuration the peer runtimes get: what pycontain's defaults ask for. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pycontain.bench.backend import environment

if TYPE_CHECKING:
    from pathlib import Path

    from pycontain.bench.image import BenchImage
    from pycontain.bench.model import Limits, Workload

CPU_PERIOD_US = 100_000
_CAPABILITY_NAMES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
)
CAPABILITIES = [f"CAP_{name}" for name in _CAPABILITY_NAMES]
_MASKED_PROC = (
    *("acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi"),
    *("timer_list", "timer_stats"),
)
MASKED = [*(f"/proc/{name}" for name in _MASKED_PROC), "/sys/firmware"]
READ_ONLY = [f"/proc/{name}" for name in ("bus", "fs", "irq", "sys", "sysrq-trigger")]
MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
    ),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=65536k")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
)


def oci_config(image: BenchImage, workload: Workload, root: Path) -> dict[str, Any]:
    """Return config.json for `workload` in the root directory `root`."""
    env = [f"{key}={value}" for key, value in environment(image, workload).items()]
    capabilities = dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES)
    return {
        "ociVersion": "1.0.2",
        "root": {"path": str(root)},
        "hostname": "bench",
        "process": {
            "args": list(workload.argv),
            "env": env,
            "cwd": workload.cwd,
            "user": {"uid": workload.uid, "gid": workload.gid},
            "capabilities": capabilities,
            "noNewPrivileges": True,
        },
        "mounts": [
            {"destination": where, "type": kind, "source": source, "options": list(options)}
            for where, kind, source, options in MOUNTS
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": {
                "devices": [{"allow": False, "access": "rwm"}],
                **resources(workload.limits),
            },
            **seccomp(),
        },
    }


def resources(limits: Limits) -> dict[str, Any]:
    """Return linux.resources of the limits that are set."""
    found: dict[str, Any] = {}
    if limits.memory_bytes is not None:
        found["memory"] = {"limit": limits.memory_bytes, "swap": limits.memory_bytes}
    if limits.pids is not None:
        found["pids"] = {"limit": limits.pids}
    cpu: dict[str, Any] = {}
    if limits.cpus is not None:
        cpu = {"quota": round(limits.cpus * CPU_PERIOD_US), "period": CPU_PERIOD_US}
    if limits.cpuset:
        # The stopwatch's own affinity ends at the container: its cgroup decides in there.
        cpu["cpus"] = limits.cpuset
    if cpu:
        found["cpu"] = cpu
    return found


def seccomp() -> dict[str, Any]:
    """Return the system-call filter pycontain sets by default."""
    from pycontain.runtime.seccomp_profile import default_profile

    return {"seccomp": default_profile(CAPABILITIES)}
