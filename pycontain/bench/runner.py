"""The order of runs, and one run: random interleaving, warm-up, what disturbed it, what it printed.

For each workload there are rounds; in each round every arm runs once, in an order drawn anew, so
that a slow minute of the host falls on all of them. Runs that are already among the results are
not made again. A run that fails ends its arm for that workload and is kept as a failed sample;
the next call tries it again.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pycontain.bench import noise
from pycontain.bench.backend import Backend, Outcome
from pycontain.bench.model import FAILED, Kind, Sample, Workload
from pycontain.errors import PycontainError, quote

if TYPE_CHECKING:
    from contextlib import ExitStack

    from pycontain.bench.image import BenchImage
    from pycontain.bench.place import Place
    from pycontain.bench.store import Results

SEED = 20260101

Progress = Callable[[str, str, int, int], object]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How often: `runs` counted after `warmups` discarded; guests boot `guest_runs` times."""

    runs: int = 10
    warmups: int = 1
    guest_runs: int = 5
    seed: int = SEED

    def total(self, arm: Backend) -> int:
        """Return how many times an arm runs one workload, warm-up included."""
        if not arm.repeats:
            return 1
        return self.warmups + (min(self.runs, self.guest_runs) if is_guest(arm) else self.runs)

    def is_warmup(self, arm: Backend, number: int) -> bool:
        """Return whether the run with this number (from 0) is discarded."""
        return arm.repeats and number < self.warmups


def is_guest(arm: Backend) -> bool:
    """Return whether a run of the arm boots a machine, which takes seconds."""
    return arm.name.startswith("qemu")


def usable(arms: Sequence[Backend]) -> tuple[list[Backend], dict[str, str]]:
    """Return the arms that can run here, and the reason of each that cannot."""
    reasons = {arm.name: arm.probe() for arm in arms}
    return [arm for arm in arms if not reasons[arm.name]], {
        name: reason for name, reason in reasons.items() if reason
    }


def prepare(
    arms: Sequence[Backend], image: BenchImage, place: Place, undo: ExitStack
) -> dict[str, str]:
    """Prepare every arm; return the reason of each that could not be prepared."""
    failed = {}
    for arm in arms:
        undo.callback(arm.close)
        try:
            arm.prepare(image, place)
        except PycontainError as error:
            failed[arm.name] = str(error)
    return failed


def run_all(
    arms: Sequence[Backend],
    workloads: Sequence[Workload],
    plan: Plan,
    results: Results,
    progress: Progress = lambda workload, arm, done, total: None,
) -> None:
    """Make every run that is missing. KeyboardInterrupt passes through; what is there stays."""
    draw = random.Random(plan.seed + len(results.samples))
    total = sum(plan.total(arm) for arm in arms) * len(workloads)
    for index, workload in enumerate(workloads):
        given_up: set[str] = set()
        base = index * sum(plan.total(arm) for arm in arms)
        for number in range(max((plan.total(arm) for arm in arms), default=0)):
            order = [arm for arm in arms if number < plan.total(arm)]
            draw.shuffle(order)
            for arm in order:
                if arm.name in given_up or results.done(arm.name, workload.name) > number:
                    continue
                progress(workload.name, arm.name, base + _count(results, workload), total)
                sample = run_once(arm, workload, plan.is_warmup(arm, number), len(results.samples))
                results.append(sample)
                if sample.status == FAILED:
                    given_up.add(arm.name)


def _count(results: Results, workload: Workload) -> int:
    return sum(1 for sample in results.samples if sample.workload == workload.name)


def run_once(arm: Backend, workload: Workload, warmup: bool, sequence: int) -> Sample:
    """Run one workload in one arm and return the sample, a failed one when the arm failed."""
    started = datetime.now(UTC).isoformat(timespec="milliseconds")
    before = noise.read()
    try:
        outcome = arm.run(workload)
    except PycontainError as error:
        outcome = Outcome(status=FAILED, metrics={}, note=str(error))
    steal, pressure = noise.between(before, noise.read())
    # A simulated run is not disturbed: nothing ran but the trace, which has its own repetitions.
    disturbed = arm.kind is not Kind.SIMULATED and noise.contended(steal, pressure)
    return Sample(
        arm=arm.name,
        workload=workload.name,
        group=workload.group,
        kind=arm.kind,
        sequence=sequence,
        warmup=warmup,
        status=outcome.status,
        metrics=outcome.metrics,
        output_sha256=hashlib.sha256(outcome.output if workload.same_output else b"").hexdigest(),
        started=started,
        steal_percent=steal,
        pressure_percent=pressure,
        contended=disturbed,
        retries=outcome.retries,
        note=outcome.note or _complaint(outcome),
        dimensions=outcome.dimensions,
    )


def _complaint(outcome: Outcome) -> str:
    """Return the last line an unsuccessful run wrote to standard error."""
    if outcome.status == 0:
        return ""
    lines = outcome.errors.decode("utf-8", "replace").strip().splitlines()
    return quote(lines[-1])[:200] if lines else ""
