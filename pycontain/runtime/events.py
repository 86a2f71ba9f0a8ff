"""What `events` prints: statistics in runc's shape, and out-of-memory events.

Converts what `Cgroup.stats` measures; the field names are runc's, which engines and monitors parse.
"""

from __future__ import annotations

import time

from pycontain.errors import UsageError
from pycontain.runtime.state import STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.runtime.container import Container

_UNITS = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000}


def duration_ms(text: str) -> int:
    """Return milliseconds for Go's notation, `500ms`, `5s`, `1m30s`; raises UsageError."""
    total = 0.0
    rest = text
    while rest:
        number = ""
        while rest and (rest[0].isdigit() or rest[0] == "."):
            number, rest = number + rest[0], rest[1:]
        unit = next((u for u in _UNITS if rest.startswith(u)), "")
        if not number.replace(".", "", 1).isdigit() or not unit:
            raise UsageError(f"--interval: {text!r} is no time such as 500ms or 5s")
        total += float(number) * _UNITS[unit]
        rest = rest[len(unit) :]
    if total < 1:
        raise UsageError("duration interval must be greater than 0")
    return int(total)
