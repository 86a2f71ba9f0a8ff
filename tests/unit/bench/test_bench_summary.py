"""Rows from samples: what may be concluded and what may not."""

from __future__ import annotations

from dataclasses import asdict, replace

from pycontain.bench.model import Kind, Metric, Sample, Workload
from pycontain.bench.summary import Row, sections

WORKLOAD = Workload(name="w", argv=("true",))
META = {"workloads": [asdict(WORKLOAD)]}


def one(arm: str, wall: float, **changes: object) -> Sample:
    sample = Sample(
        arm=arm,
        workload="w",
        group="compare",
        kind=Kind.MEASURED,
        sequence=0,
        warmup=False,
        status=0,
        metrics={"wall": Metric(value=wall, unit="s")},
        output_sha256="same",
    )
    return replace(sample, **changes)  # type: ignore[arg-type]


def several(arm: str, around: float, **changes: object) -> list[Sample]:
    return [one(arm, around * (1 + step / 1000), **changes) for step in range(12)]


def rows(samples: list[Sample]) -> dict[str, Row]:
    (section,) = sections(META, samples)
    return {row.arm: row for row in section.rows}


BASE = several("native", 0.010) + several("native-again", 0.010)


def test_a_slower_arm_is_called_slower():
    found = rows(BASE + several("runc", 0.030))
    assert found["runc"].verdict == "slower"
    assert found["native"].verdict == "base"
    assert found["native-again"].verdict == "noise floor"


def test_warm_up_is_not_counted():
    found = rows([*BASE, one("runc", 9.0, warmup=True), *several("runc", 0.030)])
    assert found["runc"].summary is not None and found["runc"].summary.maximum < 1


def test_an_arm_with_other_output_is_not_compared():
    found = rows(BASE + several("runc", 0.001, output_sha256="other"))
    assert found["runc"].verdict == "other output"
    assert found["runc"].ratio is None


def test_an_arm_with_another_exit_status_is_not_compared():
    assert rows(BASE + several("runc", 0.001, status=1))["runc"].verdict == "other output"


def test_a_failed_arm_is_listed_with_its_reason():
    failed = one("crun", 0, status=-1, metrics={}, note="hybrid cgroups")
    found = rows([*BASE, failed])["crun"]
    assert (found.verdict, found.note) == ("failed", "hybrid cgroups")


def test_an_arm_that_recovered_is_not_a_failed_one():
    found = rows([*BASE, one("crun", 0, status=-1, metrics={}), *several("crun", 0.02)])
    assert found["crun"].verdict == "slower"


def test_an_emulated_arm_gets_no_verdict():
    found = rows(BASE + several("qemu", 2.0, kind=Kind.EMULATED))
    assert found["qemu"].verdict == "emulated"


def test_a_simulated_interval_is_carried_into_the_ratio():
    metric = {"wall": Metric(value=0.4, unit="s", low=0.3, high=0.5)}
    found = rows([*BASE, one("sim:x", 0.4, kind=Kind.SIMULATED, metrics=metric)])["sim:x"]
    assert found.ratio is not None
    assert found.ratio.low < found.ratio.value < found.ratio.high
    assert found.verdict == "simulated"


def test_without_an_a_a_arm_nothing_is_different():
    found = rows(several("native", 0.01) + several("runc", 0.03))
    assert found["runc"].verdict == "no difference shown"


def test_native_comes_first_and_kinds_stay_together():
    samples = BASE + several("qemu", 0.001, kind=Kind.EMULATED) + several("bwrap", 0.005)
    (section,) = sections(META, samples)
    assert [row.arm for row in section.rows] == ["native", "native-again", "bwrap", "qemu"]


def test_three_runs_show_nothing():
    found = rows(
        several("native", 0.010)[:3] + several("native-again", 0.010)[:3] + several("runc", 9)[:3]
    )
    assert found["runc"].verdict == "too few runs"
    enough = rows(
        several("native", 0.010)[:4] + several("native-again", 0.010)[:4] + several("runc", 9)[:4]
    )
    assert enough["runc"].verdict == "slower"


def test_memory_is_more_or_less_and_never_slower():
    meta = {"workloads": [asdict(replace(WORKLOAD, metric="pss"))]}

    def held(arm: str, mebibytes: float) -> list[Sample]:
        size = {"pss": Metric(value=mebibytes * 2**20, unit="B")}
        return [one(arm, 0, metrics=size)] * 4

    (section,) = sections(meta, held("native", 2) + held("native-again", 2) + held("runc", 9))
    assert {row.arm: row.verdict for row in section.rows}["runc"] == "more"


def simulated(**metrics: float) -> Sample:
    values = {name: Metric(value=value, unit="s") for name, value in metrics.items()}
    wall = Metric(value=metrics["wall"], unit="s", low=metrics["wall"], high=metrics["wall"])
    return one("sim:x", 0, kind=Kind.SIMULATED, metrics={**values, "wall": wall})


def test_a_simulated_figure_moves_to_this_comparisons_native_median():
    # Traced at 20 ms, where native's median is 10 ms here: the command's 22 ms become 11.
    sample = simulated(wall=0.122, command=0.022, traced_wall=0.020)
    found = rows([*[one(name, 0.010) for name in ("native", "native-again")] * 6, sample])["sim:x"]
    assert found.summary is not None and abs(found.summary.median - 0.111) < 1e-9
    assert found.ratio is not None and abs(found.ratio.value - 11.1) < 1e-6
