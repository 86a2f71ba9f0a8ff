"""Samples as JSON lines."""

from __future__ import annotations

import json

import pytest

from pycontain.bench.model import Kind, Limits, Metric, Sample, sample_from_line
from pycontain.errors import InvalidError


def sample(**changes: object) -> Sample:
    values: dict[str, object] = {
        "arm": "runc",
        "workload": "startup",
        "group": "startup",
        "kind": Kind.MEASURED,
        "sequence": 3,
        "warmup": False,
        "status": 0,
        "metrics": {"wall": Metric(value=0.03, unit="s")},
        "dimensions": {"accel": "tcg"},
    }
    return Sample(**{**values, **changes})  # type: ignore[arg-type]


def test_a_sample_survives_its_line():
    assert sample_from_line(sample().to_line()) == sample()


def test_a_line_carries_kind_unit_and_schema():
    line = json.loads(sample(kind=Kind.SIMULATED).to_line())
    assert line["kind"] == "simulated"
    assert line["metrics"]["wall"]["unit"] == "s"
    assert line["schema"] == 1


@pytest.mark.parametrize(
    "line",
    ["", "{}", "[]", "null", '{"schema":2}', '{"schema":1,"arm":"x"}', sample().to_line()[:-1]],
)
def test_a_broken_line_is_invalid(line):
    with pytest.raises(InvalidError):
        sample_from_line(line)


def test_an_unknown_kind_is_invalid():
    with pytest.raises(InvalidError):
        sample_from_line(sample().to_line().replace('"measured"', '"guessed"'))


def test_a_missing_metric_is_none_and_not_zero():
    assert sample().value("pss") is None
    assert sample(metrics={"pss": Metric(value=0.0, unit="B")}).value("pss") == 0.0


def test_a_cpuset_alone_needs_no_cgroup():
    assert not Limits(cpuset="0").any
    assert Limits(pids=0).any
