"""A container in the foreground: its terminal, its signals, and what becomes of it without us."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Cli, processes

pytestmark = pytest.mark.root

TALK = "while :; do echo {}; done"


def wait_until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_terminal_takes_more_input_than_it_holds(box: Cli) -> None:
    line = b"a" * 60
    typed = b"\n".join([line] * 5000)  # the last line has no end
    # What is printed comes back while more is typed. The terminal may drop echoes, nothing else.
    script = "stty -echo; tee /dev/stderr | wc -c"
    done = box("run", "--rm", "-it", "busybox", "sh", "-c", script, stdin=typed, timeout=30)
    assert done.stdout.rstrip().endswith(str(len(typed)).encode())


def test_a_signal_passes_output_that_nobody_reads(box: Cli, tmp_path: Path) -> None:
    script = "trap 'touch /m/done; exit 42' TERM; yes & wait"
    argv = ["run", "--rm", "-t", "-v", f"{tmp_path}:/m", "busybox", "sh", "-c", script]
    reader, writer = os.pipe()
    process = box.start(*argv, stdout=writer)
    wait_until(lambda: not select.select([], [writer], [], 0)[1])
    process.send_signal(signal.SIGTERM)
    wait_until((tmp_path / "done").exists)
    os.close(writer)
    while os.read(reader, 65536):
        pass
    os.close(reader)
    assert process.wait(20) == 42


def test_what_is_left_for_a_reader_that_stalls_is_dropped_on_a_signal(box: Cli) -> None:
    reader, writer = os.pipe()
    process = box.start("run", "--name=left", "-t", "busybox", "yes", stdout=writer)
    wait_until(lambda: not select.select([], [writer], [], 0)[1])
    pid = json.loads(box.text("inspect", "left"))[0]["State"]["Pid"]
    os.kill(pid, signal.SIGKILL)
    status = None
    while status is None:
        # One that comes before the end is noticed goes to the container.
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = process.wait(3)
    assert status == 137
    os.close(writer)
    os.close(reader)


@pytest.mark.parametrize("how", [[], ["--timeline"]])
def test_a_terminal_that_nobody_shows_ends_its_container(box: Cli, how: list[str]) -> None:
    word = f"said-{os.getpid()}-{len(how)}"
    argv = ["run", "--name=unseen", *how, "-t", "busybox", "sh", "-c", TALK.format(word)]
    with box.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == word.encode() + b"\r\n"
        process.stdout.close()
        assert process.wait(20) == 141
        assert processes(word) == []
    state = json.loads(box.text("inspect", "unseen"))[0]["State"]
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 137, "")


@pytest.mark.parametrize("options", [[], ["-t"], ["--timeline"]])
def test_without_sig_proxy_a_signal_ends_the_container_unasked(
    box: Cli, options: list[str]
) -> None:
    word = f"unasked-{os.getpid()}-{''.join(options)}"
    script = f"trap 'exit 42' TERM; echo {word}; while true; do sleep 0.05; done"
    argv = ["run", "--rm", "--sig-proxy=false", *options, "busybox", "sh", "-c", script]
    with box.start(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().strip() == word.encode()
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
        assert processes(word) == []
        assert process.stderr.read().startswith(b"pycontain: ended by signal 15")
    assert box.text("ps", "-aq") == ""
