"""Calibration: which KVM is refused, what is kept, and the guest's few instructions."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import InvalidError
from pycontain.vm.sim import calibrate
from pycontain.vm.sim.calibrate import Calibration, software_kvm
from pycontain.vm.sim.constants import load_constants
from pycontain.vm.sim.kvmguest import counted

if TYPE_CHECKING:
    from pathlib import Path

FOUND = Calibration(
    fingerprint=calibrate.fingerprint(),
    model="a processor",
    clock_hz=3e9,
    nested=False,
    cycles={"cpuid": 1500.0, "pio_user": 6000.0},
)


def fake_host(root: Path, flags: str, *, module: str = "", config: str = "") -> Path:
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(f"processor : 0\nflags : fpu {flags}\n")
    (root / "proc/config.gz").write_bytes(gzip.compress(config.encode()))
    if module:
        (root / "sys/module" / module).mkdir(parents=True)
    return root


def test_hardware_kvm_is_accepted(tmp_path: Path) -> None:
    assert software_kvm(fake_host(tmp_path, "vmx", module="kvm_intel")) == ""


def test_a_processor_without_vmx_or_svm_is_refused(tmp_path: Path) -> None:
    host = fake_host(tmp_path, "sse", config="CONFIG_KVM_PVM=y\n")
    assert "neither vmx nor svm" in software_kvm(host) and "CONFIG_KVM_PVM" in software_kvm(host)


def test_a_loaded_pvm_module_is_refused_whatever_the_flags(tmp_path: Path) -> None:
    assert "PVM" in software_kvm(fake_host(tmp_path, "vmx", module="kvm_pvm"))


def test_a_host_without_proc_is_refused(tmp_path: Path) -> None:
    assert software_kvm(tmp_path)


def test_a_calibration_is_kept_and_found_again(tmp_path: Path) -> None:
    path = calibrate.save(FOUND, str(tmp_path))
    assert path.name == f"{FOUND.fingerprint}.json"
    assert calibrate.load(str(tmp_path)) == FOUND
    assert os.listdir(path.parent) == [path.name]


def test_no_calibration_is_none_and_a_broken_one_an_error(tmp_path: Path) -> None:
    assert calibrate.load(str(tmp_path)) is None
    path = calibrate.save(FOUND, str(tmp_path))
    for text in ("{", "[]", '{"kind": "measured"}'):
        path.write_text(text)
        with pytest.raises(InvalidError, match="calibration"):
            calibrate.load(str(tmp_path))


def test_measured_costs_replace_the_published_ones() -> None:
    constants = FOUND.constants(load_constants("zen4_2023"))
    assert constants["c_exit"].value == constants["c_exit"].low == 1500
    assert constants["c_exit"].tag == "C"
    assert constants["c_dev"].tag == "A"


def test_a_counted_loop_jumps_back_to_its_body() -> None:
    code = counted(b"\x90\x90", 5)
    assert code == b"\x66\xbe\x05\x00\x00\x00" + b"\x90\x90\x66\x4e" + b"\x75\xfa" + b"\xe6\x10"


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="needs /dev/kvm")
def test_the_guest_leaves_by_its_port_and_its_halt() -> None:
    # Only that the ioctls and the code are right; on a software KVM the times mean nothing.
    argv = [sys.executable, "-m", "pycontain.vm.sim.kvmguest", "1", "pio_user", "hlt_user"]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"pio_user" in done.stdout
