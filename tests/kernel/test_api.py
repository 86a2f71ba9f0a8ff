"""The Python API: run a container from this process."""

from __future__ import annotations

import pytest
from support import Cli

import pycontain
from pycontain.errors import CommandNotFoundError, UsageError

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


def test_errors_are_exceptions_and_leave_nothing(box: Cli) -> None:
    with pytest.raises(CommandNotFoundError):
        run(box, ["nosuch"])
    with pytest.raises(UsageError):
        run(box, ["true"], nosuch=1)
    with pytest.raises(UsageError):
        run(box, ["true"], memory="lots")
    assert box.text("ps", "-aq") == ""


def test_descriptors_do_not_pile_up(box: Cli) -> None:
    import os

    run(box, ["true"])
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        run(box, ["true"])
    assert len(os.listdir("/proc/self/fd")) == before
