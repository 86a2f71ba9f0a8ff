"""What `bench claims` says, in English and Korean; the words are in claims.toml."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from pycontain.bench.model import Kind
from pycontain.bench.text import digits_of, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.bench.claims import Figure, Finding

SHOWN = 12


@cache
def texts() -> dict[str, dict[str, dict[str, str]]]:
    """Return every text: by table, key and language."""
    return tomllib.loads(files("pycontain.bench").joinpath("claims.toml").read_text("utf-8"))


def render(findings: Sequence[Finding], meta: dict[str, Any], lang: str) -> str:
    """Return every answer as text in `lang` (en or ko)."""
    host = meta["environment"]["host is"]
    lines = [_label("title", lang), f"{_label('host', lang)}: {host}", ""]
    for number, finding in enumerate(findings, start=1):
        lines += _finding(number, finding, lang)
    return "\n".join(lines) + "\n"


def _label(key: str, lang: str) -> str:
    return texts()["labels"][key][lang]


def _finding(number: int, finding: Finding, lang: str) -> list[str]:
    known = texts()
    reason = known["reasons"][finding.reason][lang].format_map(finding.words)
    verdict = known["verdicts"][finding.verdict.value][lang].upper()
    experiment = known["experiments"][finding.claim][lang]
    lines = [
        f"{number}. {known['claims'][finding.claim][lang]}",
        f"   {verdict}: {reason}",
        f"   {_label('experiment', lang)}: {experiment}",
    ]
    lines += [f"     {_figure(one, lang)}" for one in finding.figures[:SHOWN]]
    if len(finding.figures) > SHOWN:
        lines.append(f"     … +{len(finding.figures) - SHOWN}: claims.json")
    return [*lines, ""]


def _figure(one: Figure, lang: str) -> str:
    return f"{one.name:<42} {_label(one.kind.value, lang):<9}  {_value(one, lang)}"


def _value(one: Figure, lang: str) -> str:
    digits = digits_of(Kind(one.kind))
    if one.unit == "passed":
        return _label("passed" if one.value else "failed", lang)
    numbers = [one.value, *(each for each in (one.low, one.high) if each is not None)]
    if one.unit == "x native":
        words = [f"{number:.{digits}g}" for number in numbers]
        unit = f" {_label('native', lang)}"
    else:
        words, unit = [figure(number, one.unit, digits) for number in numbers], ""
    interval = f" [{words[1]}, {words[2]}]" if len(words) == 3 else ""
    return f"{words[0]}{unit}{interval}"
