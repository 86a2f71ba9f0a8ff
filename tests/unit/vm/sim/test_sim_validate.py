"""Scores, gates and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pycontain.errors import NotFoundError
from pycontain.vm.sim import scorecard
from pycontain.vm.sim.estimate import Interval
from pycontain.vm.sim.validate import Row, gates, kendall, load_rows, row_of, score

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[4]
SCENARIOS = ROOT / "tests/data/scenarios"


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return load_rows(SCENARIOS, draws=200)


def row(sim: ModuleType, expected: float, median: float, series: str = "s", **keys: object) -> Row:
    found = sim.scenario(series=series, **keys)
    interval = Interval(median=median, low=median * 0.9, high=median * 1.1)
    return Row(scenario=found, predicted=interval, expected=expected)


def test_the_projects_own_rows_pass_every_gate(rows: list[Row]) -> None:
    for name, (found, limit, passed) in gates(rows).items():
        assert passed, f"{name}: {found} against {limit}"


def test_no_row_is_both_fitted_and_scored(rows: list[Row]) -> None:
    predict = [each for each in rows if each.scenario.predicts]
    assert 60 < len(predict) < len(rows)


def test_every_evidence_tag_of_the_fact_base_has_rows(rows: list[Row]) -> None:
    assert {each.scenario.tag for each in rows} >= {"V", "V2", "R", "M"}


def test_error_bias_and_coverage(sim: ModuleType) -> None:
    found = score([row(sim, 100, 100), row(sim, 100, 105), row(sim, 100, 300)])
    assert found.error == pytest.approx(0.04879, rel=1e-3)
    assert found.bias > 0
    assert found.coverage == pytest.approx(2 / 3)
    assert found.failed == 1


def test_tau_is_one_for_the_right_order_and_minus_one_for_the_wrong(sim: ModuleType) -> None:
    assert kendall([row(sim, 1, 10), row(sim, 2, 20), row(sim, 3, 30)]) == 1
    assert kendall([row(sim, 1, 30), row(sim, 2, 20), row(sim, 3, 10)]) == -1


def test_tau_compares_only_within_a_series_and_ignores_published_ties(sim: ModuleType) -> None:
    assert kendall([row(sim, 1, 2, "a"), row(sim, 2, 1, "b")]) is None
    assert kendall([row(sim, 100, 50), row(sim, 100.5, 60)]) is None


def test_a_bad_row_fails_its_gate(sim: ModuleType) -> None:
    bad = row(sim, 100, 1000, group="boot")
    assert gates([bad])["boot median |ln|"][2] is False


def test_a_fitted_row_opens_no_gate(sim: ModuleType) -> None:
    fitted = row(sim, 100, 100, group="boot", use="fit")
    assert gates([fitted])["boot median |ln|"][2] is False


def test_a_row_without_a_published_value_cannot_be_scored(sim: ModuleType) -> None:
    with pytest.raises(Exception, match="expected"):
        row_of(sim.scenario(), draws=100)


def test_the_report_exits_nonzero_when_a_gate_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {
        "name": "bad",
        "quantity": "boot",
        "unit": "ms",
        "hypervisor": {"profile": "kvm-qemu"},
        "expected": {"value": 1},
    }
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    assert scorecard.main([str(tmp_path), "--draws", "100"]) == 1
    shown = capsys.readouterr()
    assert "FAIL" in shown.out and "gate failed: boot" in shown.err


def test_rows_of_somebody_else_need_not_cover_every_gate(tmp_path: Path) -> None:
    file = tmp_path / "good.json"
    good = {
        "name": "good",
        "quantity": "boot",
        "unit": "ms",
        "hardware": {"class": "skx_2019"},
        "hypervisor": {"profile": "firecracker"},
        "expected": {"value": 150},
    }
    file.write_text(json.dumps(good))
    assert scorecard.main([str(tmp_path), "--draws", "100"]) == 0
    assert scorecard.main([str(file), "--draws", "100"]) == 0


def test_the_report_of_a_broken_directory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scorecard.main([str(tmp_path)]) == 2
    (tmp_path / "bad.json").write_text("{")
    assert scorecard.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 2
    with pytest.raises(NotFoundError):
        load_rows(tmp_path / "none")


def test_the_documents_tables_are_those_of_the_rows(rows: list[Row]) -> None:
    text = (ROOT / "docs/simulator.md").read_text("utf-8")
    table = text.partition(scorecard.BEGIN)[2]
    for each in rows:
        assert f"| {each.scenario.name} |" in table, each.scenario.name
