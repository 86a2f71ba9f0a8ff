"""Predictions for a measured workload, and the trace they start from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontain.errors import InvalidError, NotFoundError, UsageError
from pycontain.vm.sim import render
from pycontain.vm.sim.hardware import hardware, host
from pycontain.vm.sim.predict import Prediction, predict
from pycontain.vm.sim.profiles import profiles
from pycontain.vm.sim.trace import WorkloadTrace, filled

MIB = 2**20
CHIP = hardware()
TRACE = WorkloadTrace(
    t_user_s=0.1,
    t_sys_s=0.05,
    wall_s=0.16,
    syscalls=9000,
    minor_faults=3000,
    ctx_switches=100,
    forks=20,
    execs=20,
    ticks=40,
    halts=20,
    max_rss_bytes=8 * MIB,
    disk_reads=10,
    disk_read_bytes=10 * 4096,
    rung="tracepoints",
)


def predicted(name: str = "kvm-qemu", trace: WorkloadTrace = TRACE, **changes: Any) -> Prediction:
    values = {"memory_bytes": 256 * MIB, "vcpus": 1, "draws": 200, "chip": CHIP, **changes}
    return predict(name, trace, **values)


@pytest.mark.parametrize("name", sorted(profiles()))
def test_every_profile_is_predicted(name: str) -> None:
    found = predicted(name)
    assert found.kind == "SIMULATED"
    for each in (found.startup, found.run, found.total, *found.memory.values()):
        assert 0 < each.low <= each.median <= each.high
    assert found.total.median == pytest.approx(found.startup.median + found.run.median, rel=0.05)


def test_a_container_run_is_the_native_run() -> None:
    found = predicted("container")
    assert found.run.median == pytest.approx(TRACE.wall_s)
    assert found.exits == () and found.overhead.high == 0


def test_steady_work_does_not_pay_for_memory_touched_first() -> None:
    found = predicted(trace=WorkloadTrace(**{**vars(TRACE), "max_rss_bytes": 64 * MIB}))
    assert found.steady.median < 0.9 * found.slowdown.median


def test_everything_printed_is_labelled_and_rounded() -> None:
    found = predicted()
    document = found.to_json()
    assert document["kind"] == "SIMULATED"
    assert document["run_s"]["kind"] == "SIMULATED"
    assert len(f"{document['total_s']['median']:g}".lstrip("0.").replace(".", "")) <= 2
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert all("SIMULATED" in table.title for table in render.prediction_tables(found))


def test_the_exits_are_explained_with_counts_and_reasons() -> None:
    found = predicted()
    reasons = {row.reason: row for row in found.exits}
    touched = min(256 * MIB, 8 * MIB) / 4096
    assert reasons["EPT_VIOLATION"].count == pytest.approx(touched)
    assert reasons["HLT"].count == 20
    assert [row.seconds.median for row in found.exits] == sorted(
        (row.seconds.median for row in found.exits), reverse=True
    )


def test_the_tornado_has_five_bars_at_most_and_the_largest_first() -> None:
    swings = [each.swing for each in predicted().tornado]
    assert 1 <= len(swings) <= 5
    assert swings == sorted(swings, reverse=True)


def test_the_same_prediction_comes_out_twice() -> None:
    assert predicted() == predicted()


def test_a_technique_and_a_path_can_be_chosen() -> None:
    found = predicted("kvm-qemu", technique="HV2", io_path="qemu")
    assert (found.technique, found.net_path, found.drivers) == ("HV2", "qemu", "emulated")
    assert found.run.median >= predicted("kvm-qemu", io_path="qemu").run.median


def test_counts_that_were_not_measured_are_named_and_widen_the_interval() -> None:
    bare = WorkloadTrace(t_user_s=1, t_sys_s=1, wall_s=2, rung="rusage", minor_faults=1000)
    found = predicted("xen-pv", bare)
    assert "syscalls" in found.estimated and "minor_faults" not in found.estimated
    assert found.overhead.high > 1.5 * found.overhead.low


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"memory_bytes": 1}, UsageError),
        ({"vcpus": 0}, UsageError),
        ({"technique": "MAGIC"}, UsageError),
        ({"io_path": "carrier pigeon"}, UsageError),
        ({"chip": hardware("p4_2003")}, UsageError),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        predicted(**changes)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="kvm-qemu"):
        predicted("bochs")


def test_the_host_is_the_newest_class_at_its_own_clock() -> None:
    found = host()
    assert found.name == "zen4_2023" and found.clock_hz > 1e8 and found.cores >= 1


# --- the trace ------------------------------------------------------------------------------------
def test_a_trace_survives_json() -> None:
    assert WorkloadTrace.from_json(json.loads(json.dumps(TRACE.to_json()))) == TRACE


@pytest.mark.parametrize(
    "change",
    [
        {"t_user_s": -1.0},
        {"syscalls": float("nan")},
        {"class_tags": ["fast"]},
        {"rung": "guess"},
        {"concurrency": 0},
        {"surprise": 1},
        {"t_user_s": "1"},
    ],
)
def test_a_broken_trace_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidError, match="workload trace"):
        WorkloadTrace.from_json({**TRACE.to_json(), **change})


def test_zero_is_a_count_and_stays() -> None:
    whole, estimated = filled(
        WorkloadTrace(t_user_s=1, t_sys_s=1, wall_s=2, syscalls=0, rung="rusage")
    )
    assert whole.syscalls == 0 and "syscalls" not in estimated


def test_ticks_are_guessed_from_cpu_time() -> None:
    whole, estimated = filled(WorkloadTrace(t_user_s=1, t_sys_s=1, wall_s=2, rung="rusage"))
    assert whole.ticks == 500 and "ticks" in estimated
