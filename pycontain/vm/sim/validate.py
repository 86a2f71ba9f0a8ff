"""Scoring the simulator against published rows.

Owns the scores (median |ln|, bias, coverage, Kendall tau) and the gates. Only rows no constant
was chosen with are scored; every row is shown.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from pycontain.errors import NotFoundError
from pycontain.vm.sim.estimate import DRAWS, Interval
from pycontain.vm.sim.predict import answer
from pycontain.vm.sim.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

GATES = {"micro": 0.40, "boot": 0.30, "memory": 0.15}
TAU_GATE = 0.8
FAIR = math.log(1.5)
"""A row off by more than half is listed as failed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One scored scenario, in its own unit."""

    scenario: Scenario
    predicted: Interval
    expected: float

    @property
    def error(self) -> float:
        """ln(predicted / expected)."""
        return math.log(max(self.predicted.median, 1e-300) / self.expected)

    @property
    def covered(self) -> bool:
        """Whether the 5-95 % interval holds the published value."""
        return self.predicted.low <= self.expected <= self.predicted.high

    @property
    def failed(self) -> bool:
        """Whether the row is off by more than half."""
        return abs(self.error) > FAIR


@dataclass(frozen=True, kw_only=True)
class Score:
    """How well a set of rows is predicted; `tau` is None where nothing can be ordered."""

    rows: int
    error: float
    bias: float
    coverage: float
    tau: float | None
    failed: int


def load_rows(directory: Path, *, draws: int = DRAWS) -> list[Row]:
    """Return every scenario of a directory (or one file) with an expected value, answered."""
    files = [directory] if directory.is_file() else sorted(directory.rglob("*.json"))
    if not files:
        raise NotFoundError(f"no scenario in {directory}")
    scenarios = [load_scenario(file) for file in files]
    return [row_of(each, draws=draws) for each in scenarios if each.expected is not None]


def row_of(scenario: Scenario, *, draws: int = DRAWS) -> Row:
    """Answer one scenario that has an expected value."""
    if scenario.expected is None:
        raise scenario.wants("expected")
    found = answer(scenario, draws=draws)
    return Row(scenario=scenario, predicted=found.value, expected=scenario.expected)


def score(rows: Sequence[Row]) -> Score:
    """Return the scores of some rows; there must be one at least."""
    return Score(
        rows=len(rows),
        error=statistics.median(abs(row.error) for row in rows),
        bias=statistics.median(row.error for row in rows),
        coverage=sum(row.covered for row in rows) / len(rows),
        tau=kendall(rows),
        failed=sum(row.failed for row in rows),
    )


def kendall(rows: Iterable[Row]) -> float | None:
    """Return Kendall's tau (b) over the pairs of rows of the same series.

    A pair published within 2 % of each other says nothing about an order and is left out; a pair
    the model ties, where the publication does not, counts against it by half.
    """
    agree = 0.0
    pairs = 0
    for one, two in combinations(list(rows), 2):
        series = one.scenario.document.get("series")
        if not series or series != two.scenario.document.get("series"):
            continue
        published = math.log(one.expected / two.expected)
        if abs(published) < 0.02:
            continue
        pairs += 1
        predicted = math.log(one.predicted.median / two.predicted.median)
        if abs(predicted) >= 0.002:
            agree += 1.0 if predicted * published > 0 else -1.0
    return agree / pairs if pairs else None


def by(rows: Iterable[Row], key: str) -> dict[str, list[Row]]:
    """Return rows by a property of their scenario ("group" or "tag"), in order of appearance."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(getattr(row.scenario, key), []).append(row)
    return found


def gates(rows: Sequence[Row]) -> dict[str, tuple[float | None, float, bool]]:
    """Return each gate as (score, limit, passed) over the predict rows of all groups.

    The score is None, and the gate closed, where no row could open it.
    """
    predict = [row for row in rows if row.scenario.predicts]
    groups = by(predict, "group")
    found: dict[str, tuple[float | None, float, bool]] = {}
    for group, limit in GATES.items():
        error = score(groups[group]).error if group in groups else None
        found[f"{group} median |ln|"] = (error, limit, error is not None and error <= limit)
    tau = kendall(predict)
    found["tau"] = (tau, TAU_GATE, tau is not None and tau >= TAU_GATE)
    return found
