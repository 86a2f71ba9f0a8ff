"""The values of the comparison: workload, limits, metric, sample. No effect, no arithmetic.

A sample is one run of one workload in one arm; it keeps every metric with its unit and is never
overwritten by a summary. Its JSON form is one line of `samples.jsonl` (schema: bench/schema.json).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA_VERSION = 1
TRACED = "traced_"
"""Prefix of a simulated sample's metrics that were measured: the native run it was made from."""
FAILED = -1
"""The status of a sample whose arm failed; its note says how."""


class Kind(StrEnum):
    """How a figure came about; it stands beside every figure."""

    MEASURED = "measured"
    EMULATED = "emulated"
    SIMULATED = "simulated"


KIND_NOTE = {
    Kind.MEASURED: "run on this host",
    Kind.EMULATED: "run in QEMU TCG, an emulator: it says nothing about hardware VMs",
    Kind.SIMULATED: "predicted by the model from counted events: never run",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits every arm gets; None leaves one out. `cpus` is a quota, `cpuset` a list like 0,1."""

    memory_bytes: int | None = None
    cpus: float | None = None
    pids: int | None = None
    cpuset: str = ""

    @property
    def any(self) -> bool:
        """True when a limit is set that needs a cgroup."""
        return (self.memory_bytes, self.cpus, self.pids) != (None, None, None)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What every arm runs. `group` is the suite it belongs to.

    `metric` is the figure arms are compared by (less is better). `same_output` is False for a
    program that prints its own timings: then only exit statuses are compared. `durable` says that
    what it writes to /tmp must reach a disk. `class_tags` tell the simulator what kind of work it
    is (vm.sim.trace.CLASS_TAGS).
    """

    name: str
    argv: tuple[str, ...]
    group: str = "compare"
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    limits: Limits = Limits()
    metric: str = "wall"
    same_output: bool = True
    durable: bool = False
    class_tags: tuple[str, ...] = ()
    timeout_s: float = 120.0
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure. `low` and `high` are the 5 and 95 % bounds of a simulated one."""

    value: float
    unit: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One run of `workload` in `arm`.

    `steal_percent` and `pressure_percent` (PSI cpu, some) are of the host during the run;
    `contended` marks a run they disturbed. `sequence` counts the runs in the order they were made.
    """

    arm: str
    workload: str
    group: str
    kind: Kind
    sequence: int
    warmup: bool
    status: int
    metrics: Mapping[str, Metric]
    output_sha256: str = ""
    started: str = ""
    steal_percent: float = 0.0
    pressure_percent: float = 0.0
    contended: bool = False
    retries: int = 0
    note: str = ""
    dimensions: Mapping[str, str] = field(default_factory=dict)

    def to_line(self) -> str:
        """Return the sample as one JSON line."""
        return json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}, separators=(",", ":"))

    def value(self, metric: str) -> float | None:
        """Return the value of a metric, None when this sample has none of that name."""
        found = self.metrics.get(metric)
        return None if found is None else found.value


def sample_from_line(line: str) -> Sample:
    """Read back what `to_line` wrote; anything else is InvalidError."""
    try:
        values: dict[str, Any] = json.loads(line)
        if values.pop("schema") != SCHEMA_VERSION:
            raise InvalidError("bench sample: another schema version")
        metrics = {name: Metric(**metric) for name, metric in values.pop("metrics").items()}
        return Sample(**{**values, "kind": Kind(values["kind"]), "metrics": metrics})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidError(f"bench sample: {error}: {line[:80]}") from error
