"""The Python API: run a container from this process."""

from __future__ import annotations

import inspect
import linecache
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from launching import children, descriptors
from support import Cli, processes

import pycontain
from pycontain import api
from pycontain.errors import CommandNotFoundError, UsageError
from pycontain.runtime import creation, launch

pytestmark = pytest.mark.root


def run(box: Cli, argv: list[str], **options: object) -> pycontain.Result:
    return pycontain.run("busybox", argv, root=str(box.data), state=str(box.state), **options)  # type: ignore[arg-type]


def test_output_status_and_input_come_back(box: Cli) -> None:
    result = run(box, ["sh", "-c", "cat; echo e >&2; exit 3"], stdin=b"x" * 200_000)
    assert (result.exit_status, result.stderr, len(result.stdout)) == (3, b"e\n", 200_000)
    assert set(result.timings) == {"make", "launch", "run", "remove"}


def test_options_are_the_command_lines(box: Cli) -> None:
    result = run(
        box, ["sh", "-c", "id -u; echo $A; hostname"], user=1000, env={"A": "b"}, hostname="in"
    )
    assert result.stdout.split() == [b"1000", b"b", b"in"]


def test_memory_over_the_limit_is_told(box: Cli) -> None:
    result = run(box, ["sh", "-c", "a=x; while true; do a=$a$a; done"], memory="32m", cpus=1.0)
    assert (result.exit_status, result.oom) == (137, True)


def test_a_timeout_kills(box: Cli) -> None:
    assert run(box, ["sleep", "60"], timeout=0.3).exit_status == 137


def test_a_timeout_kills_what_keeps_writing(box: Cli) -> None:
    result = run(box, ["yes"], timeout=0.3)
    assert result.exit_status == 137
    assert result.stdout.startswith(b"y\ny\n")


def test_output_of_many_pipes_full_comes_back_whole(box: Cli) -> None:
    result = run(box, ["head", "-c", "30000000", "/dev/zero"])
    assert result.stdout == bytes(30_000_000)


def test_the_output_ends_with_init_whoever_writes_on(box: Cli) -> None:
    result = run(box, ["sh", "-c", "yes & sleep 0.2; exit 3"], pid="host")
    assert result.exit_status == 3
    assert result.stdout.startswith(b"y\ny\n")


NEVER_BEFORE = ("try:", "finally:", "session.close()", "undo.append(lambda: launch.end(init))")
"""Lines before which no signal is looked for: the interpreter does it at calls and jumps back."""


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("rm", [True, False])
def test_an_exception_ends_the_container_and_gives_it_up(
    box: Cli, tmp_path: Path, rm: bool
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    def when_it_runs() -> None:
        while not (tmp_path / "runs").exists():
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    word = f"interrupted-{os.getpid()}"
    before = signal.signal(signal.SIGUSR1, interrupt)
    thread = threading.Thread(target=when_it_runs)
    thread.start()
    descriptors = os.listdir("/proc/self/fd")
    try:
        with pytest.raises(Interrupted):
            run(
                box, ["sh", "-c", f"read line; touch /m/runs; sleep 60; : {word}"],
                stdin=b"\n", name="broken-off", volume=f"{tmp_path}:/m", rm=rm,
            )  # fmt: skip
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert processes(word) == []
    assert os.listdir(box.state / "locks") == []
    assert os.listdir("/proc/self/fd") == descriptors
    exited = box.text("ps", "-a", "--format", "{{.Names}} {{.Status}}")
    assert exited.startswith("broken-off Exited (137)") is not rm


@pytest.mark.parametrize("function", [api.run, api._Session.launch, creation.make, launch._start])
def test_an_exception_before_any_line_leaves_nothing(
    box: Cli, function: Callable[..., object]
) -> None:
    """Raised by a trace before each line in turn, as a handler of a signal might."""
    code = inspect.unwrap(function).__code__
    word = f"swept-{os.getpid()}"

    def attempt(raise_at: int) -> int:
        """Run once; raise before the line of this number, return how many were seen."""
        seen = 0

        def trace(frame: FrameType, event: str, _: object) -> object:
            nonlocal seen
            if frame.f_code is not code:
                return None
            text = linecache.getline(code.co_filename, frame.f_lineno).strip()
            if event == "line" and not text.startswith(NEVER_BEFORE):
                seen += 1
                if seen == raise_at:
                    sys.settrace(None)
                    raise Interrupted
            return trace

        sys.settrace(trace)
        try:
            run(box, ["sh", "-c", f": {word}; exit 0"])
        finally:
            sys.settrace(None)
        return seen

    count = attempt(0)
    before = children(), descriptors()
    assert count > 5
    for at in range(1, count + 1):
        with pytest.raises(Interrupted):
            attempt(at)
        assert (children(), descriptors()) == before, at
        assert os.listdir(box.state / "locks") == [], at
        assert processes(word) == [], at
    for place in (box.state / "containers", box.data / "containers", box.data / "names"):
        assert os.listdir(place) == []


def test_errors_are_exceptions_and_leave_nothing(box: Cli) -> None:
    with pytest.raises(CommandNotFoundError):
        run(box, ["nosuch"])
    with pytest.raises(UsageError):
        run(box, ["true"], nosuch=1)
    with pytest.raises(UsageError):
        run(box, ["true"], memory="lots")
    assert box.text("ps", "-aq") == ""


def test_descriptors_do_not_pile_up(box: Cli) -> None:
    run(box, ["true"])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(box, ["true"])
    assert len(os.listdir("/proc/self/fd")) == before
