"""From samples to rows: one row for each workload and arm, ready to be shown in any form.

Owns what a reader may conclude. A row carries its kind; a verdict is given only to measured rows
against native, with the A/A arm as the noise floor. Emulated and simulated rows show their ratio
and no verdict: they are not measurements of a VM on hardware. A row whose exit status or output
differs from native's is not compared at all. A simulated figure was made from a native run of its
own; it is moved to the native median of this comparison, so that the figures of one table agree.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pycontain.bench import stats
from pycontain.bench.model import FAILED, TRACED, Kind, Metric, Sample
from pycontain.bench.stats import Ratio, Summary

if TYPE_CHECKING:
    from collections.abc import Sequence

NATIVE, NATIVE_AGAIN = "native", "native-again"
OTHER_OUTPUT = "other output"
ENOUGH = 4
"""Runs below which nothing is called different: of three against three, one order in twenty is
extreme by chance."""
MORE_WORDS = {"slower": "more", "faster": "less"}
"""What a verdict is called where the figure is a size."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm's result for one workload. `interval` is the simulated one, or the median's own."""

    workload: str
    arm: str
    kind: Kind
    metric: str
    unit: str
    summary: Summary | None
    interval: tuple[float, float] | None
    ratio: Ratio | None
    verdict: str
    same_output: bool | None
    contended: int
    retries: int
    failures: int
    note: str
    values: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Section:
    """All rows of one workload; `floor` is the A/A noise floor (0.03: within 3 % is noise)."""

    workload: str
    text: str
    group: str
    metric: str
    floor: float
    rows: tuple[Row, ...]
    stages: dict[str, dict[str, float]] = field(default_factory=dict)


def sections(meta: dict[str, Any], samples: Sequence[Sample]) -> list[Section]:
    """Return one section for each workload of `meta`, in its order."""
    return [
        _section(workload, [one for one in samples if one.workload == workload["name"]])
        for workload in meta["workloads"]
    ]


def _section(workload: dict[str, Any], samples: list[Sample]) -> Section:
    metric = workload["metric"]
    counted = [one for one in samples if not one.warmup or one.status == FAILED]
    arms = list(dict.fromkeys(one.arm for one in counted))
    base = _values(counted, NATIVE, metric)
    floor = stats.noise_floor(stats.ratio_of_medians(_values(counted, NATIVE_AGAIN, metric), base))
    expected = _expected([one for one in counted if one.arm == NATIVE])
    rows = [
        _row(workload, arm, [one for one in counted if one.arm == arm], base, floor, expected)
        for arm in arms
    ]
    order = {kind: number for number, kind in enumerate(Kind)}
    rows.sort(
        key=lambda row: (order[row.kind], row.arm != NATIVE, row.arm != NATIVE_AGAIN, _height(row))
    )
    return Section(
        workload=workload["name"],
        text=workload["text"],
        group=workload["group"],
        metric=metric,
        floor=floor,
        rows=tuple(rows),
        stages={
            row.arm: _stages([one for one in counted if one.arm == row.arm], base) for row in rows
        },
    )


def _height(row: Row) -> float:
    return row.summary.median if row.summary else float("inf")


def _values(samples: list[Sample], arm: str, metric: str) -> list[float]:
    values = [one.value(metric) for one in samples if one.arm == arm]
    return [value for value in values if value is not None]


def _expected(native: list[Sample]) -> tuple[int, str] | None:
    """Return the exit status and output most native runs had."""
    seen = Counter((one.status, one.output_sha256) for one in native if one.status != FAILED)
    return seen.most_common(1)[0][0] if seen else None


def _row(
    workload: dict[str, Any],
    arm: str,
    samples: list[Sample],
    base: list[float],
    floor: float,
    expected: tuple[int, str] | None,
) -> Row:
    metric = workload["metric"]
    kind = samples[0].kind
    good = [one for one in samples if one.status != FAILED]
    same = (
        None
        if expected is None or not good
        else all((one.status, one.output_sha256) == expected for one in good)
    )
    figures = [one.metrics[metric] for one in good if metric in one.metrics]
    values = [figure.value for figure in figures]
    compared = values if same is not False else []
    ratio = stats.ratio_of_medians(compared, base) if kind is not Kind.SIMULATED else None
    interval = _interval(figures)
    if kind is Kind.SIMULATED and interval and base:
        shift, factor = _moved(good[0], metric, base)
        values = [value * factor + shift for value in values]
        interval = interval[0] * factor + shift, interval[1] * factor + shift
        middle = stats.summarise(base).median
        ratio = Ratio(value=values[0] / middle, low=interval[0] / middle, high=interval[1] / middle)
    return Row(
        workload=workload["name"],
        arm=arm,
        kind=kind,
        metric=metric,
        unit=figures[0].unit if figures else "",
        summary=stats.summarise(values) if values else None,
        interval=interval,
        ratio=ratio,
        verdict=_verdict(arm, kind, same, bool(values))
        or judged(ratio, floor, metric, values, base),
        same_output=same,
        contended=sum(one.contended for one in good),
        retries=sum(one.retries for one in samples),
        failures=len(samples) - len(good),
        note=next((one.note for one in [*good, *samples] if one.note), ""),
        values=tuple(values),
    )


def _moved(sample: Sample, metric: str, base: list[float]) -> tuple[float, float]:
    """Return what moves a simulated figure to this comparison's native median: shift and factor.

    A figure of the workload's own stretches as a whole; of the elapsed time only the command's part
    does, for the start-up does not depend on it.
    """
    traced = sample.value(TRACED + metric)
    if not traced:
        return 0.0, 1.0
    factor = stats.summarise(base).median / traced
    if metric == "wall":
        return (sample.value("command") or 0.0) * (factor - 1), 1.0
    return 0.0, factor


def _interval(figures: list[Metric]) -> tuple[float, float] | None:
    if not figures or figures[0].low is None or figures[0].high is None:
        return None
    return figures[0].low, figures[0].high


def _verdict(arm: str, kind: Kind, same: bool | None, ran: bool) -> str:
    """Return why a row is not judged, "" when it is."""
    if not ran:
        return "failed"
    if same is False:
        return OTHER_OUTPUT
    if kind is not Kind.MEASURED:
        return kind.value
    return {NATIVE: "base", NATIVE_AGAIN: "noise floor"}.get(arm, "")


def judged(
    ratio: Ratio | None,
    floor: float,
    metric: str,
    values: Sequence[float],
    base: Sequence[float],
) -> str:
    """Return what a ratio of `values` over `base` shows."""
    if ratio is not None and min(len(values), len(base)) < ENOUGH:
        return "too few runs"
    found = stats.verdict(ratio, floor)
    return MORE_WORDS.get(found, found) if metric == "pss" else found


def _stages(samples: list[Sample], base: list[float]) -> dict[str, float]:
    """Return the median of each stage a guest or a model reports, else of the start as a whole."""
    names = list(dict.fromkeys(name for one in samples for name in one.metrics))
    wanted = [name for name in names if name.startswith("stage_")] or [
        name for name in ("to_command", "after_command") if name in names
    ]
    if samples and samples[0].kind is Kind.SIMULATED and "command" in names:
        wanted.append("command")
    found = {
        ("workload" if name == "command" else name.removeprefix("stage_")): stats.summarise(
            [value for one in samples if (value := one.value(name)) is not None]
        ).median
        for name in wanted
    }
    if "workload" in found and base:
        found["workload"] += _moved(samples[0], "wall", base)[0]
    return found
