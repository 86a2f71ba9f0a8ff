"""Limits of `pycontain run` hold, and an OOM kill is told."""

from __future__ import annotations

import time

import pytest
from support import Cli

pytestmark = pytest.mark.root

GROW = "a=x; while true; do a=$a$a; done"


def test_memory_over_the_limit_is_killed_and_reported(box: Cli) -> None:
    done = box("run", "--rm", "--memory", "64m", "busybox", "sh", "-c", GROW, status=137)
    assert b"out of memory" in done.stderr
    assert str(64 << 20).encode() in done.stderr


def test_a_detached_oom_kill_is_in_the_record(box: Cli) -> None:
    box("run", "-d", "--name", "greedy", "--memory", "32m", "busybox", "sh", "-c", GROW)
    assert box.text("wait", "greedy") == "137\n"
    assert '"OOMKilled": true' in box.text("inspect", "greedy")


def test_half_a_cpu_halves_a_busy_loop(box: Cli) -> None:
    script = (
        "t=$(cut -d' ' -f1 /proc/uptime); i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; times"
    )
    started = time.monotonic()
    text = box.text("run", "--rm", "--cpus", "0.5", "busybox", "sh", "-c", script)
    wall = time.monotonic() - started
    minutes, seconds = text.split()[0].rstrip("s").split("m")
    used = int(minutes) * 60 + float(seconds)
    assert used < 0.75 * wall


def test_a_fork_bomb_stops_at_the_process_limit(box: Cli) -> None:
    script = "for i in $(seq 60); do sleep 2 & done; wait"
    done = box("run", "--rm", "--pids-limit", "20", "busybox", "sh", "-c", script, status=None)
    assert b"fork" in done.stderr


def test_limits_asked_for_and_got_are_shown(box: Cli) -> None:
    box(
        "run",
        "-d",
        "--name",
        "limited",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "busybox",
        "sleep",
        "60",
    )
    text = box.text("inspect", "limited")
    assert str(64 << 20) in text
    assert '"Limits": []' not in text


def test_a_ulimit_is_set(box: Cli) -> None:
    text = box.text(
        "run", "--rm", "--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"
    )
    assert text.split() == ["100", "200"]


def test_shm_has_the_size_asked_for(box: Cli) -> None:
    text = box.text("run", "--rm", "--shm-size", "2m", "busybox", "df", "-k", "/dev/shm")
    assert " 2048 " in text


def test_a_limit_that_cannot_be_applied_is_an_error(box: Cli) -> None:
    done = box(
        "run",
        "--rm",
        "--cgroup-manager",
        "disabled",
        "--memory",
        "64m",
        "busybox",
        "true",
        status=125,
    )
    assert b"memory" in done.stderr
