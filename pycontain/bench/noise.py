"""What disturbed a run: CPU time stolen from this host, and tasks that had to wait for a CPU."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

STEAL_LIMIT_PERCENT = 2.0
PRESSURE_LIMIT_PERCENT = 10.0
STEAL_FIELD = 7
STAT_FIELDS = 8


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Counters of the host at one moment: ticks of all CPUs, and PSI's total in µs."""

    at_s: float
    steal_ticks: int
    all_ticks: int
    pressure_us: int


def read() -> Reading:
    """Read /proc/stat (proc(5)) and /proc/pressure/cpu (the kernel's accounting/psi.rst)."""
    words = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    ticks = [int(word) for word in words[:STAT_FIELDS]]
    steal = ticks[STEAL_FIELD] if len(ticks) > STEAL_FIELD else 0
    return Reading(
        at_s=time.monotonic(), steal_ticks=steal, all_ticks=sum(ticks), pressure_us=_pressure()
    )


def _pressure() -> int:
    try:
        line = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return 0
    return int(line.rpartition("total=")[2])


def between(before: Reading, after: Reading) -> tuple[float, float]:
    """Return (steal, pressure) in percent of the time between two readings."""
    ticks = after.all_ticks - before.all_ticks
    seconds = after.at_s - before.at_s
    steal = 100 * (after.steal_ticks - before.steal_ticks) / ticks if ticks else 0.0
    pressure = (after.pressure_us - before.pressure_us) / seconds / 1e4 if seconds > 0 else 0.0
    return round(max(steal, 0.0), 2), round(min(max(pressure, 0.0), 100.0), 2)


def contended(steal_percent: float, pressure_percent: float) -> bool:
    """Return whether a run counts as disturbed."""
    return steal_percent > STEAL_LIMIT_PERCENT or pressure_percent > PRESSURE_LIMIT_PERCENT
