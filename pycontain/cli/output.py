"""What the commands print: lines, docker's tables, JSON, errors; everything is escaped.

Text is collected and written at once, straight to the descriptor: the interpreter's text layer
depends on the locale. Names, labels and commands come from outside, so cells are escaped by
`quote`.
"""

from __future__ import annotations

import posix
import time

from pycontain.errors import PycontainError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pycontain.cli.options import Parsed

_CELL = 10
_GAP = 3
"""Least width of a cell and the space after it, as docker's tables have them."""

_pending: list[bytes] = []


def line(text: str) -> None:
    """Print one line; control characters are escaped."""
    _pending.append(quote(text).encode("utf-8", "backslashreplace") + b"\n")


def text(content: str) -> None:
    """Print text as it is laid out: line ends and tabs stay, other control characters do not."""
    for part in content.splitlines(keepends=True):
        cells = "\t".join(quote(cell) for cell in part.rstrip("\n").split("\t"))
        end = "\n" if part.endswith("\n") else ""
        _pending.append((cells + end).encode("utf-8", "backslashreplace"))


def block(text: str) -> None:
    """Print several lines, each escaped."""
    for part in text.rstrip("\n").split("\n"):
        line(part)


def json_line(document: object) -> None:
    """Print one JSON document on one line."""
    from pycontain.oci import codec

    _pending.append(codec.dumps(document) + b"\n")


def json_pretty(document: object) -> None:
    """Print one JSON document indented by four, as `docker inspect` does."""
    import json

    text = json.dumps(document, indent=4, ensure_ascii=True)
    _pending.append(text.encode() + b"\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under headings in docker's layout; the last column is not padded."""
    cells = [list(headings), *[[quote(cell) for cell in row] for row in rows]]
    widths = [max(_CELL, *(len(row[n]) for row in cells)) + _GAP for n in range(len(headings) - 1)]
    for row in cells:
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        _pending.append(("".join(padded) + row[-1] + "\n").encode("utf-8", "backslashreplace"))


def rows(
    parsed: Parsed, found: Sequence[Mapping[str, str]], columns: Mapping[str, str], key: str
) -> None:
    """Print rows as --quiet and --format say; `key` is the column --quiet prints."""
    if parsed.flag("quiet"):
        for row in found:
            line(row[key])
    elif parsed.text("format") in ("", "table"):
        table(list(columns.values()), [[row[column] for column in columns] for row in found])
    else:
        from pycontain.cli import template

        template.print_rows(parsed.text("format"), found, columns)


def documents(parsed: Parsed, found: Sequence[Mapping[str, object]]) -> None:
    """Print what inspect found: a JSON array, or a line of --format's template for each."""
    if parsed.text("format") in ("", "json"):
        json_pretty(found)
        return
    from pycontain.cli import template

    for one in found:
        text(template.render(parsed.text("format"), one) + "\n")


def flush() -> bool:
    """Write what was printed; return False if it could not be (a reader that left is no error)."""
    data = b"".join(_pending)
    _pending.clear()
    try:
        write(1, data)
    except BrokenPipeError:
        return True
    except OSError as error:
        _to_stderr(f"pycontain: write output: {error.strerror}\n".encode())
        return False
    return True


def write(fd: int, data: bytes) -> None:
    """Write all of `data` to a descriptor."""
    while data:
        data = data[posix.write(fd, data) :]


def error(failure: PycontainError, *, as_json: bool) -> None:
    """Print an error on standard error: one line of text or of JSON."""
    flush()
    if as_json:
        from pycontain.oci import codec

        fields: Mapping[str, object] = {**failure.fields(), "exit_status": failure.exit_status}
        data = codec.dumps(fields)
    else:
        data = f"pycontain: {failure}".encode("utf-8", "backslashreplace")
    _to_stderr(data + b"\n")


def warning(text: str) -> None:
    """Print a note on standard error."""
    _to_stderr(f"pycontain: {quote(text)}\n".encode("utf-8", "backslashreplace"))


def _to_stderr(data: bytes) -> None:
    try:
        write(2, data)
    except OSError:
        # Standard error is closed or full: there is nowhere left to say so.
        return


def ago(seconds: float) -> str:
    """Return an age in docker's words: `About a minute`, `3 hours`."""
    for limit, unit, text in _AGES:
        if seconds < limit:
            return text.format(max(0, int(seconds // unit)))
    return f"{int(seconds // 31536000)} years"


_AGES = (
    (1, 1, "Less than a second"),
    (2, 1, "1 second"),
    (60, 1, "{} seconds"),
    (120, 60, "About a minute"),
    (3600, 60, "{} minutes"),
    (7200, 3600, "About an hour"),
    (172800, 3600, "{} hours"),
    (1209600, 86400, "{} days"),
    (5184000, 604800, "{} weeks"),
    (63072000, 2592000, "{} months"),
)


def age(timestamp: str) -> str:
    """Return how long ago an RFC 3339 time was, in docker's words; "N/A" for none.

    Reproducible builds say 1970 for "no time".
    """
    from pycontain.engine.clock import parse_time

    seconds = parse_time(timestamp) if timestamp else None
    return "N/A" if seconds is None or seconds <= 0 else ago(time.time() - seconds) + " ago"


def local_time(seconds: float) -> str:
    """Return a time as docker's CreatedAt has it: `2026-01-02 03:04:05 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seconds))


def size(count: float) -> str:
    """Return bytes in docker's words, powers of 1000 and at most four digits: `4.26MB`."""
    units = ["PB", "TB", "GB", "MB", "kB", "B"]
    while count >= 1000 and len(units) > 1:
        count /= 1000
        units.pop()
    return f"{count:.4g}{units[-1]}"


def short(identity: str, *, whole: bool = False) -> str:
    """Return the first 12 digits of an id; `whole` keeps all of it."""
    return identity if whole else identity.removeprefix("sha256:")[:12]


def clip(text: str, limit: int, *, whole: bool = False) -> str:
    """Return `text`, shortened to `limit` characters with an ellipsis unless `whole`."""
    return text if whole or len(text) <= limit else text[: limit - 1] + "…"
