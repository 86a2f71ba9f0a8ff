"""Scratch directories: a living comparison's stays, a dead one's goes."""

from __future__ import annotations

import os
from pathlib import Path

from pycontain.bench.sweep import scratch, sweep


def test_a_held_directory_stays_and_an_unheld_one_goes(tmp_path: Path) -> None:
    held, descriptor = scratch(str(tmp_path))
    left, other = scratch(str(tmp_path))
    (left / "data").mkdir()
    os.close(other)
    sweep(str(tmp_path))
    assert held.is_dir() and not left.exists()
    os.close(descriptor)
    sweep(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_what_has_another_name_or_is_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "pycontain-bench-link").symlink_to(elsewhere)
    sweep(str(tmp_path))
    assert elsewhere.is_dir() and (tmp_path / "results").is_dir()
