"""`pycontain logs` and `attach`: what a detached container wrote and writes, stream by stream."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import time

from pycontain.cli import context, output
from pycontain.engine.clock import parse_time
from pycontain.engine.logs import Reader
from pycontain.errors import UnsupportedError, UsageError
from pycontain.spec.values import natural, seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cli.options import Parsed
    from pycontain.engine.logs import Entry

POLL_S = 0.05
PROXIED = (
    _signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM, _signal.SIGUSR1,
    _signal.SIGUSR2,
)  # fmt: skip
"""Signals that `attach` hands on; Ctrl-C ends the container's program, not the watching."""


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


def attach(parsed: Parsed) -> int:
    """`pycontain attach`: show what a container writes from now on; return its exit status."""
    import threading

    engine = context.engine(parsed)
    record, _ = engine.running(parsed.arguments[0])
    if record.log_driver == "none":
        raise UnsupportedError(f"container {record.name} keeps no log to attach to")
    if record.open_stdin and not parsed.flag("no_stdin"):
        raise UnsupportedError(
            f"the input of container {record.name} cannot be attached again",
            hint="use --no-stdin for its output, or pycontain exec -it for a shell",
        )
    reader = Reader(engine.store.directory(record.id))
    # What is there already belongs to `logs`.
    seen = [*reader.older(), *reader.more()]
    del seen
    if parsed.values.get("sig_proxy", True):
        for number in PROXIED:
            _signal.signal(number, lambda number, _frame: engine.kill(record.id, number))
    status: list[int] = []
    waiter = threading.Thread(target=lambda: status.append(engine.wait(record.id)), daemon=True)
    waiter.start()
    while waiter.is_alive():
        _print([*reader.more()], parsed)
        waiter.join(POLL_S)
    _print([*reader.more()], parsed)
    return status[0] if status else 125
