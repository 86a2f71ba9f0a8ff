"""The verbs of `pycontain hypervisor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pycontain.bench import counting
from pycontain.cli.hypervisor import group, parse_size
from pycontain.errors import NotFoundError, PycontainError, UsageError
from pycontain.vm.sim.profiles import profiles
from pycontain.vm.sim.trace import WorkloadTrace

ROOT = Path(__file__).parents[4]
ROW = str(ROOT / "tests/data/scenarios/boot/fc20-qemu.json")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(group, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_list_names_every_profile() -> None:
    text = invoke("list")
    assert "SIMULATED" in text and all(name in text for name in profiles())
    assert len(json.loads(invoke("list", "--format", "json"))["profiles"]) == len(profiles())


def test_show_prints_each_constant_with_its_source() -> None:
    rows = json.loads(invoke("show", "firecracker", "--format", "json"))["constants"]
    names = {row["constant"] for row in rows}
    assert {"t_vmm_fc", "c_exit", "c_ept", "m_vmm_fc"} <= names
    assert "c_pte_pv" not in names and all(row["source"] for row in rows)
    assert "c_pte_pv" in invoke("show", "firecracker", "--all")


def test_show_follows_the_hardware() -> None:
    assert "c_bt_pf" in invoke("show", "vmware-workstation-bt", "--hardware", "p4_2003")


def test_predict_answers_a_scenario() -> None:
    assert "SIMULATED" in invoke("predict", ROW)
    found = json.loads(invoke("predict", ROW, "--format", "json"))
    assert found["kind"] == "SIMULATED" and found["value"]["kind"] == "SIMULATED"
    assert 200 < found["value"]["median"] < 300


def test_predict_of_no_file_is_one_error() -> None:
    with pytest.raises(NotFoundError):
        invoke("predict", "/nonexistent/row.json")


def test_run_explains_a_measured_workload(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def measure(image: str, argv: list[str], *, data_root: str = "") -> WorkloadTrace:
        seen.append((image, argv))
        return WorkloadTrace(t_user_s=0.1, t_sys_s=0.1, wall_s=0.2, syscalls=100, rung="rusage")

    monkeypatch.setattr(counting, "measure", measure)
    text = invoke("run", "xen-pv", "--draws", "100", "busybox", "sh", "-c", "ls -l")
    assert seen == [("busybox", ["sh", "-c", "ls -l"])]
    assert "syscall bounce" in text and "estimated" in text
    found = json.loads(
        invoke("run", "xen-pv", "--draws=100", "--format", "json", "busybox", "ls", "-l")
    )
    assert found["kind"] == "SIMULATED" and found["trace"]["syscalls"] == 100
    assert seen[-1] == ("busybox", ["ls", "-l"])


def test_run_checks_the_profile_before_it_runs_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: Any, **__: Any) -> WorkloadTrace:
        raise AssertionError("measured although the profile is unknown")

    monkeypatch.setattr(counting, "measure", measure)
    with pytest.raises(PycontainError, match="no hypervisor profile"):
        invoke("run", "bochs", "busybox", "true")


@pytest.mark.parametrize(("text", "size"), [("512m", 512 << 20), ("1G", 1 << 30), ("4096", 4096)])
def test_a_size_is_bytes_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "1.5g", "-1m", "\uff11m", "1mb"])
def test_what_is_no_size_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse_size(text)
