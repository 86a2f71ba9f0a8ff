"""The answer in short: one line a workload, one column a kind. Pure.

Owns what a reader sees first. Kinds stand side by side and make no ratio with each other; each is
given from its best arm to its worst, in times native (x).
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from pycontain.bench.model import Kind
from pycontain.bench.summary import NATIVE, NATIVE_AGAIN, OTHER_OUTPUT
from pycontain.bench.text import digits_of, figure, shown_digits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.bench.summary import Row, Section

GUEST, OURS = "qemu", "pycontain"
CONTAINER_MODEL = "sim:container"
COLUMNS = (
    ("native", Kind.MEASURED),
    ("containers", Kind.MEASURED),
    ("guest on hardware", Kind.MEASURED),
    ("VM by the model", Kind.SIMULATED),
    ("guest under an emulator", Kind.EMULATED),
)
"""What each column holds, and of which kind its figures are."""
NOTE = (
    "Best and worst arm of each kind (and pycontain), medians; x: times native. Columns of "
    "different kinds make no ratio: only measured figures were taken here."
)


def table(sections: Sequence[Section]) -> str:
    """Return the whole table as HTML; columns without any figure are left out."""
    found = [[_column(section, name, kind) for name, kind in COLUMNS] for section in sections]
    kept = [index for index in range(len(COLUMNS)) if any(row[index] for row in found)]
    if len(kept) < 2:
        return ""
    head = "".join(f"<th>{_head(*COLUMNS[index])}</th>" for index in kept)
    body = "".join(
        f"<tr><th>{escape(section.workload)}</th>"
        + "".join(_cell(section, row[index], COLUMNS[index][1]) for index in kept)
        + "</tr>"
        for section, row in zip(sections, found, strict=True)
    )
    return (
        '<section><h2>In short</h2><div class="wide"><table class="short"><thead><tr><th></th>'
        f'{head}</tr></thead><tbody>{body}</tbody></table></div><p class="note">{escape(NOTE)}</p>'
        "</section>"
    )


def _head(name: str, kind: Kind) -> str:
    word = kind.value.upper() if kind is Kind.SIMULATED else kind.value
    return f'{escape(name)}<br><small><span class="key {kind.value}-key"></span>{word}</small>'


def _column(section: Section, name: str, kind: Kind) -> list[Row]:
    """Return the rows a column speaks of, the best first."""
    rows = [
        row
        for row in section.rows
        if row.kind is kind and row.summary is not None and row.verdict != OTHER_OUTPUT
        if row.arm not in (NATIVE_AGAIN, CONTAINER_MODEL)
    ]
    if kind is Kind.MEASURED:
        groups = {
            "native": [row for row in rows if row.arm == NATIVE],
            "guest on hardware": [row for row in rows if row.arm.startswith(GUEST)],
        }
        special = [row.arm for group in groups.values() for row in group]
        rows = groups.get(name, [row for row in rows if row.arm not in special])
    return sorted(rows, key=_median)


def _median(row: Row) -> float:
    return row.summary.median if row.summary else 0.0


def _cell(section: Section, rows: list[Row], kind: Kind) -> str:
    shown = [row for row in rows if row in (rows[0], rows[-1]) or row.arm == OURS]
    lines = [escape(_end(row)) for row in shown]
    if kind is Kind.MEASURED and rows and rows[0].arm != NATIVE:
        lines.append(f"<small>{escape(_conclusion(section, rows))}</small>")
    return f'<td class="{kind.value}-cell">{"<br>".join(lines)}</td>'


def _end(row: Row) -> str:
    value = figure(_median(row), row.unit, digits_of(row.kind))
    if row.arm == NATIVE:
        return value
    times = f", {shown_digits(row.ratio.value, digits_of(row.kind))} x" if row.ratio else ""
    kind = f" {row.kind.value}" if row.kind is not Kind.MEASURED else ""
    return f"{row.arm.removeprefix('sim:')}: {value}{times}{kind}"


def _conclusion(section: Section, rows: list[Row]) -> str:
    """Return which of the measured arms differ from native beyond the noise."""
    differ = [row for row in rows if row.verdict in ("slower", "more", "faster", "less")]
    if section.floor == float("inf") or any(row.verdict == "too few runs" for row in rows):
        return "too few runs to say more"
    if not differ:
        return f"no difference shown (noise ±{section.floor * 100:.0f} %)"
    words = f"{len(differ)} of {len(rows)} {differ[-1].verdict} than native"
    return f"{words} (noise ±{section.floor * 100:.0f} %)"
