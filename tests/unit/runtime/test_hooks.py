"""Hooks in the runtime's namespaces: state on stdin, environment, timeout, failures."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

import pytest

from pycontain.runtime import hooks

NOWHERE = hooks.Place(0)
STATE = {"ociVersion": "1.0.2", "id": "one", "status": "created", "pid": 7, "bundle": "/b"}


def shell(script: str, **more: object) -> dict:
    return {"path": "/bin/sh", "args": ["sh", "-c", script], **more}


def test_the_state_comes_on_stdin(tmp_path: Path) -> None:
    hooks.run("prestart", [shell(f"cat > {tmp_path}/state")], STATE, 0)
    assert json.loads((tmp_path / "state").read_text()) == STATE


def test_hooks_run_in_order(tmp_path: Path) -> None:
    script = f"echo %d >> {tmp_path}/log"
    hooks.run("prestart", [shell(script % n) for n in range(4)], STATE, 0)
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]


def test_a_hook_that_reads_nothing_is_fine() -> None:
    big = {**STATE, "annotations": {"a": "x" * 1_000_000}}
    hooks.run("prestart", [{"path": "/bin/true"}], big, 0)


def test_a_hook_may_print_a_lot() -> None:
    hooks.run("prestart", [shell("head -c 1000000 /dev/zero")], STATE, 0)


def test_the_environment_is_exactly_as_given(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    hook = {"path": "/usr/bin/env", "args": ["env"], "env": ["A=1", "B=x=y"]}
    script = shell(f"cat /proc/$$/environ > {tmp_path}/env", env=["A=1", "B=x=y"])
    hooks.run("prestart", [hook, script], STATE, 0)
    assert (tmp_path / "env").read_bytes().split(b"\0")[:2] == [b"A=1", b"B=x=y"]
    assert b"SECRET" not in (tmp_path / "env").read_bytes()


def test_a_failure_names_stage_index_and_output() -> None:
    with pytest.raises(hooks.HookError) as caught:
        hooks.run("createRuntime", [{"path": "/bin/true"}, shell("echo why >&2; exit 3")], STATE, 0)
    message = str(caught.value)
    assert message.startswith("error running createRuntime hook #1:")
    assert "exit status 3" in message
    assert "why" in message


def test_the_first_failure_ends_the_stage(tmp_path: Path) -> None:
    with pytest.raises(hooks.HookError):
        hooks.run("prestart", [shell("exit 1"), shell(f"touch {tmp_path}/ran")], STATE, 0)
    assert not (tmp_path / "ran").exists()


def test_run_each_goes_on_after_a_failure(tmp_path: Path) -> None:
    failures = hooks.run_each(
        "poststop", [shell("exit 1"), shell(f"touch {tmp_path}/ran")], STATE, 0
    )
    assert len(failures) == 1
    assert (tmp_path / "ran").exists()


def test_a_missing_program_is_an_error() -> None:
    with pytest.raises(
        hooks.HookError, match=r"hook #0: error running hook /no/such: No such file or directory"
    ):
        hooks.run("prestart", [{"path": "/no/such"}], STATE, 0)


def test_a_signal_is_named() -> None:
    with pytest.raises(hooks.HookError, match="killed by signal 9"):
        hooks.run("prestart", [shell("kill -9 $$")], STATE, 0)


def test_a_hook_beyond_its_timeout_dies_with_its_children(tmp_path: Path) -> None:
    script = f"sleep 60 & echo $! > {tmp_path}/pid; wait"
    begun = time.monotonic()
    with pytest.raises(hooks.HookError, match="timed out after 1 s"):
        hooks.run("prestart", [shell(script, timeout=1)], STATE, 0)
    assert time.monotonic() - begun < 10
    child = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while " Z " not in Path(f"/proc/{child}/stat").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_daemon_left_behind_does_not_hold_us() -> None:
    begun = time.monotonic()
    hooks.run("prestart", [shell("sleep 3 & exit 0")], STATE, 0)
    assert time.monotonic() - begun < 2


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        hooks.run_each("poststop", [shell("exit 1"), {"path": "/no/such"}], STATE, 0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_broken_pipes_kill_a_hook_as_anywhere_else(tmp_path: Path) -> None:
    script = f"grep SigIgn /proc/$$/status > {tmp_path}/ignored"
    hooks.run("prestart", [shell(script)], STATE, 0)
    assert int((tmp_path / "ignored").read_text().split()[1], 16) & 1 << 12 == 0
