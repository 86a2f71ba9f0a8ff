"""The report as one HTML file that needs nothing else: no script, no font, no picture from outside.

Light and dark by the reader's preference, and printable. Every text from outside is escaped.
"""

from __future__ import annotations

import shlex
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pycontain.bench import short, svg, text
from pycontain.bench.model import KIND_NOTE, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pycontain.bench.model import Sample
    from pycontain.bench.summary import Row, Section

METHOD = (
    "Each arm runs the same bytes (the rootfs digest above), arguments, environment and limits.",
    "The clock is read before the arm's start and after its end by one static program; a guest's "
    "stages are timed by the host's clock.",
    "Runs are interleaved in an order drawn anew in every round; warm-up runs are discarded; every "
    "raw sample is in samples.jsonl.",
    "A ratio is of medians, with a bootstrap 95 % interval. The second native arm is native again: "
    "what differs between those two is noise, and nothing inside it is called faster or slower.",
    "A row is contended when more than 2 % of CPU time was stolen from this host, or tasks waited "
    "for a CPU in more than 10 % of the run.",
    "Containers share the host's kernel: this is about time and memory, not about isolation.",
)


def page(meta: dict[str, Any], sections: Sequence[Section], samples: Sequence[Sample]) -> str:
    """Return the whole page."""
    title = f"Comparison: {meta['image']}"
    body = [
        f"<h1>{escape(title)}</h1>",
        _head(meta, samples),
        _kinds(meta),
        short.table(sections),
        *(_section(section) for section in sections),
        _absent(meta["absent"]),
        _method(),
        _commands(meta["arms"]),
        _environment(meta["environment"]),
    ]
    style = files("pycontain.bench").joinpath("report.css").read_text()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main></body></html>\n"
    )


def _head(meta: dict[str, Any], samples: Sequence[Sample]) -> str:
    counted = sum(not sample.warmup for sample in samples)
    disturbed = sum(sample.contended for sample in samples if not sample.warmup)
    words = [
        f"<p>{escape(meta['started'])}, rootfs <code>{escape(meta['image_digest'][:19])}…</code>, "
        f"{counted} samples, {disturbed} of them contended.</p>",
        f'<p class="warning">This host is {escape(meta["environment"]["host is"])}.</p>',
    ]
    return "\n".join(words)


def _kinds(meta: dict[str, Any]) -> str:
    present = {entry["kind"] for entry in meta["arms"].values()}
    items = [_kind(kind) for kind in Kind if kind.value in present]
    return f'<ul class="kinds">{"".join(items)}</ul>'


def _kind(kind: Kind) -> str:
    name = kind.value.upper() if kind is Kind.SIMULATED else kind.value
    key = f'<span class="key {kind.value}-key"></span>'
    return f"<li>{key}<b>{name}</b>: {escape(KIND_NOTE[kind])}</li>"


def _section(section: Section) -> str:
    parts = [f"<section><h2>{escape(text.heading(section))}</h2>"]
    parts.append(_figure(svg.bars(section.rows, text.heading(section)), _bar_caption()))
    parts.append(_table(section))
    if section.metric in ("wall", "to_command"):
        parts.append(_figure(svg.distribution(section.rows, "distribution"), _CURVES))
        parts.append(_figure(svg.timeline(section.rows, section.stages, "stages"), _STAGES))
    return "\n".join([*(part for part in parts if part), "</section>"])


_CURVES = "Share of the runs that took no longer than the value; emulated ones dashed. Log scale."
_STAGES = "Where the time goes, each strip to its own scale; its length in time stands at its end."


def _bar_caption() -> str:
    return (
        "Medians on a log scale, which has no zero: read positions, not lengths. Whiskers from "
        "minimum to 99th percentile (maximum below 100 runs), for simulated figures the model's "
        "5-95 %."
    )


def _figure(picture: str, caption: str) -> str:
    caption = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure>{picture}{caption}</figure>" if picture else ""


def _table(section: Section) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in text.HEADER)
    body = "".join(_table_row(row) for row in section.rows)
    note = f'<p class="note">{escape(text.floor_text(section))}</p>'
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="wide">{table}</div>{note}'


def _table_row(row: Row) -> str:
    cells = "".join(f"<td>{escape(word)}</td>" for word in text.cells(row))
    return f'<tr class="{row.kind.value}-row">{cells}</tr>'


def _absent(absent: dict[str, str]) -> str:
    if not absent:
        return ""
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(why)}</li>" for name, why in absent.items()
    )
    return f"<section><h2>Arms that could not run here</h2><ul>{items}</ul></section>"


def _method() -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in METHOD)
    return f"<section><h2>How it was done</h2><ul>{items}</ul></section>"


def _commands(arms: dict[str, Any]) -> str:
    items = [_command(name, entry) for name, entry in arms.items()]
    return f"<section><h2>Command lines</h2><dl>{''.join(items)}</dl></section>"


def _command(name: str, entry: dict[str, Any]) -> str:
    about = f"<small>{escape(entry['kind'])}; timed: {escape(entry['includes'])}</small>"
    line = f"<code>{escape(shlex.join(entry['command']))}</code>"
    return f"<dt>{escape(name)} {about}</dt><dd>{line}</dd>"


def _environment(values: dict[str, str]) -> str:
    return f"<section><h2>Host</h2>{_pairs(values.items())}</section>"


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td>{escape(value)}</td></tr>" for key, value in pairs
    )
    return f'<table class="pairs"><tbody>{rows}</tbody></table>'
