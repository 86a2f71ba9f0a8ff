"""Containers in the background: ps, logs, exec, stop, kill, restart, rm."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from support import Cli

pytestmark = pytest.mark.root


def test_a_detached_container_is_listed_logged_and_waited_for(box: Cli) -> None:
    identity = box.text(
        "run",
        "-d",
        "--name",
        "web",
        "busybox",
        "sh",
        "-c",
        "echo out; echo err >&2; until [ -e /go ]; do sleep 0.05; done; exit 3",
    )
    assert len(identity.strip()) == 64
    assert "Up " in box.text("ps")
    box("exec", "web", "touch", "/go")
    assert box.text("wait", "web") == "3\n"
    logs = box("logs", "web")
    assert (logs.stdout, logs.stderr) == (b"out\n", b"err\n")
    assert "Exited (3)" in box.text("ps", "-a")
    assert box.text("ps", "-q") == ""


def test_a_stopped_container_starts_again_with_its_files(box: Cli) -> None:
    box("run", "--name", "keep", "busybox", "sh", "-c", "echo x >> /file; wc -l < /file")
    assert box.text("start", "-a", "keep") == "2\n"
    box("start", "keep")
    assert box.text("wait", "keep") == "0\n"


def test_created_is_not_running(box: Cli) -> None:
    box("create", "--name", "later", "busybox", "echo", "hi")
    assert "Created" in box.text("ps", "-a")
    assert box.text("start", "-a", "later") == "hi\n"


def test_exec_has_the_containers_bounds(box: Cli) -> None:
    box("run", "-d", "--name", "host", "busybox", "sleep", "60")
    grep = "grep -E 'CapBnd|CapEff|Seccomp:|NoNewPrivs' /proc/self/status; ls /proc/self/fd | wc -l"
    inside = box.text("exec", "host", "sh", "-c", grep)
    assert "CapEff:\t00000000800405fb" in inside
    assert "Seccomp:\t2" in inside
    assert "NoNewPrivs:\t1" in inside
    box("exec", "host", "sh", "-c", "exit 9", status=9)
    box("exec", "host", "nosuch", status=127)
    assert box.text(
        "exec", "-u", "1000", "-w", "/tmp", "-e", "A=b", "host", "sh", "-c", "id -u; pwd; echo $A"
    ).split() == ["1000", "/tmp", "b"]
    assert box("exec", "-i", "host", "cat", stdin=b"typed").stdout == b"typed"


def test_exec_as_root_has_roots_capabilities_whoever_the_container_runs_as(box: Cli) -> None:
    sets = ("grep", "-E", "Cap(Inh|Prm|Eff|Bnd|Amb)", "/proc/self/status")
    box("run", "-d", "--name", "root", "--cap-drop", "CHOWN", "busybox", "sleep", "60")
    box(
        "run", "-d", "--name", "user", "--cap-drop", "CHOWN", "-u", "1000", "busybox", "sleep", "60"
    )
    of_root = box.text("exec", "root", *sets)
    assert "CapEff:\t00000000800405fa" in of_root
    assert box.text("exec", "-u", "0", "user", *sets) == of_root
    box("exec", "-u", "0", "user", "chroot", "/", "true")
    of_user = box.text("exec", "user", *sets)
    assert {line.split()[1] for line in of_user.splitlines()} == {"0" * 16}
    assert box.text("exec", "-u", "1000", "root", *sets) == of_user


def test_exec_leaves_out_a_variable_the_caller_lacks(
    box: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    box("run", "-d", "--name", "env", "-e", "LEFT=1", "-e", "GONE=1", "busybox", "sleep", "60")
    monkeypatch.delenv("NOWHERE", raising=False)
    monkeypatch.delenv("GONE", raising=False)
    monkeypatch.setenv("HERE", "h")
    lines = box.text("exec", "-e", "NOWHERE", "-e", "GONE", "-e", "HERE", "env", "env").splitlines()
    assert {"LEFT=1", "HERE=h"} <= set(lines)
    assert not [line for line in lines if line.startswith(("NOWHERE", "GONE"))]
    line = box.text("exec", "-u", "1000", "-e", "HOME=/x", "env", "sh", "-c", "echo $HOME")
    assert line == "/x\n"


def test_exec_in_a_paused_container_names_the_way_out(box: Cli) -> None:
    box("run", "-d", "--name", "held", "busybox", "sleep", "60")
    box("pause", "held")
    said = box("exec", "held", "true", status=125).stderr
    assert b"paused" in said
    assert said.endswith(b"; pycontain unpause held\n")
    box("unpause", "held")
    box("exec", "held", "true")


def test_exec_in_what_does_not_run_is_refused(box: Cli) -> None:
    box("create", "--name", "idle", "busybox", "true")
    assert b"not running" in box("exec", "idle", "true", status=125).stderr


def test_stop_asks_first_and_kills_then(box: Cli) -> None:
    box(
        "run",
        "-d",
        "--name",
        "polite",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; echo r; while true; do sleep 0.05; done",
    )
    box(
        "run",
        "-d",
        "--name",
        "deaf",
        "busybox",
        "sh",
        "-c",
        "trap '' TERM; echo r; while true; do sleep 0.05; done",
    )
    for name in ("polite", "deaf"):
        while "r" not in box.text("logs", name):
            time.sleep(0.02)
    box("stop", "-t", "60", "polite")
    started = time.monotonic()
    box("stop", "-t", "1", "deaf")
    assert time.monotonic() - started > 0.9
    assert box.text("wait", "polite", "deaf").split() == ["5", "137"]


def test_kill_sends_the_signal_named(box: Cli) -> None:
    box(
        "run",
        "-d",
        "--name",
        "target",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 8' USR1; echo r; while true; do sleep 0.05; done",
    )
    while "r" not in box.text("logs", "target"):
        time.sleep(0.02)
    box("kill", "-s", "USR1", "target")
    assert box.text("wait", "target") == "8\n"
    assert b"not running" in box("kill", "target", status=125).stderr


def test_pause_stops_time_for_the_container(box: Cli) -> None:
    box("run", "-d", "--name", "frozen", "busybox", "sleep", "60")
    box("pause", "frozen")
    assert "(Paused)" in box.text("ps")
    box("unpause", "frozen")
    assert "(Paused)" not in box.text("ps")


def test_a_running_container_is_removed_by_force_only(box: Cli) -> None:
    box("run", "-d", "--name", "busy", "busybox", "sleep", "60")
    assert b"running" in box("rm", "busy", status=125).stderr
    box("rm", "-f", "busy")
    assert box.text("ps", "-aq") == ""


def test_a_removed_name_is_free(box: Cli) -> None:
    box("run", "--name", "again", "busybox", "true")
    assert b"in use" in box("run", "--name", "again", "busybox", "true", status=125).stderr
    box("rm", "again")
    box("run", "--rm", "--name", "again", "busybox", "true")


def test_a_failing_container_is_restarted_as_often_as_asked(box: Cli) -> None:
    box(
        "run",
        "-d",
        "--name",
        "retry",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo try; exit 1",
    )
    end = time.monotonic() + 15
    while box.text("logs", "retry").count("try") < 3 and time.monotonic() < end:
        time.sleep(0.05)
    box("wait", "retry")
    assert box.text("logs", "retry").count("try") == 3


def test_a_stopped_container_is_not_restarted(box: Cli) -> None:
    box("run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "60")
    box("stop", "-t", "0", "always")
    time.sleep(0.5)
    assert box.text("ps", "-q") == ""


def test_the_end_of_a_removed_when_done_container_is_waited_for(box: Cli) -> None:
    script = "until [ -e /go ]; do sleep 0.02; done; exit 3"
    for _ in range(5):
        box("run", "-d", "--rm", "--name", "short", "busybox", "sh", "-c", script)
        waiting = box.start("wait", "short", stdout=subprocess.PIPE)
        time.sleep(0.2)
        # It may be killed with the container it ends.
        box("exec", "short", "touch", "/go", status=None)
        assert waiting.communicate(timeout=20)[0] == b"3\n"


def test_a_removed_when_done_container_leaves_the_list(box: Cli) -> None:
    box("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.3")
    box("wait", "brief", status=None)
    end = time.monotonic() + 5
    while box.text("ps", "-aq") and time.monotonic() < end:
        time.sleep(0.02)
    assert box.text("ps", "-aq") == ""


def test_a_command_that_cannot_start_says_so_in_the_foreground(box: Cli) -> None:
    assert b"nosuch" in box("run", "-d", "--rm", "busybox", "nosuch", status=127).stderr
    assert box.text("ps", "-aq") == ""


def test_logs_tail_times_and_rotation(box: Cli) -> None:
    box(
        "run",
        "-d",
        "--name",
        "chatty",
        "--log-opt",
        "max-size=2k",
        "--log-opt",
        "max-file=2",
        "busybox",
        "seq",
        "200",
    )
    box("wait", "chatty")
    assert box.text("logs", "--tail", "2", "chatty") == "199\n200\n"
    assert box.text("logs", "-t", "-n", "1", "chatty").startswith("20")
    assert box.text("logs", "chatty").splitlines()[-1] == "200"


def test_listings_escape_what_a_terminal_would_obey(box: Cli) -> None:
    evil = "\x1b]0;evil\x07\nFAKE"
    box("run", "--name", "evil", "--label", f"l={evil}", "busybox", "echo", evil)
    for argv in (
        ["ps", "-a", "--no-trunc"],
        ["images"],
        ["ps", "-a", "--format", "json"],
        ["inspect", "evil"],
    ):
        out = box(*argv).stdout
        assert b"\x1b" not in out
        assert b"\x07" not in out
        assert b"\nFAKE" not in out


def test_filters_and_formats_of_ps(box: Cli) -> None:
    box("run", "--name", "one", "--label", "k=v", "busybox", "sh", "-c", "exit 4", status=4)
    box("create", "--name", "two", "busybox", "true")
    assert box.text("ps", "-aq", "--filter", "label=k=v").strip()
    assert box.text("ps", "-a", "--filter", "exited=4", "--format", "json").count('"one"') == 1
    assert box.text("ps", "--filter", "status=created", "-q").strip()
    assert (
        json.loads(box.text("ps", "-a", "-f", "name=two", "--format", "json"))["State"] == "created"
    )


@pytest.mark.parametrize("options", [(), ("--rm",)])
def test_attach_shows_what_comes_and_hands_signals_on(box: Cli, options: tuple[str, ...]) -> None:
    script = (
        "trap 'echo caught; echo sad >&2; exit 9' TERM; echo early;"
        " while :; do sleep 0.1; echo tick; done"
    )
    box("run", "-d", *options, "--name", "live", "busybox", "sh", "-c", script)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    attached = box.start("attach", "live", **pipes)
    assert attached.stdout is not None
    assert attached.stdout.readline() == b"tick\n"
    attached.send_signal(signal.SIGTERM)
    out, err = attached.communicate(timeout=60)
    assert (attached.returncode, err) == (9, b"sad\n")
    assert out.endswith(b"caught\n")
    assert b"early" not in out
    box("attach", "live", status=125)


@pytest.mark.parametrize("how", [(), ("-d",)])
def test_a_container_renamed_while_it_runs_leaves_no_name(box: Cli, how: tuple[str, ...]) -> None:
    script = "echo up; until [ -e /go ]; do sleep 0.02; done"
    options = ("--rm", "--name", "before", *how)
    run = box.start("run", *options, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline()
    box("rename", "before", "after")
    box("exec", "after", "touch", "/go", status=None)
    assert run.wait(20) == 0
    run.stdout.close()
    locks = box.state / "locks"
    end = time.monotonic() + 20
    while [*locks.iterdir()] and time.monotonic() < end:
        time.sleep(0.02)
    assert not [*(box.data / "names").iterdir()]
