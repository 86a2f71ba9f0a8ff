"""Constants: reading data/constants.toml, choosing a hardware class, drawing within the ranges.

Owns the values and their provenance. What a constant means is decided where it is used.
"""

from __future__ import annotations

import math
import random
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DATA = Path(__file__).parent / "data"
SEED = 20261121
TAGS = ("V", "V2", "R", "A", "M", "C")


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One number of the model: default, 5-95 % range, unit, evidence tag and source."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    tag: str
    source: str

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.value <= self.high:
            raise InvalidError(f"constant {self.name}: not 0 < low <= value <= high")
        if self.tag not in TAGS:
            raise InvalidError(f"constant {self.name}: unknown tag {self.tag}")

    def draw(self, uniform: float) -> float:
        """Return the value at `uniform` (0..1): log-uniform on each side of the default.

        The default stays the median, also where the range is not symmetric around it.
        """
        if uniform < 0.5:
            return self.low * math.exp(2 * uniform * math.log(self.value / self.low))
        return self.value * math.exp((2 * uniform - 1) * math.log(self.high / self.value))


class Constants:
    """The constants of one hardware class, by name; an unknown name is NotFoundError."""

    def __init__(self, constants: Mapping[str, Constant]) -> None:
        self._constants = dict(constants)

    def __getitem__(self, name: str) -> Constant:
        try:
            return self._constants[name]
        except KeyError:
            raise NotFoundError(f"no constant {name}") from None

    def __iter__(self) -> Iterator[Constant]:
        return iter(self._constants.values())

    def names(self) -> list[str]:
        """Return every constant's name in the order of the file."""
        return list(self._constants)

    def with_values(self, values: Mapping[str, float], *, tag: str, source: str) -> Constants:
        """Return a copy where the named constants are fixed at these values, without a range."""
        changed = dict(self._constants)
        for name, value in values.items():
            changed[name] = replace(
                self[name], value=value, low=value, high=value, tag=tag, source=source
            )
        return Constants(changed)


class Costs:
    """One assignment of values to constants: the defaults, one draw, or one constant moved.

    Remembers in `used` which constants were read, which is what a tornado has to vary.
    """

    def __init__(
        self,
        constants: Constants,
        *,
        draw: int | None = None,
        moved: Mapping[str, float] = {},
        seed: int = SEED,
    ) -> None:
        self._constants = constants
        self._draw = draw
        self._moved = moved
        self._seed = seed
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> float:
        self.used.add(name)
        if name in self._moved:
            return self._moved[name]
        constant = self._constants[name]
        if self._draw is None:
            return constant.value
        return constant.draw(uniform(name, self._draw, self._seed))


@cache
def uniforms(name: str, seed: int = SEED, count: int = 1024) -> tuple[float, ...]:
    """Return `count` stratified uniform draws of one constant, the same on every host.

    Each name has its own stream, so that a new constant does not move the draws of the others.
    One draw in each of `count` equal strata, shuffled: the tails need fewer draws that way.
    """
    stream = random.Random(f"{seed}:{name}")
    strata = [(i + stream.random()) / count for i in range(count)]
    stream.shuffle(strata)
    return tuple(strata)


def uniform(name: str, draw: int, seed: int = SEED) -> float:
    """Return the `draw`-th number of the stream of `name`."""
    block, index = divmod(draw, 1024)
    return uniforms(name, seed + block, 1024)[index]


def load_constants(hardware_class: str, path: Path = DATA / "constants.toml") -> Constants:
    """Return the constants of one hardware class; a broken file is InvalidError."""
    document = read_toml(path)
    table = {**document["constants"], **document.get("classes", {}).get(hardware_class, {})}
    return Constants({name: _constant(name, entry, path) for name, entry in table.items()})


def _constant(name: str, entry: Any, path: Path) -> Constant:
    try:
        return Constant(name=name, **entry)
    except TypeError as error:
        raise InvalidError(f"{path}: constant {name}: {error}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML document; a missing file is NotFoundError, a broken one InvalidError."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"no file {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidError(f"read {path}: {error}") from error
