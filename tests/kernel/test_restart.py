"""Restart policies against stop, kill and rm: what was ended by hand stays down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from support import Cli

pytestmark = pytest.mark.root


def until(true: Callable[[], object]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


def state(box: Cli, name: str) -> dict[str, object]:
    return json.loads(box.text("inspect", name))[0]["State"]  # type: ignore[no-any-return]


def nobody_is_responsible(box: Cli) -> bool:
    return not [*(box.state / "locks").iterdir()]


@pytest.mark.parametrize("signal", ["KILL", "TERM", "USR1"])
def test_a_container_that_was_killed_is_not_restarted(box: Cli, signal: str) -> None:
    script = "trap 'exit 3' TERM USR1; echo up; while :; do sleep 0.02; done"
    options = ("--restart", "always", "--stop-signal", "TERM" if signal == "KILL" else signal)
    box("run", "-d", "--name", "always", *options, "busybox", "sh", "-c", script)
    assert until(lambda: "up" in box.text("logs", "always"))
    box("kill", "-s", signal, "always")
    assert until(lambda: nobody_is_responsible(box)), box.text("ps", "-a")
    assert box.text("ps", "-q") == ""
    assert box.text("logs", "always") == "up\n"


def test_another_signal_leaves_the_policy_in_force(box: Cli) -> None:
    script = "trap 'exit 3' USR2; echo up; while :; do sleep 0.02; done"
    box("run", "-d", "--name", "on", "--restart", "always", "busybox", "sh", "-c", script)
    assert until(lambda: "up" in box.text("logs", "on"))
    box("kill", "-s", "USR2", "on")
    assert until(lambda: box.text("logs", "on") == "up\nup\n")


@pytest.mark.parametrize("verb", [("stop",), ("kill",), ("rm", "-f")])
def test_a_crash_loop_ends_at_once(box: Cli, verb: tuple[str, ...]) -> None:
    box("run", "-d", "--name", "loop", "--restart", "always", "busybox", "false")
    directory = next((box.data / "containers").iterdir())
    # The fifth delay, 1.6 s.
    assert until(lambda: len([*(box.state / "locks").iterdir()]) == 1 and restarts(box) >= 4)
    assert until(lambda: (directory / "wake").exists())
    box(*verb, "loop")
    assert nobody_is_responsible(box)
    assert not (directory / "wake").exists()


def test_a_container_between_two_lives_is_restarting(box: Cli) -> None:
    script = "sleep 0.3; exit 3"
    box("run", "-d", "--name", "loop", "--restart", "always", "busybox", "sh", "-c", script)
    directory = next((box.data / "containers").iterdir())
    # The fifth delay, 1.6 s.
    assert until(lambda: restarts(box) >= 4 and (directory / "wake").exists())
    told = state(box, "loop")
    row = box.text("ps", "--format", "{{.State}}|{{.Status}}").strip()
    refused = box("rm", "loop", status=125).stderr
    found = box.text("ps", "-q", "--filter", "status=restarting")
    box("start", "loop")
    assert state(box, "loop")["Status"] == "restarting", "the delay was over: a slow machine"
    assert row.startswith("restarting|Restarting (3) ")
    assert row.endswith(" ago")
    assert b"container loop is restarting; stop it first" in refused
    assert found.strip()
    assert [told[key] for key in ("Status", "Running", "Restarting", "Paused")] == [
        "restarting", True, True, False,
    ]  # fmt: skip
    assert (told["ExitCode"], told["Pid"]) == (3, 0)
    box("stop", "loop")
    assert state(box, "loop")["Status"] == "exited"
    assert box.text("ps", "-q") == ""
    box("rm", "loop")


def restarts(box: Cli) -> int:
    return int(json.loads(box.text("inspect", "loop"))[0]["RestartCount"])


def test_a_restart_that_cannot_be_says_why(box: Cli) -> None:
    box("run", "-d", "--name", "first", "busybox", "sleep", "600")
    script = "until [ -e /go ]; do sleep 0.02; done; rm /go"
    how = ("--restart", "always", "--network", "container:first")
    box("run", "-d", "--name", "second", *how, "busybox", "sh", "-c", script)
    box("rm", "-f", "first")
    box("exec", "second", "touch", "/go", status=None)
    assert until(lambda: nobody_is_responsible(box))
    told = state(box, "second")
    assert told["ExitCode"] != 0
    assert "not found" in str(told["Error"])
