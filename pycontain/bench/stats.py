"""The arithmetic of the comparison: quantiles, bootstrap intervals, verdicts. Pure.

The interval of a ratio is the percentile bootstrap of the ratio of medians (Efron 1979), seeded,
so that the same samples give the same report. A ratio is called different from 1 only when its
interval excludes 1 and lies outside the noise floor: the interval the harness finds between two
arms that are the same thing (A/A).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 2000
CONFIDENCE = 0.95
SEED = 20260101
P99_NEEDS = 100


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One arm's figures for one metric. `p99` of fewer than 100 samples is their maximum."""

    count: int
    minimum: float
    median: float
    p99: float
    maximum: float

    @property
    def p99_is_maximum(self) -> bool:
        """True when there are too few samples for a 99th percentile."""
        return self.count < P99_NEEDS


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of medians with its 95 % interval."""

    value: float
    low: float
    high: float


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the `share` quantile of ascending values, interpolated linearly."""
    if not ordered:
        raise ValueError("no values")
    at = share * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def summarise(values: Sequence[float]) -> Summary:
    """Return the summary of at least one value."""
    ordered = sorted(values)
    p99 = quantile(ordered, 0.99) if len(ordered) >= P99_NEEDS else ordered[-1]
    return Summary(
        count=len(ordered),
        minimum=ordered[0],
        median=median(ordered),
        p99=p99,
        maximum=ordered[-1],
    )


def ratio_of_medians(values: Sequence[float], base: Sequence[float]) -> Ratio | None:
    """Return median(values) / median(base) with its interval; None when the base is zero.

    With fewer than two values on either side the interval is unbounded, for one run shows no
    spread.
    """
    if not values or not base or median(base) <= 0:
        return None
    value = median(values) / median(base)
    if len(values) < 2 or len(base) < 2:
        return Ratio(value=value, low=0.0, high=float("inf"))
    draw = random.Random(SEED)
    ratios = sorted(_resampled(draw, values) / _resampled(draw, base) for _ in range(RESAMPLES))
    tail = (1 - CONFIDENCE) / 2
    return Ratio(value=value, low=quantile(ratios, tail), high=quantile(ratios, 1 - tail))


def _resampled(draw: random.Random, values: Sequence[float]) -> float:
    return median(draw.choices(values, k=len(values)))


def noise_floor(same: Ratio | None) -> float:
    """Return by how much two equal arms differ, from the A/A ratio (0.05: a factor of 1.05)."""
    if same is None or same.high == float("inf"):
        return float("inf")
    return max(same.high, 1 / same.low if same.low > 0 else float("inf")) - 1


def verdict(ratio: Ratio | None, floor: float) -> str:
    """Return `slower`, `faster` or `no difference shown`, for a metric where less is better."""
    if ratio is None:
        return "not comparable"
    if ratio.low > 1 and ratio.value > 1 + floor:
        return "slower"
    if ratio.high < 1 and ratio.value < 1 / (1 + floor):
        return "faster"
    return "no difference shown"


def ecdf(values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the steps (value, share of values up to it) of the distribution."""
    ordered = sorted(values)
    return [(value, (index + 1) / len(ordered)) for index, value in enumerate(ordered)]
