"""Figures and tables as text: units a reader can hold, terminal, Markdown, CSV. Pure."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from pycontain.bench.model import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.bench.summary import Row, Section

SCALES = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "ns": ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")),
    "B": ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")),
}
HEADER = ("arm", "kind", "n", "min", "median", "p99", "x native", "verdict")


def figure(value: float, unit: str, digits: int = 3) -> str:
    """Return `value` in the largest unit that leaves it at least one, with `digits` figures."""
    for scale, name in SCALES.get(unit, ((1.0, unit if unit != "1" else ""),)):
        if abs(value) >= scale or (scale, name) == SCALES.get(unit, ((1.0, ""),))[-1]:
            return f"{shown_digits(value / scale, digits)} {name}".strip()
    return f"{shown_digits(value, digits)} {unit}"


def shown_digits(value: float, digits: int) -> str:
    """Return a number with so many significant digits, never as a power of ten."""
    if value == 0:
        return "0"
    text = f"{value:.{digits}g}"
    return f"{float(text):.0f}" if "e" in text else text


def digits_of(kind: Kind) -> int:
    """A simulated number has two significant digits; more would pretend to be known."""
    return 2 if kind is Kind.SIMULATED else 3


def cells(row: Row) -> tuple[str, ...]:
    """Return the row's cells as text, in the order of HEADER."""
    digits = digits_of(row.kind)
    name = row.kind.value.upper() if row.kind is Kind.SIMULATED else row.kind.value
    if row.summary is None:
        return (row.arm, name, "0", "", "", "", "", f"failed: {row.note}"[:100])
    if row.kind is Kind.SIMULATED and row.interval is not None:
        low, high = (figure(value, row.unit, digits) for value in row.interval)
        middle = figure(row.summary.median, row.unit, digits)
        bounds = f"5 % {low}", middle, f"95 % {high}"
        return (
            row.arm,
            name,
            "model",
            *bounds,
            ratio_text(row),
            "no verdict: the model's interval",
        )
    summary = row.summary
    mark = "≤" if summary.p99_is_maximum else ""
    return (
        row.arm,
        name,
        str(summary.count),
        figure(summary.minimum, row.unit, digits),
        figure(summary.median, row.unit, digits),
        mark + figure(summary.p99, row.unit, digits),
        ratio_text(row),
        verdict_text(row),
    )


def ratio_text(row: Row) -> str:
    """Return the ratio to native and its interval."""
    if row.ratio is None:
        return ""
    digits = digits_of(row.kind)
    if row.ratio.high == float("inf"):
        return f"{shown_digits(row.ratio.value, digits)} (one run)"
    low, high = shown_digits(row.ratio.low, digits), shown_digits(row.ratio.high, digits)
    return f"{shown_digits(row.ratio.value, digits)} [{low}, {high}]"


def verdict_text(row: Row) -> str:
    """Return the verdict with everything that qualifies it."""
    words = [row.verdict if row.kind is Kind.MEASURED else f"{row.kind.value}, no verdict"]
    if row.verdict == "other output":
        why = f": {row.note}"[:80] if row.note else ""
        words = [f"not compared: output or status differs from native{why}"]
    if row.failures and row.summary is not None:
        words.append(f"{row.failures} failed")
    if row.contended:
        words.append(f"{row.contended} contended")
    if row.retries:
        words.append(f"{row.retries} boots retried")
    return "; ".join(words)


def heading(section: Section) -> str:
    """Return the title of a section."""
    text = f" ({section.text})" if section.text else ""
    return f"{section.workload}{text}: {METRICS.get(section.metric, section.metric)}"


METRICS = {
    "wall": "elapsed time, from the start of the arm to its end",
    "to_command": "time from the start of the arm to the command's first instruction",
    "pss": "memory, PSS of every process of the arm",
}


def floor_text(section: Section) -> str:
    """Return the noise floor in words."""
    if section.floor == float("inf"):
        return "no noise floor (native-again, twice at least): nothing is called faster or slower"
    return f"noise floor ±{section.floor * 100:.1f} % (native against itself)"


def markdown(sections: Sequence[Section]) -> str:
    """Return every section as a Markdown table."""
    parts = []
    for section in sections:
        lines = [
            f"### {heading(section)}",
            "",
            _markdown_row(HEADER),
            _markdown_row(["---"] * len(HEADER)),
        ]
        lines += [_markdown_row(cells(row)) for row in section.rows]
        parts.append("\n".join([*lines, "", floor_text(section)]))
    return "\n\n".join(parts) + "\n"


def _markdown_row(words: Sequence[str]) -> str:
    return "| " + " | ".join(word.replace("|", "\\|") for word in words) + " |"


CSV_HEADER = (
    *("workload", "group", "arm", "kind", "metric", "unit", "n", "min", "median", "p99", "max"),
    *("low", "high", "ratio", "ratio_low", "ratio_high", "noise_floor", "verdict"),
    *("same_output", "contended", "retries", "failures", "note"),
)


def csv_text(sections: Sequence[Section]) -> str:
    """Return every row as CSV, unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for section in sections:
        writer.writerows(_csv_row(section, row) for row in section.rows)
    return out.getvalue()


def _csv_row(section: Section, row: Row) -> list[object]:
    summary, ratio = row.summary, row.ratio
    numbers = (
        [summary.count, summary.minimum, summary.median, summary.p99, summary.maximum]
        if summary
        else [0, "", "", "", ""]
    )
    return [
        *(row.workload, section.group, row.arm, row.kind.value, row.metric, row.unit),
        *numbers,
        *(row.interval or ("", "")),
        *((ratio.value, ratio.low, ratio.high) if ratio else ("", "", "")),
        *(section.floor, row.verdict, row.same_output, row.contended, row.retries),
        *(row.failures, row.note),
    ]


def plain(sections: Sequence[Section]) -> str:
    """Return every section as a table for a terminal."""
    return "\n\n".join(_plain_section(section) for section in sections) + "\n"


def _plain_section(section: Section) -> str:
    rows = [HEADER, *(cells(row) for row in section.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True))
        for row in rows
    ]
    rule = "  ".join("-" * width for width in widths)
    body = [lines[0].rstrip(), rule, *(line.rstrip() for line in lines[1:])]
    return "\n".join([heading(section), *body, floor_text(section)])
