"""The simulated hypervisors: the workload runs natively and is counted, the model does the rest.

Nothing here is a measurement of a VM. The arm gives one figure with its 5-95 % interval; the same
trace serves every profile.
"""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from pycontain.bench import counting
from pycontain.bench.backend import Outcome, outcome_of
from pycontain.bench.model import TRACED, Kind, Metric, Workload
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pycontain.bench.backends.native import Native
    from pycontain.bench.image import BenchImage
    from pycontain.bench.launch import Launch
    from pycontain.bench.place import Place
    from pycontain.vm.sim.estimate import Interval
    from pycontain.vm.sim.predict import Prediction
    from pycontain.vm.sim.trace import WorkloadTrace

DEFAULT_MEMORY_BYTES = 256 << 20
DRAWS = 1000
STOPWATCH = frozenset(
    ("wall", "user", "system", "faults", "max_rss", "to_command", "after_command")
)


class Traced(NamedTuple):
    """A workload's trace, how its native run ended, and the figures it printed (their medians)."""

    trace: WorkloadTrace
    status: int
    output: bytes
    figures: dict[str, Metric]


def _medians(outcomes: list[Outcome]) -> dict[str, Metric]:
    """Return the figures the workload printed itself: metrics not of the stopwatch."""
    names = [name for name in outcomes[0].metrics if name not in STOPWATCH]
    return {
        name: Metric(
            value=median(one.metrics[name].value for one in outcomes if name in one.metrics),
            unit=outcomes[0].metrics[name].unit,
        )
        for name in names
    }


class Tracer:
    """Traces workloads natively, once each, for all simulated arms."""

    def __init__(self, native: Native) -> None:
        self.native = native
        self._traces: dict[Workload, Traced] = {}

    def trace(self, workload: Workload) -> Traced:
        """Return what the workload did."""
        if workload not in self._traces:
            self._traces[workload] = self._run(workload)
        return self._traces[workload]

    def _run(self, workload: Workload) -> Traced:
        last: list[Launch] = []

        def run(events: tuple[str, ...]) -> Launch:
            last.append(self.native.launch(workload, events))
            return last[-1]

        trace = counting.trace_workload(
            run,
            name=workload.name,
            class_tags=workload.class_tags,
            count_syscalls=lambda: self.native.count_syscalls(workload),
        )
        outcomes = [outcome_of(one, whole_tree=True) for one in last[:-1] or last]
        return Traced(trace, outcomes[0].status, outcomes[0].output, _medians(outcomes))


@cache
def tracer(native: Native) -> Tracer:
    """Return the tracer all simulated arms of one native arm share."""
    return Tracer(native)


def profile_names() -> list[str]:
    """Return every profile of the simulator."""
    from pycontain.vm.sim.profiles import profiles

    return list(profiles())


class Simulated:
    """One profile of the simulator."""

    kind = Kind.SIMULATED
    repeats = False
    includes = "modelled: VMM, firmware, kernel, init, and the command's events"

    def __init__(self, profile: str, native: Native) -> None:
        self.name = f"sim:{profile}"
        self._profile = profile
        self.native = native

    def probe(self) -> str:
        reason = self.native.probe()
        return f"its workload has to run natively once: {reason}" if reason else ""

    def prepare(self, image: BenchImage, place: Place) -> None:
        """The native arm has prepared the root its workload runs in."""

    def command_line(self, workload: Workload) -> list[str]:
        return ["pycontain", "hypervisor", "run", self._profile, "IMAGE", *workload.argv]

    def run(self, workload: Workload) -> Outcome:
        traced = tracer(self.native).trace(workload)
        found = self.predict(traced.trace, workload)
        metrics = {
            "wall": _metric(found.total, "s"),
            "to_command": _metric(found.startup, "s"),
            "command": _metric(found.run, "s"),
            **{f"stage_{name}": _metric(value, "s") for name, value in found.stages.items()},
            **{f"memory_{name}": _metric(value, "B") for name, value in found.memory.items()},
        }
        # An operation the workload timed by itself was warmed up: its memory is backed.
        for name, figure in traced.figures.items():
            metrics[name] = _scaled(figure, found.steady)
            metrics[f"{TRACED}{name}"] = figure
        metrics[f"{TRACED}wall"] = Metric(value=traced.trace.wall_s, unit="s")
        note = f"events counted by {traced.trace.rung}"
        return Outcome(
            status=traced.status,
            metrics=metrics,
            output=traced.output,
            note=note,
            dimensions={
                "technique": found.technique,
                "type": found.type,
                "hardware": found.hardware,
            },
        )

    def predict(self, trace: WorkloadTrace, workload: Workload) -> Prediction:
        """Return the prediction for a traced workload under this arm's profile."""
        from pycontain.vm.sim.predict import predict

        limits = workload.limits
        return predict(
            self._profile,
            trace,
            memory_bytes=limits.memory_bytes or DEFAULT_MEMORY_BYTES,
            vcpus=max(1, round(limits.cpus or 1)),
            draws=DRAWS,
        )

    def hold(self, workload: Workload) -> AbstractContextManager[None]:
        raise UnsupportedError("a simulated machine holds no memory of this host")

    def close(self) -> None:
        """Nothing was started."""


def _metric(interval: Interval, unit: str) -> Metric:
    return Metric(value=interval.median, unit=unit, low=interval.low, high=interval.high)


def _scaled(figure: Metric, slowdown: Interval) -> Metric:
    value, low, high = (
        figure.value * each for each in (slowdown.median, slowdown.low, slowdown.high)
    )
    return Metric(value=value, unit=figure.unit, low=low, high=high)
