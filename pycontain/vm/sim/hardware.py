"""Hardware classes: which processor generation the guest runs on, and what it can do.

Owns data/hardware.toml. A class carries clock and features; its costs are in data/constants.toml.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache

from pycontain.errors import InvalidError, NotFoundError
from pycontain.vm.sim.constants import DATA, read_toml

DEFAULT_CLASS = "zen4_2023"
FEATURES = ("vt", "ept", "vpid", "tsc_deadline", "apicv", "halt_poll", "mitigations")


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One processor: class name, clock, year, relative speed, features (of FEATURES), cores."""

    name: str
    clock_hz: float
    year: int
    speed: float
    features: frozenset[str]
    cores: int = 4

    def has(self, feature: str) -> bool:
        """Return whether the processor (with the kernels of its year) has `feature`."""
        return feature in self.features

    def seconds(self, cycles: float) -> float:
        """Convert cycles of this processor to seconds."""
        return cycles / self.clock_hz


@cache
def classes() -> dict[str, Hardware]:
    """Return every hardware class by name, oldest first."""
    return {
        name: Hardware(
            name=name,
            clock_hz=entry["clock_hz"],
            year=entry["year"],
            speed=entry["speed"],
            features=frozenset(entry["features"]),
        )
        for name, entry in read_toml(DATA / "hardware.toml").items()
    }


def hardware(
    name: str = DEFAULT_CLASS,
    *,
    clock_hz: float | None = None,
    cores: int | None = None,
    features: dict[str, bool] | None = None,
) -> Hardware:
    """Return a class, with another clock, core count or features switched on or off."""
    if name not in classes():
        raise NotFoundError(f"no hardware class {name}", hint="one of " + ", ".join(classes()))
    found = classes()[name]
    chosen = set(found.features)
    for feature, wanted in (features or {}).items():
        if feature not in FEATURES:
            raise InvalidError(
                f"no hardware feature {feature}", hint="one of " + ", ".join(FEATURES)
            )
        (chosen.add if wanted else chosen.discard)(feature)
    speed = found.speed * (clock_hz or found.clock_hz) / found.clock_hz
    return replace(
        found,
        clock_hz=clock_hz or found.clock_hz,
        speed=speed,
        cores=cores or found.cores,
        features=frozenset(chosen),
    )


def host() -> Hardware:
    """Return the default class at this host's clock and cores (x86 Linux names its clock)."""
    clock_hz = None
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.partition(":")[2] for line in file if line.startswith("cpu MHz")]
        clock_hz = max(float(line) for line in lines) * 1e6
    except (OSError, ValueError):
        clock_hz = None  # another architecture, or no /proc: the class's nominal clock stands
    return hardware(clock_hz=clock_hz, cores=os.cpu_count())


def class_of_year(year: int) -> str:
    """Return the class nearest to a year of publication (the newest not younger than it)."""
    older = [c.name for c in classes().values() if c.year <= year]
    return older[-1] if older else next(iter(classes()))
