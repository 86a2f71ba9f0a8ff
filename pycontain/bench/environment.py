"""The fingerprint of a comparison: what this host is, and what it runs.

Owns reading it; a figure without it cannot be compared with another host's. A tool that is absent
or does not answer is written down as such, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from pycontain.vm.qemu import accel

TOOLS = {
    "runc": ["runc", "--version"],
    "crun": ["crun", "--version"],
    "bwrap": ["bwrap", "--version"],
    "podman": ["podman", "--version"],
    "docker": ["docker", "--version"],
    "runsc": ["runsc", "--version"],
    "qemu": ["qemu-system-x86_64", "--version"],
}


def fingerprint() -> dict[str, str]:
    """Return what describes this host, in the order it is shown."""
    return {
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "cpu": f"{_cpuinfo('model name') or 'unnamed'} at {_cpuinfo('cpu MHz') or '?'} MHz",
        "cpus": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
        "host is": host_kind(),
        "kvm": accel.kvm_reason() or "hardware",
        "cgroups": _cgroups(),
        "mitigations": _mitigations(),
        "governor": _first("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not shown",
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "python": sys.version.split()[0],
        **{name: _version(argv) for name, argv in TOOLS.items()},
    }


def host_kind() -> str:
    """Return whether this host is itself a virtual machine, by the hypervisor flag of its CPU."""
    flags = _cpuinfo("flags").split()
    if "hypervisor" not in flags:
        return "a physical machine (no hypervisor flag)"
    vendor = _first("/sys/class/dmi/id/sys_vendor") or _first("/sys/hypervisor/type")
    name = f" ({vendor})" if vendor else ""
    return f"itself a virtual machine{name}: every figure is relative to a guest, not to hardware"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _cpuinfo(key: str) -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(rf"^{re.escape(key)}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def _cgroups() -> str:
    root = Path("/sys/fs/cgroup")
    if (root / "cgroup.controllers").exists():
        return "v2"
    return "v1 and v2 (hybrid)" if (root / "unified").is_dir() else "v1"


def _mitigations() -> str:
    names = sorted(Path("/sys/devices/system/cpu/vulnerabilities").glob("*"))
    active = [path.name for path in names if _first(str(path)).startswith("Mitigation")]
    return ", ".join(active) or "none"


def _first(path: str) -> str:
    try:
        return (Path(path).read_text().splitlines() or [""])[0].strip()
    except OSError:
        return ""


def _version(argv: list[str]) -> str:
    if shutil.which(argv[0]) is None:
        return "not installed"
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "does not answer"
    return (done.stdout.strip().splitlines() or ["says nothing"])[0]
