"""Calibration: exit costs of this host's KVM, and constants that use them.

Owns the decision whether KVM here is hardware, the host's fingerprint and the stored file. The
measuring guest is `kvmguest`, run in a process with a time limit.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontain import paths
from pycontain.errors import InvalidError, KernelError, UnsupportedError

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Constants

LIMIT_S = 60.0
DIRECTORY = "calibration"


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Measured cycles by exit, the clock they were converted with, and the host they hold for."""

    fingerprint: str
    model: str
    clock_hz: float
    nested: bool
    cycles: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        return {"kind": "measured", **asdict(self)}

    def constants(self, constants: Constants) -> Constants:
        """Return `constants` with the measured transition and the way to user space."""
        exit_cycles = self.cycles["cpuid"]
        user = max(1.0, self.cycles["pio_user"] - exit_cycles)
        source = f"measured on {self.model}"
        return constants.with_values(
            {"c_exit": exit_cycles, "c_usr": user, "c_mit": 1.0}, tag="C", source=source
        )


def software_kvm(root: Path = Path("/")) -> str:
    """Return why KVM on this host is no hardware virtualization, "" when it is.

    Looks for a CPU flag (vmx, svm), the PVM module, and CONFIG_KVM_PVM where no flag is there.
    """
    flags = _cpu_flags(root)
    if (root / "sys/module/kvm_pvm").exists():
        return "the loaded KVM module is PVM, which runs guests in software page tables"
    if not flags & {"vmx", "svm"}:
        pvm = "; the kernel has CONFIG_KVM_PVM" if _kernel_option(root, "CONFIG_KVM_PVM") else ""
        return f"the processor shows neither vmx nor svm{pvm}"
    return ""


def _cpu_flags(root: Path) -> set[str]:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.startswith("flags"):
            return set(line.partition(":")[2].split())
    return set()


def _kernel_option(root: Path, name: str) -> bool:
    try:
        data = gzip.decompress((root / "proc/config.gz").read_bytes())
    except (OSError, EOFError, gzip.BadGzipFile):
        return False
    return f"{name}=y".encode() in data or f"{name}=m".encode() in data


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def check_host() -> None:
    """Raise UnsupportedError with one clear line where calibration would measure nothing real."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UnsupportedError("calibration knows only x86_64 Linux")
    if not Path("/dev/kvm").exists():
        raise UnsupportedError("calibrate: no /dev/kvm", hint="load kvm_intel or kvm_amd")
    if reason := software_kvm():
        raise UnsupportedError(
            f"calibrate: KVM here is software: {reason}",
            hint="exit costs measured here would say nothing about hardware",
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise UnsupportedError("calibrate: no access to /dev/kvm", hint="join the group kvm")


def calibrate(*, runs: int = 9) -> Calibration:
    """Measure this host; UnsupportedError where KVM is absent, software, or does not answer."""
    check_host()
    flags = _cpu_flags(Path("/"))
    call = "hypercall_vmcall" if "vmx" in flags else "hypercall_vmmcall"
    seconds = {"cpuid": _measured("cpuid", runs), "pio_user": _measured("pio_user", runs)}
    for name, probe in (("hypercall", call), ("mmio_user", "mmio_user"), ("hlt_user", "hlt_user")):
        # The model needs the first two only; some KVMs refuse the others to a real-mode guest.
        with suppress(UnsupportedError):
            seconds[name] = _measured(probe, runs)
    clock_hz = host_clock_hz()
    return Calibration(
        fingerprint=fingerprint(),
        model=_field("model name"),
        clock_hz=clock_hz,
        nested="hypervisor" in flags,
        cycles={name: value * clock_hz for name, value in seconds.items()},
    )


def _measured(name: str, runs: int) -> float:
    """Return seconds of one exit, measured in a process that is ended when it does not answer."""
    argv = [sys.executable, "-m", "pycontain.vm.sim.kvmguest", str(runs), name]
    try:
        done = subprocess.run(argv, capture_output=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise UnsupportedError(
            f"calibrate: the guest of {name} did not answer within {LIMIT_S:.0f} s",
            hint="this KVM does not run a real-mode guest",
        ) from None
    if done.returncode:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise UnsupportedError(f"calibrate: the guest of {name} failed: {''.join(last)}")
    return float(json.loads(done.stdout)[name])


def host_clock_hz() -> float:
    """Return the clock the processor reports, Hz."""
    value = _field("cpu MHz")
    if not value:
        raise UnsupportedError("calibrate: /proc/cpuinfo names no clock")
    return float(value) * 1e6


def _field(name: str) -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def fingerprint() -> str:
    """Return 16 hex digits of what exit costs depend on: CPU, microcode, kernel, mitigations."""
    parts = [_field("model name"), _field("microcode"), os.uname().release]
    directory = Path("/sys/devices/system/cpu/vulnerabilities")
    if directory.is_dir():
        parts += [f"{file.name}={_read(file).strip()}" for file in sorted(directory.iterdir())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def save(found: Calibration, data_root: str = "") -> Path:
    """Keep a calibration under the data root; return the file."""
    path = _path(found.fingerprint, data_root)
    text = json.dumps(found.to_json(), indent=2) + "\n"
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise KernelError("keep calibration", path, error) from error
    return path


def load(data_root: str = "") -> Calibration | None:
    """Return this host's calibration, None where there is none; a broken file is InvalidError."""
    path = _path(fingerprint(), data_root)
    try:
        values = json.loads(path.read_text("utf-8"))
        values.pop("kind")
        return Calibration(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidError(f"calibration {path}: {error}") from error


def _path(name: str, data_root: str) -> Path:
    return Path(paths.data_root(data_root)) / DIRECTORY / f"{name}.json"
