"""The pictures of a report as inline SVG: bars, distributions, stage timelines. Pure.

Colours come from the page's CSS classes, so that one picture serves light, dark and print. Kinds
are told apart by pattern as well as colour: emulated figures are hatched one way, simulated ones
the other and dashed, so that neither a photocopy nor a colour-blind reader takes them for
measurements.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from pycontain.bench.model import Kind
from pycontain.bench.stats import ecdf
from pycontain.bench.summary import OTHER_OUTPUT
from pycontain.bench.text import digits_of, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.bench.summary import Row

WIDTH = 920
LABEL = 170
VALUE = 150
ROW = 26
PLOT = WIDTH - LABEL - VALUE
STAGE_CLASSES = 8
MANY_DECADES = 3
STAGE_ORDER = (
    *("vmm", "firmware", "decompress", "kernel", "init", "command", "workload", "end"),
    *("to_command", "after_command", "process", "runtime"),
)
GUEST_STAGES = {
    "init": "kernel",
    "ports": "init",
    "command": "init",
    "exited": "workload",
    "gone": "end",
}
"""A guest's marks say when a stage was over; these are the names of what went on until then."""

_PATTERN = (
    '<pattern id="{name}" width="6" height="6" patternUnits="userSpaceOnUse"'
    ' patternTransform="rotate({angle})"><rect width="6" height="6" class="{name}-paper"/>'
    '<line y2="6" class="{name}-line"/></pattern>'
)
PATTERNS = (
    "<defs>"
    + _PATTERN.format(name="emulated", angle=45)
    + _PATTERN.format(name="simulated", angle=-45)
    + "</defs>"
)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A logarithmic axis from `low` to `high` on PLOT pixels."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the pixel of a value, clamped to the plot."""
        span = math.log10(self.high / self.low) or 1.0
        share = math.log10(max(value, self.low) / self.low) / span
        return LABEL + PLOT * min(max(share, 0.0), 1.0)

    def ticks(self) -> list[float]:
        """Return the powers of ten inside, with their doubles and fives where they are few."""
        steps = (1,) if math.log10(self.high / self.low) > MANY_DECADES else (1, 2, 5)
        first, last = math.floor(math.log10(self.low)), math.floor(math.log10(self.high))
        marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
        return [mark for mark in marks if self.low <= mark <= self.high]


def _scale(values: Sequence[float]) -> Scale:
    positive = [value for value in values if value > 0] or [1.0]
    low, high = min(positive) / 1.6, max(positive) * 1.25
    return Scale(low=low, high=max(high, low * 10))


def _open(height: float, title: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}"'
    name = escape(title)
    return f'<svg class="chart" role="img" aria-label="{name}" {box}><title>{name}</title>'


def _text(x: float, y: float, words: str, css: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _rect(x: float, y: float, width: float, height: float, css: str, tip: str = "") -> str:
    inside = f"<title>{escape(tip)}</title>" if tip else ""
    size = f'width="{max(width, 0.5):.1f}" height="{height:.1f}"'
    return f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{css}">{inside}</rect>'


def _axis(scale: Scale, top: float, bottom: float, unit: str) -> list[str]:
    parts = []
    for tick in scale.ticks():
        x = scale.at(tick)
        parts.append(_line(x, top, x, bottom, "grid"))
        parts.append(_text(x, bottom + 14, figure(tick, unit), "tick", "middle"))
    return parts


def bars(rows: Sequence[Row], title: str) -> str:
    """Return one bar a row up to the median, a whisker over min to p99 (or 5-95 %), log scale."""
    shown = [row for row in rows if row.summary is not None and row.verdict != OTHER_OUTPUT]
    if not shown:
        return ""
    ends = [value for row in shown for value in _ends(row)]
    scale = _scale(ends)
    bottom = 8 + ROW * len(shown)
    parts = [_open(bottom + 22, title), PATTERNS, *_axis(scale, 4, bottom, shown[0].unit)]
    for number, row in enumerate(shown):
        parts += _bar(row, scale, 8 + ROW * number)
    return "".join([*parts, "</svg>"])


def _ends(row: Row) -> tuple[float, float, float]:
    assert row.summary is not None
    low, high = row.interval or (row.summary.minimum, row.summary.p99)
    return low, row.summary.median, high


def _bar(row: Row, scale: Scale, top: float) -> list[str]:
    low, middle, high = _ends(row)
    y = top + ROW / 2
    width = max(scale.at(middle) - LABEL, 1.0)
    value = figure(middle, row.unit, digits_of(row.kind))
    label = f"{value} {row.kind.value if row.kind is not Kind.MEASURED else ''}".strip()
    return [
        _text(LABEL - 8, y + 4, row.arm, "label", "end"),
        _rect(LABEL, top + 4, width, ROW - 8, f"bar {row.kind.value}"),
        _line(scale.at(low), y, scale.at(high), y, "whisker"),
        _line(scale.at(low), y - 4, scale.at(low), y + 4, "whisker"),
        _line(scale.at(high), y - 4, scale.at(high), y + 4, "whisker"),
        _text(max(scale.at(high), LABEL + width) + 8, y + 4, label, "value"),
    ]


def distribution(rows: Sequence[Row], title: str) -> str:
    """Return the empirical distribution of every row that ran: share of runs up to a value."""
    shown = [
        row
        for row in rows
        if len(row.values) > 1 and row.kind is not Kind.SIMULATED and row.verdict != OTHER_OUTPUT
    ]
    if len(shown) < 2:
        return ""
    scale = _scale([value for row in shown for value in row.values])
    height = 240.0
    parts = [_open(height + 26, title), *_axis(scale, 10, height, shown[0].unit)]
    for share in (0.0, 0.5, 1.0):
        y = _share_y(share, height)
        parts += [
            _line(LABEL, y, LABEL + PLOT, y, "grid"),
            _text(LABEL - 8, y + 4, f"{share:.0%}", "tick", "end"),
        ]
    for number, row in enumerate(shown):
        parts.append(_steps(row, scale, height, number))
        parts.append(_legend(row, number))
    return "".join([*parts, "</svg>"])


def _share_y(share: float, height: float) -> float:
    return height - share * (height - 14)


def _steps(row: Row, scale: Scale, height: float, number: int) -> str:
    points, before = [], 0.0
    for value, share in ecdf(row.values):
        x = scale.at(value)
        points += [
            f"{x:.1f},{_share_y(before, height):.1f}",
            f"{x:.1f},{_share_y(share, height):.1f}",
        ]
        before = share
    dashed = " dashed" if row.kind is Kind.EMULATED else ""
    return (
        f'<polyline points="{" ".join(points)}" class="curve c{number % STAGE_CLASSES}{dashed}"/>'
    )


def _legend(row: Row, number: int) -> str:
    y = 20 + 17 * number
    x = LABEL + PLOT + 14
    name = row.arm if row.kind is Kind.MEASURED else f"{row.arm} ({row.kind.value})"
    dashed = " dashed" if row.kind is Kind.EMULATED else ""
    line = _line(x, y - 4, x + 16, y - 4, f"curve c{number % STAGE_CLASSES}{dashed}")
    return line + _text(x + 22, y, name[:22], "tick")


def timeline(rows: Sequence[Row], stages: dict[str, dict[str, float]], title: str) -> str:
    """Return one strip of stages a row; each row has its own time, written at its end.

    `stages` of guests are moments since the start, of models lengths; both come out as lengths.
    """
    strips = [(row, lengths(row.kind, stages.get(row.arm, {}))) for row in rows]
    strips = [(row, parts) for row, parts in strips if parts]
    if not strips:
        return ""
    present = {name for _, parts in strips for name in parts}
    names = [name for name in STAGE_ORDER if name in present]
    names += sorted(present - set(names))
    strip_height, legend_height = 34, 20 * math.ceil(len(names) / 6) + 6
    parts = [_open(strip_height * len(strips) + legend_height, title), PATTERNS]
    for number, (row, stage_parts) in enumerate(strips):
        parts += _strip(row, stage_parts, names, strip_height * number)
    for number, name in enumerate(names):
        x, y = LABEL + 120 * (number % 6), strip_height * len(strips) + 14 + 20 * (number // 6)
        parts.append(_rect(x, y - 9, 11, 11, _stage_class(name)))
        parts.append(_text(x + 16, y, name.replace("_", " "), "tick"))
    return "".join([*parts, "</svg>"])


def lengths(kind: Kind, stages: dict[str, float]) -> dict[str, float]:
    """Return how long each stage took; a guest reports when each was reached."""
    if kind is Kind.SIMULATED or "gone" not in stages:
        return {name: value for name, value in stages.items() if value > 0}
    found: dict[str, float] = {}
    before = 0.0
    for mark, at in sorted(stages.items(), key=lambda pair: pair[1]):
        name = GUEST_STAGES.get(mark, mark)
        found[name], before = found.get(name, 0.0) + at - before, at
    return found


def _stage_class(name: str) -> str:
    """Return the colour of a stage: the same in every picture."""
    known = STAGE_ORDER.index(name) if name in STAGE_ORDER else sum(name.encode())
    return f"f{known % STAGE_CLASSES}"


def _strip(row: Row, stages: dict[str, float], names: list[str], top: float) -> list[str]:
    total = sum(stages.values()) or 1.0
    parts = [_text(LABEL - 8, top + 19, row.arm, "label", "end")]
    x = float(LABEL)
    for name, length in stages.items():
        width = PLOT * length / total
        css = _stage_class(name)
        tip = f"{name}: {figure(length, 's', digits_of(row.kind))}"
        parts.append(_rect(x, top + 5, width, 20, css, tip))
        if row.kind is not Kind.MEASURED:
            parts.append(_rect(x, top + 5, width, 20, f"veil {row.kind.value}"))
        x += width
    kind = "" if row.kind is Kind.MEASURED else row.kind.value
    label = f"{figure(total, 's', digits_of(row.kind))} {kind}"
    return [*parts, _text(LABEL + PLOT + 8, top + 19, label.strip(), "value")]
