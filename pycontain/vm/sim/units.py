"""Units of scenario values, to SI and back."""

from __future__ import annotations

from pycontain.errors import InvalidError

TIME = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
BYTES = {
    "bytes": 1.0,
    "KB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "KiB": 2.0**10,
    "MiB": 2.0**20,
    "GiB": 2.0**30,
}
BITS = {
    "b/s": 0.125,
    "Kb/s": 125.0,
    "Mb/s": 125e3,
    "Gb/s": 125e6,
    "B/s": 1.0,
    "KB/s": 1e3,
    "MB/s": 1e6,
    "GB/s": 1e9,
}
RATES = {"requests/s": 1.0, "requests/min": 1 / 60}
OTHER = {"ratio": 1.0, "count": 1.0}

QUANTITY_UNITS: dict[str, tuple[dict[str, float], str]] = {
    "time": (TIME, "s"),
    "latency": (TIME, "s"),
    "boot": (TIME, "s"),
    "downtime": (TIME, "s"),
    "migration_time": (TIME, "s"),
    "recovery": (TIME, "s"),
    "reallocation": (TIME, "s"),
    "slowdown": (OTHER, "ratio"),
    "throughput": ({**RATES, **BITS}, "requests/s"),
    "iops": (RATES, "requests/s"),
    "memory": (BYTES, "bytes"),
    "migrated_bytes": (BYTES, "bytes"),
    "density": (OTHER, "count"),
}
"""Which units a quantity may have, and its default."""


def factor(quantity: str, unit: str, clock_hz: float) -> float:
    """Return what one `unit` of `quantity` is in SI (seconds, bytes, bytes/s, requests/s)."""
    if unit == "cycles" and QUANTITY_UNITS[quantity][0] is TIME:
        return 1.0 / clock_hz
    known = QUANTITY_UNITS[quantity][0]
    if unit not in known:
        raise InvalidError(
            f"$.unit: {unit} is no unit of {quantity}", hint="one of " + ", ".join(known)
        )
    return known[unit]


def is_data(unit: str) -> bool:
    """Return whether a throughput unit counts data rather than requests."""
    return unit in BITS
