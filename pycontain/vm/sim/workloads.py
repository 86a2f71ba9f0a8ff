"""Workload classes: event counts for a workload of which only the time is known.

Owns data/workloads.toml. Such counts are guesses per second of CPU time on the default hardware,
scaled by how fast the hardware is; whoever uses them says that they are estimated.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pycontain.errors import NotFoundError
from pycontain.vm.sim.constants import DATA, read_toml

if TYPE_CHECKING:
    from pycontain.vm.sim.hardware import Hardware


@cache
def workloads() -> dict[str, dict[str, Any]]:
    """Return every workload class: `about`, `sys` share, `tags`, `rates` per CPU second."""
    return read_toml(DATA / "workloads.toml")


def estimated_counts(name: str, cpu_s: float, hardware: Hardware) -> dict[str, float]:
    """Return event counts of `cpu_s` seconds of a workload class on this hardware.

    They are means: of one short request they may be far below one.
    """
    found = _class(name)
    pace = hardware.speed ** found.get("growth", 1.0)
    return {event: rate * cpu_s * pace for event, rate in found["rates"].items()}


def system_share(name: str) -> float:
    """Return the share of CPU time the class spends in the kernel."""
    return float(_class(name)["sys"])


def concurrency_of(name: str) -> int:
    """Return how many requests of the class are in flight under its usual load."""
    return int(_class(name).get("concurrency", 1))


def tags_of(name: str) -> tuple[str, ...]:
    """Return the class tags of a workload class."""
    return tuple(_class(name)["tags"])


def _class(name: str) -> dict[str, Any]:
    try:
        return workloads()[name]
    except KeyError:
        raise NotFoundError(
            f"no workload class {name}", hint="one of " + ", ".join(workloads())
        ) from None
