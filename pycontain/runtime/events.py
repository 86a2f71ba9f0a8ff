"""What `events` prints: statistics in runc's shape, and out-of-memory events.

The numbers are `Cgroup.stats`'s; the field names are runc's, which monitors parse.
"""

from __future__ import annotations

import time

from pycontain.cgroup.files import pairs, read_or
from pycontain.errors import UsageError
from pycontain.runtime.state import STOPPED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.runtime.container import Container

_UNITS = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000}
_STEP_S = 0.1
"""Between two looks at the count of OOM kills and at the container's life."""


def duration_ms(text: str) -> int:
    """Return milliseconds for Go's notation, `500ms`, `5s`, `1m30s`; raises UsageError."""
    total = 0.0
    rest = text
    while rest:
        number = ""
        while rest and (rest[0].isdigit() or rest[0] == "."):
            number, rest = number + rest[0], rest[1:]
        unit = next((u for u in _UNITS if rest.startswith(u)), "")
        plain = number.replace(".", "", 1)
        if not (plain.isascii() and plain.isdigit() and unit):
            raise UsageError(f"--interval: {text!r} is no time such as 500ms or 5s")
        total += float(number) * _UNITS[unit]
        rest = rest[len(unit) :]
    if total < 1:
        raise UsageError("duration interval must be greater than 0")
    return int(total)


def stats_event(container: Container) -> dict[str, object]:
    """Return the statistics of `container` as one event."""
    return {"type": "stats", "id": container.id, "data": container.cgroup.stats()}


def follow(container: Container, interval_ms: int) -> Iterator[dict[str, object]]:
    """Yield statistics every `interval_ms` and each OOM kill, until the container ends."""
    killed = oom_kills(container)
    due = time.monotonic()
    while container.status() != STOPPED:
        if time.monotonic() >= due:
            yield stats_event(container)
            due += interval_ms / 1000
        now = oom_kills(container)
        if now > killed:
            yield {"type": "oom", "id": container.id}
        killed = max(killed, now)
        time.sleep(min(_STEP_S, interval_ms / 1000))


def oom_kills(container: Container) -> int:
    """Return how many processes of the container the OOM killer has ended."""
    paths = container.cgroup.paths()
    home, name = paths.get("memory"), "memory.oom_control"
    if not home:
        home, name = paths.get("", ""), "memory.events"
    return pairs(read_or(f"{home}/{name}")).get("oom_kill", 0)
