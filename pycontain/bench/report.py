"""One set of results in every form: text, Markdown, CSV, JSON, HTML."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pycontain.bench import text
from pycontain.bench.model import KIND_NOTE, Kind
from pycontain.bench.summary import Section, sections
from pycontain.errors import UsageError

if TYPE_CHECKING:
    from pycontain.bench.store import Results

FILES = {
    "html": "report.html",
    "markdown": "report.md",
    "csv": "report.csv",
    "json": "report.json",
}


def render(results: Results, form: str) -> str:
    """Return the results as `form`: text, markdown, csv, json or html."""
    found = sections(results.meta, results.samples)
    if form == "text":
        return text.plain(found) + notes(results.meta)
    if form == "markdown":
        return f"# Comparison\n\n{text.markdown(found)}\n{markdown_notes(results.meta)}"
    if form == "csv":
        return text.csv_text(found)
    if form == "json":
        return json_text(results.meta, found)
    if form == "html":
        from pycontain.bench import page

        return page.page(results.meta, found, results.samples)
    raise UsageError(f"no form {form}")


def notes(meta: dict[str, Any]) -> str:
    """Return what has to stand below every table."""
    lines = ["", f"image {meta['image']}, rootfs {meta['image_digest'][:19]}"]
    lines.append(f"host: {meta['environment']['host is']}")
    kinds = {entry["kind"] for entry in meta["arms"].values()}
    lines += [f"{kind.value}: {KIND_NOTE[kind]}" for kind in Kind if kind.value in kinds]
    lines += [f"not here: {name}: {reason}" for name, reason in meta["absent"].items()]
    return "\n".join(lines) + "\n"


def markdown_notes(meta: dict[str, Any]) -> str:
    """Return the notes, the environment and the command lines as Markdown."""
    lines = [f"- {line}" for line in notes(meta).splitlines() if line]
    lines += ["", "| host | |", "| --- | --- |"]
    lines += [f"| {key} | {value} |" for key, value in meta["environment"].items()]
    lines += ["", "Command lines of the first workload:", ""]
    for name, entry in meta["arms"].items():
        lines += [
            f"- {name} ({entry['kind']}; timed: {entry['includes']})",
            "",
            f"      {' '.join(entry['command'])}",
            "",
        ]
    return "\n".join(lines) + "\n"


def json_text(meta: dict[str, Any], found: list[Section]) -> str:
    """Return everything as JSON (schema: bench/schema.json); every figure carries its kind."""
    body = [asdict(section) for section in found]
    return json.dumps({"schema": 1, "meta": meta, "sections": _finite(body)}, indent=1) + "\n"


def _finite(value: Any) -> Any:
    """Replace infinities, which JSON has not, by null: an interval with an open end."""
    if isinstance(value, float):
        return value if abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    return [_finite(each) for each in value] if isinstance(value, (list, tuple)) else value
