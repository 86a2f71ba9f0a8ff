"""Figures as text, and the tables."""

from __future__ import annotations

import csv

import pytest

from pycontain.bench import stats, text
from pycontain.bench.model import Kind
from pycontain.bench.summary import Row, Section


def row(**changes: object) -> Row:
    values: dict[str, object] = {
        "workload": "w",
        "arm": "runc",
        "kind": Kind.MEASURED,
        "metric": "wall",
        "unit": "s",
        "summary": stats.summarise([0.0301, 0.0323, 0.0345]),
        "interval": None,
        "ratio": stats.Ratio(value=3.21, low=3.0, high=3.5),
        "verdict": "slower",
        "same_output": True,
        "contended": 0,
        "retries": 0,
        "failures": 0,
        "note": "",
        "values": (0.0301, 0.0323, 0.0345),
    }
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def section(*rows: Row) -> Section:
    return Section(workload="w", text="", group="g", metric="wall", floor=0.05, rows=rows)


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0323, "s", "32.3 ms"),
        (2.5e-7, "s", "250 ns"),
        (61.0, "s", "61 s"),
        (1.64, "ns", "1.64 ns"),
        (345184.0, "ns", "345 µs"),
        (2 << 30, "B", "2 GiB"),
        (1023, "B", "1020 B"),
        (0.0, "s", "0 ns"),
        (12.0, "1", "12"),
    ],
)
def test_a_figure_is_shown_in_the_unit_that_fits(value, unit, expected):
    assert text.figure(value, unit) == expected


def test_a_simulated_figure_has_two_digits():
    shown = row(kind=Kind.SIMULATED, summary=stats.summarise([0.4567]), interval=(0.4321, 0.4999))
    assert text.cells(shown)[4] == "460 ms"
    assert text.cells(shown)[3] == "5 % 430 ms"


def test_every_row_names_its_kind():
    rows = [row(kind=kind, interval=(0.03, 0.04)) for kind in Kind]
    table = text.plain([section(*rows)])
    assert "measured" in table and "emulated" in table and "SIMULATED" in table


@pytest.mark.parametrize("kind", [Kind.EMULATED, Kind.SIMULATED])
def test_only_measured_rows_get_a_verdict(kind):
    cells = text.cells(row(kind=kind, interval=(0.03, 0.04)))
    assert "slower" not in cells[-1]


def test_few_samples_show_a_maximum_and_say_so():
    assert text.cells(row())[5].startswith("≤")


def test_contention_and_retries_stand_beside_the_verdict():
    cells = text.cells(row(contended=2, retries=1))
    assert "2 contended" in cells[-1] and "1 boots retried" in cells[-1]


def test_a_failed_arm_says_why():
    cells = text.cells(row(summary=None, ratio=None, verdict="failed", note="no daemon"))
    assert cells[-1] == "failed: no daemon"


def test_csv_is_unrounded_and_carries_the_kind():
    lines = list(csv.DictReader(text.csv_text([section(row())]).splitlines()))
    assert float(lines[0]["median"]) == 0.0323
    assert lines[0]["kind"] == "measured"


def test_a_pipe_does_not_break_the_markdown_table():
    table = text.markdown([section(row(arm="a|b"))])
    assert "a\\|b" in table


def test_the_noise_floor_is_named():
    assert "±5.0 %" in text.floor_text(section())
