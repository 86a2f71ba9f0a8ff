"""The protocol of an arm, and the outcome of one run.

    probe() -> "" or why it cannot run here      prepare(image, place)      run(workload) -> Outcome
    command_line(workload) -> list[str]           close()

Owns the contract and what all arms read from a finished launch; each arm is one module of
`backends`. Every arm passes tests/kernel/test_bench_arms.py.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pycontain.bench.model import Kind, Metric, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from pycontain.bench.image import BenchImage
    from pycontain.bench.launch import Launch
    from pycontain.bench.place import Place

FIGURE = re.compile(
    rb"^figure ([a-z0-9_]{1,40}) ([0-9]{1,24}(?:\.[0-9]{1,9})?) ([A-Za-z/%]{1,12})$"
)
FIRST_INSTRUCTION, FIRST_REALTIME = "first_instruction", "first_realtime"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one run gave: exit status, figures, and the output they are compared by."""

    status: int
    metrics: Mapping[str, Metric]
    output: bytes = b""
    errors: bytes = b""
    retries: int = 0
    note: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """One arm. `repeats` is False for an arm whose second run could not differ from its first."""

    name: str
    kind: Kind
    includes: str
    repeats: bool

    def probe(self) -> str:
        """Return "" when the arm can run here, else the reason why not, in one line."""
        ...

    def prepare(self, image: BenchImage, place: Place) -> None:
        """Make ready whatever is not part of a start: unpack, load, mount. Called once."""
        ...

    def command_line(self, workload: Workload) -> list[str]:
        """Return what is started, for the report."""
        ...

    def run(self, workload: Workload) -> Outcome:
        """Run the workload once. A failure of the arm raises PycontainError."""
        ...

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        """Start a workload that waits, and keep it until the context is left.

        Entered when the workload has printed its first line. UnsupportedError where nothing runs.
        """
        ...

    def close(self) -> None:
        """Undo `prepare`; may be called without it, and twice."""
        ...


def outcome_of(launch: Launch, *, whole_tree: bool, own_clock: bool = False) -> Outcome:
    """Return the outcome of a launch.

    `whole_tree`: every process of the arm is waited for by its parent, so that CPU time and faults
    are those of the whole arm; with a daemon in between they would be the client's alone.
    `own_clock`: CLOCK_MONOTONIC of the arm is not the host's, so the first instruction is placed
    by the time of day.
    """
    metrics = {"wall": Metric(value=launch.wall_s, unit="s")}
    if whole_tree:
        metrics |= {
            "user": Metric(value=launch.user_us / 1e6, unit="s"),
            "system": Metric(value=launch.system_us / 1e6, unit="s"),
            "faults": Metric(value=launch.minor_faults, unit="1"),
            "max_rss": Metric(value=launch.max_rss_kib << 10, unit="B"),
        }
    figures, output = split_figures(launch.stdout)
    first, of_day = figures.pop(FIRST_INSTRUCTION, None), figures.pop(FIRST_REALTIME, None)
    if first is not None:
        first_ns = first.value
        if own_clock and of_day is not None:
            first_ns = of_day.value - (time.time_ns() - time.monotonic_ns())
        to_command = (first_ns - launch.start_ns) / 1e9
        metrics["to_command"] = Metric(value=to_command, unit="s")
        metrics["after_command"] = Metric(value=launch.wall_s - to_command, unit="s")
    return Outcome(
        status=launch.status, metrics=metrics | figures, output=output, errors=launch.stderr
    )


def split_figures(stdout: bytes) -> tuple[dict[str, Metric], bytes]:
    """Return the figures a workload printed, and the rest of its output.

    The rest has to be the same in every arm; what was timed cannot be.
    """
    figures: dict[str, Metric] = {}
    rest = []
    for line in stdout.splitlines(keepends=True):
        found = FIGURE.match(line.rstrip(b"\r\n"))
        if found is None:
            rest.append(line)
            continue
        name, value, unit = (word.decode() for word in found.groups())
        figures[name] = Metric(value=float(value), unit=unit)
    return figures, b"".join(rest)


def environment(image: BenchImage, workload: Workload) -> dict[str, str]:
    """Return the environment of the command: the image's, then the workload's own."""
    words = [*image.env, *workload.env]
    return dict(word.split("=", 1) for word in words if "=" in word)
