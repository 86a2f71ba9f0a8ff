"""Prints `--explain` and `--timeline`."""

from __future__ import annotations

from pycontain.cli import output
from pycontain.engine import insight
from pycontain.errors import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.engine.engine import Engine
    from pycontain.engine.insight import Timeline
    from pycontain.spec.options import RunOptions


def explain(engine: Engine, options: RunOptions, image: str, command: Sequence[str]) -> int:
    """Print the plan of a container and run nothing."""
    rows = insight.explain(engine, options, image, command)
    if options.format == "json":
        output.json_line([row.document() for row in rows])
        return 0
    heading = ""
    for row in rows:
        title = f"{row.who}: {row.step}  [{row.origin}]"
        if title != heading:
            heading = title
            output.line(title)
        number = f"{row.index:4}" if row.index >= 0 else "    "
        output.line(f"{number}  {row.call}")
    return 0


def timeline(engine: Engine, options: RunOptions, image: str, command: Sequence[str]) -> int:
    """Run a container, then print on standard error what each phase and op took."""
    record, outcome, line = insight.run_timed(engine, options, image, command)
    if outcome.oom:
        output.warning(outcome.report(record.name))
    if options.format == "json":
        output.write(2, _json(line))
    else:
        for text in _table(line):
            output.write(2, (text + "\n").encode("utf-8", "backslashreplace"))
    return outcome.status


def _events(line: Timeline) -> list[tuple[int, int, str, str]]:
    """Return (end, duration, who, what) in ns since the start, in order of time."""
    events = []
    before = line.started
    for phase, end in line.marks:
        events.append((end - line.started, end - before, "parent", phase))
        before = end
    launched = next((end for phase, end in line.marks if phase == "make container"), line.started)
    before = launched
    for step, call, end in line.ops:
        events.append((end - line.started, max(0, end - before), "child", f"{step}: {call}"))
        before = end
    return sorted(events)


def _table(line: Timeline) -> list[str]:
    rows = ["    at µs  took µs  who     what"]
    for end, took, who, what in _events(line):
        rows.append(f"{end / 1000:9.1f} {took / 1000:8.1f}  {who:6}  {quote(what)}")
    return rows


def _json(line: Timeline) -> bytes:
    from pycontain.oci import codec

    events = [
        {"at_us": end / 1000, "took_us": took / 1000, "who": who, "what": what}
        for end, took, who, what in _events(line)
    ]
    return codec.dumps(events) + b"\n"
