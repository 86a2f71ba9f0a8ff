"""Monte-Carlo over the constants: median, 5-95 %, and which constants matter.

Owns draws, quantiles and the tornado. It knows no model: a model is a function of Costs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pycontain.vm.sim.constants import SEED, Constants, Costs

KIND = "SIMULATED"
DRAWS = 1000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Median and 5-95 % of one simulated quantity, in one unit."""

    median: float
    low: float
    high: float
    unit: str = ""

    def to_json(self) -> dict[str, object]:
        """Return the interval to two significant digits, labelled."""
        return {
            "kind": KIND,
            "median": rounded(self.median),
            "p5": rounded(self.low),
            "p95": rounded(self.high),
            "unit": self.unit,
        }


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """How far one constant moves the result between the ends of its range."""

    constant: str
    low: float
    high: float
    tag: str

    @property
    def swing(self) -> float:
        """Absolute distance between both results."""
        return abs(self.high - self.low)


Model = Callable[[Costs], float]


def interval(
    model: Model,
    constants: Constants,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
    unit: str = "",
) -> Interval:
    """Return median and 5-95 % of `model` over `draws` draws of every constant it reads."""
    values = sorted(model(Costs(constants, draw=index, seed=seed)) for index in range(draws))
    return of_sorted(values, unit)


def intervals(
    model: Callable[[Costs], dict[str, float]],
    constants: Constants,
    *,
    draws: int = DRAWS,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Return one interval per key of what `model` gives; a missing key counts as zero."""
    columns: dict[str, list[float]] = {}
    for index in range(draws):
        for key, value in model(Costs(constants, draw=index, seed=seed)).items():
            columns.setdefault(key, []).append(value)
    return {key: of_sorted(sorted(values)) for key, values in columns.items()}


def of_sorted(values: Sequence[float], unit: str = "") -> Interval:
    """Return the interval of sorted draws."""
    return Interval(
        median=quantile(values, 0.5),
        low=quantile(values, 0.05),
        high=quantile(values, 0.95),
        unit=unit,
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the quantile of sorted values, between neighbours where it falls between them."""
    place = share * (len(ordered) - 1)
    lower = math.floor(place)
    upper = min(lower + 1, len(ordered) - 1)
    if ordered[lower] == ordered[upper]:
        return ordered[lower]
    return ordered[lower] + (place - lower) * (ordered[upper] - ordered[lower])


def tornado(model: Model, constants: Constants, *, top: int = 5) -> list[Contribution]:
    """Return the `top` constants that move the result most, each alone from low to high."""
    base = Costs(constants)
    model(base)
    moved = [_moved(model, constants, name) for name in sorted(base.used)]
    moved = [each for each in moved if each.swing > 0]
    return sorted(moved, key=lambda each: -each.swing)[:top]


def _moved(model: Model, constants: Constants, name: str) -> Contribution:
    constant = constants[name]
    return Contribution(
        constant=name,
        low=model(Costs(constants, moved={name: constant.low})),
        high=model(Costs(constants, moved={name: constant.high})),
        tag=constant.tag,
    )


def rounded(value: float) -> float:
    """Return a simulated number to the two significant digits it deserves."""
    if value == 0 or not math.isfinite(value):
        return value
    return round(value, 1 - math.floor(math.log10(abs(value))))
