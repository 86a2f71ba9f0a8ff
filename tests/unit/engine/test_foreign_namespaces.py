"""A time namespace is left out for a runtime that does not know it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.engine import foreign
from pycontain.oci.runtime import Linux

KNOWS = '{"linux": {"namespaces": ["pid", "time"]}}'
KNOWS_NOT = '{"linux": {"namespaces": ["pid"]}}'


def runtime(tmp_path: Path, output: str, status: int = 0) -> str:
    program = tmp_path / "runtime"
    program.write_text(f"#!/bin/sh\n[ $1 = features ] && echo '{output}'\nexit {status}\n")
    program.chmod(0o755)
    return str(program)


def kinds(linux: Linux) -> list[str]:
    return [space["type"] for space in linux["namespaces"]]


def spaces() -> Linux:
    return {"namespaces": [{"type": "pid"}, {"type": "time"}]}


def test_one_that_knows_it_gets_it(tmp_path: Path) -> None:
    assert kinds(foreign.known(runtime(tmp_path, KNOWS), spaces())) == ["pid", "time"]


@pytest.mark.parametrize(
    ("output", "status"), [(KNOWS_NOT, 0), ("", 1), ("no json", 0), ("[]", 0), ('{"linux": 3}', 0)]
)
def test_any_other_does_not(tmp_path: Path, output: str, status: int) -> None:
    assert kinds(foreign.known(runtime(tmp_path, output, status), spaces())) == ["pid"]


def test_offsets_that_were_asked_for_stay(tmp_path: Path) -> None:
    linux: Linux = {**spaces(), "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 0}}}
    assert kinds(foreign.known(runtime(tmp_path, KNOWS_NOT), linux)) == ["pid", "time"]
