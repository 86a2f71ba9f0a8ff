"""The config.json that `pycontain-oci spec` writes: a shell in rootfs/ in namespaces of its own."""

from __future__ import annotations

import posix

from pycontain.oci.runtime import SPEC_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.oci.runtime import Mount, Spec

_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


def _mount(destination: str, kind: str, source: str, options: str) -> Mount:
    return {
        "destination": destination,
        "type": kind,
        "source": source,
        "options": options.split(","),
    }


def _mounts() -> list[Mount]:
    return [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        _mount("/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts",
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        ),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"),
        _mount("/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
    ]  # fmt: skip


def _namespaces() -> list[str]:
    """Return the kinds to start from: where cgroup v1 is mounted no cgroup one, as with runc."""
    from pycontain.cgroup import hierarchy

    kinds = ["pid", "network", "ipc", "uts", "mount"]
    return kinds if hierarchy.detect().v1 else [*kinds, "cgroup"]


def default(*, rootless: bool) -> Spec:
    """Return the Spec to start from; `rootless` for an ordinary user on his own ids."""
    sets = ("bounding", "effective", "permitted")
    spec: dict[str, Any] = {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {which: list(_CAPABILITIES) for which in sets},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "pycontain",
        "mounts": _mounts(),
        "linux": {
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in _namespaces()],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                "/sys/firmware",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    }  # fmt: skip
    if rootless:
        _for_user(spec)
    return spec  # type: ignore[return-value]


def _for_user(spec: dict[str, Any]) -> None:
    linux = spec["linux"]
    linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
    linux["namespaces"].append({"type": "user"})
    linux["uidMappings"] = [{"containerID": 0, "hostID": posix.geteuid(), "size": 1}]
    linux["gidMappings"] = [{"containerID": 0, "hostID": posix.getegid(), "size": 1}]
    del linux["resources"]
    kept = [m for m in spec["mounts"] if m["destination"] not in ("/sys", "/sys/fs/cgroup")]
    for mount in kept:
        # gid 5 is not mapped, and devpts refuses what it cannot give.
        mount["options"] = [o for o in mount.get("options", []) if not o.startswith("gid=")]
    kept.append(_mount("/sys", "none", "/sys", "rbind,nosuid,noexec,nodev,ro"))
    spec["mounts"] = kept
