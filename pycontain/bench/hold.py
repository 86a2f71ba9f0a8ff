"""Keeping a command running while its memory is looked at."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontain.bench.launch import LaunchError, memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

READY_TIMEOUT_S = 60.0
END_TIMEOUT_S = 15.0
POLL_S = 0.01


@contextmanager
def held(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[None]:
    """Run `argv` until the context is left; entered once it has printed something.

    It is asked to end by SIGTERM, which engines pass on, and killed with its session after that.
    """
    with memory("in") as empty, memory("err") as err:
        process = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=empty,
            stdout=subprocess.PIPE,
            stderr=err,
            start_new_session=True,
        )
        try:
            _wait_for_output(process, argv[0])
            yield
        finally:
            _end(process)


def _wait_for_output(process: subprocess.Popen[bytes], name: str) -> None:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_TIMEOUT_S
    ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
    if not ready or not os.read(process.stdout.fileno(), 1):
        raise LaunchError(f"{name}: the workload that waits did not start")


def _end(process: subprocess.Popen[bytes]) -> None:
    # The whole session: the stopwatch does not pass signals on to what it waits for.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _wait_for_group(process.pid)
    assert process.stdout is not None
    process.stdout.close()


def _wait_for_group(group: int) -> None:
    """Wait until nothing is left of a process group: what was held may end after its parent."""
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(POLL_S)
    os.killpg(group, signal.SIGKILL)
