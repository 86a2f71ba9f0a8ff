"""`pycontain logs`: what a detached container wrote, as it wrote it, each stream to its own."""

from __future__ import annotations

import time

from pycontain.cli import context, output
from pycontain.engine.clock import parse_time
from pycontain.engine.logs import Reader
from pycontain.errors import UsageError
from pycontain.spec.values import natural, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cli.options import Parsed
    from pycontain.engine.logs import Entry

POLL_S = 0.05


def logs(parsed: Parsed) -> int:
    """Print the log; with --follow until the container ends."""
    engine = context.engine(parsed)
    record = engine.find(parsed.arguments[0])
    since, until = _moment(parsed, "since"), _moment(parsed, "until")
    reader = Reader(engine.store.directory(record.id))
    entries = [*reader.older(), *reader.more()]
    entries = [entry for entry in entries if _within(entry, since, until)]
    tail = parsed.text("tail", "all")
    if tail != "all":
        count = natural(tail, "--tail")
        entries = entries[-count:] if count else []
    _print(entries, parsed)
    while parsed.flag("follow"):
        running = engine.store.exists(record.id) and engine.store.is_locked(record.id)
        _print([entry for entry in reader.more() if _within(entry, since, until)], parsed)
        if not running:
            break
        time.sleep(POLL_S)
    return 0


def _moment(parsed: Parsed, name: str) -> float | None:
    """Return the time an option names: RFC 3339, seconds since the epoch, or a duration ago."""
    text = parsed.text(name)
    if not text:
        return None
    if text.isascii() and text.isdigit() and len(text) > 8:
        return float(text)
    found = parse_time(text)
    if found is not None:
        return found
    try:
        return time.time() - seconds(text, "--" + name)
    except UsageError:
        raise UsageError(f"--{name} {text}: expected a time (RFC 3339) or a duration") from None


def _within(entry: Entry, since: float | None, until: float | None) -> bool:
    if since is None and until is None:
        return True
    moment = parse_time(entry.time) or 0.0
    return (since is None or moment >= since) and (until is None or moment <= until)


def _print(entries: list[Entry], parsed: Parsed) -> None:
    stamps = parsed.flag("timestamps")
    for entry in entries:
        text = f"{entry.time} {entry.text}" if stamps else entry.text
        fd = 2 if entry.stream == "stderr" else 1
        output.write(fd, text.encode("utf-8", "surrogateescape"))
