"""Which accelerator this host offers: reads /dev/kvm and the CPU flags, decides nothing else.

A /dev/kvm without VMX or SVM in the CPU flags is software (KVM on PVM, a guest's para-virtual
KVM): its guests run their real-mode start-up through an instruction emulator, and its exits cost
tens of microseconds. It is taken only when asked for by name.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pycontain.errors import UnsupportedError, UsageError

KVM = Path("/dev/kvm")
CPUINFO = Path("/proc/cpuinfo")


def kvm_reason(kvm: Path = KVM, cpuinfo: Path = CPUINFO) -> str:
    """Return why KVM is not to be used here, "" when it is."""
    if not kvm.exists():
        return "no /dev/kvm"
    if not os.access(kvm, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened"
    flags = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    if flags is None or not {"vmx", "svm"} & set(flags[1].split()):
        return "/dev/kvm is software (no VMX or SVM in the CPU flags)"
    return ""


def choose(asked: str) -> tuple[str, str]:
    """Return (accelerator, warning) for `asked`: kvm, tcg or auto."""
    if asked == "tcg":
        return "tcg", ""
    if asked not in ("kvm", "auto"):
        raise UsageError(f"unknown accelerator {asked}", hint="kvm, tcg or auto")
    reason = kvm_reason()
    if asked == "auto":
        return ("tcg" if reason else "kvm"), ""
    if reason and not os.access(KVM, os.R_OK | os.W_OK):
        raise UnsupportedError(f"cannot use kvm: {reason}", hint="use --accel tcg")
    warning = (
        f"{reason}: nested software virtualization, not comparable with hardware" if reason else ""
    )
    return "kvm", warning


def tsc_khz(cpuinfo: Path = CPUINFO) -> int:
    """Return the host's TSC rate in kHz as the kernel prints it, 0 where it does not."""
    found = re.search(r"^cpu MHz\s*:\s*([0-9.]+)", cpuinfo.read_text(), re.MULTILINE)
    return round(float(found[1]) * 1000) if found else 0
