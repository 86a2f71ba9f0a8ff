"""The reader of a log: nothing is lost of a file that is rotated or removed."""

from __future__ import annotations

import json
from pathlib import Path

from pycontain.engine.logs import NAME, Reader


def line(text: str) -> str:
    return json.dumps({"log": text, "stream": "stdout", "time": "2026-01-01T00:00:00Z"}) + "\n"


def texts(reader: Reader) -> list[str]:
    return [entry.text for entry in reader.more()]


def test_what_was_written_before_a_removal_is_read(tmp_path: Path) -> None:
    log = tmp_path / NAME
    log.write_text(line("one"))
    reader = Reader(str(tmp_path))
    assert texts(reader) == ["one"]
    with log.open("a") as file:
        file.write(line("two"))
    log.unlink()
    assert texts(reader) == ["two"]
    assert texts(reader) == []


def test_a_rotation_loses_no_line(tmp_path: Path) -> None:
    log = tmp_path / NAME
    log.write_text(line("one"))
    reader = Reader(str(tmp_path))
    assert texts(reader) == ["one"]
    with log.open("a") as file:
        file.write(line("two"))
    log.rename(tmp_path / f"{NAME}.1")
    log.write_text(line("three"))
    assert texts(reader) == ["two", "three"]
    assert texts(reader) == []
