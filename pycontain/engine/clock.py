"""Times as texts: RFC 3339 in and out."""

from __future__ import annotations

import time

from pycontain.spec.values import digits


def format_time(seconds: float) -> str:
    """Return RFC 3339 text in UTC with nanoseconds' width, as docker's logs have it."""
    whole = int(seconds)
    y, mo, d, h, mi, s = time.gmtime(whole)[:6]
    return f"{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{int((seconds - whole) * 1e9):09}Z"


def parse_time(text: str) -> float | None:
    """Return the seconds since the epoch of RFC 3339 text, None when it does not read."""
    date, _, rest = text.replace("t", "T").partition("T")
    parts = date.split("-")
    zone = 0
    clock = rest.rstrip("Zz")
    for sign in "+-":
        head, found, offset = clock.partition(sign)
        if found:
            clock = head
            hours, _, minutes = offset.partition(":")
            if not (digits(hours) and digits(minutes)):
                return None
            zone = (int(hours) * 3600 + int(minutes) * 60) * (1 if sign == "+" else -1)
    whole, _, fraction = clock.partition(".")
    parts += (whole or "00:00:00").split(":")
    if (
        len(parts) != 6
        or not all(digits(part) for part in parts)
        or (fraction and not digits(fraction))
    ):
        return None
    numbers = [int(part) for part in parts]
    days = _days(numbers[0], numbers[1], numbers[2])
    seconds = days * 86400 + numbers[3] * 3600 + numbers[4] * 60 + numbers[5] - zone
    return seconds + (int(fraction) / 10 ** len(fraction) if fraction else 0.0)


def _days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 (Gregorian, by counting years from March)."""
    shifted = year - (month <= 2)
    era, of_era = divmod(shifted, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
