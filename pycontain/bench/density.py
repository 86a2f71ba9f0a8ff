"""The suites memory and density: how much one more instance takes, alone and among others.

Each arm holds 1, 2, 4 … instances of a process that has touched 1 MiB and waits; at each level the
PSS of all its processes is divided by their number. Guests stop at fewer, for a guest takes its
memory at once. Simulated arms answer from the model, for a guest of the same size.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.bench import memory, runner
from pycontain.bench.backends import arms, choose
from pycontain.bench.backends.simulated import Simulated, tracer
from pycontain.bench.model import FAILED, Kind, Metric, Sample, Workload
from pycontain.bench.place import Place
from pycontain.bench.store import Results
from pycontain.bench.suite import hold, startup
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from pycontain.bench.backend import Backend
    from pycontain.bench.image import BenchImage

SETTLE_S = 0.2
LEVELS = (1, 4)
REPEATS = 4
RAMP = (1, 2, 4, 8, 16)
GUEST_MOST = 4


def run(data_root: str, image: BenchImage, arms_asked: str, out: str, *, ramp: bool) -> int:
    """Measure every arm at every level, write the reports, print the table."""
    from pycontain.bench.compare import Interruptible, metadata, publish

    levels, repeats = (RAMP, 1) if ramp else (LEVELS, REPEATS)
    workloads = [_level(count) for count in levels]
    chosen = choose(arms(data_root), arms_asked)
    results = Results(Path(out))
    with Interruptible(results) as measuring, ExitStack() as undo:
        place = undo.enter_context(Place())
        usable, absent = runner.usable(chosen)
        absent |= runner.prepare(usable, image, place, undo)
        ready = [arm for arm in usable if arm.name not in absent]
        results.open(metadata(image, workloads, ready, absent, runner.Plan(runs=1, warmups=0)))
        for workload, count in zip(workloads, levels, strict=True):
            _measure_level(ready * repeats, workload, count, place, results)
    publish(results)
    return measuring.status


def _level(count: int) -> Workload:
    name = f"hold x{count}"
    return replace(hold(), name=name, text=f"{count} at once, each holds 1 MiB; PSS of one")


def _measure_level(
    ready: list[Backend], workload: Workload, count: int, place: Place, results: Results
) -> None:
    for arm in ready:
        enough = ready.count(arm) if arm.repeats else 1
        if results.done(arm.name, workload.name) >= enough:
            continue
        if runner.is_guest(arm) and count > GUEST_MOST:
            continue
        try:
            metrics = instance_metrics(arm, workload, count, place)
            status, note = 0, memory.DEFINITION
        except PycontainError as error:
            metrics, status, note = {}, FAILED, str(error)
        results.append(_sample(arm, workload, len(results.samples), status, metrics, note))


def instance_metrics(
    arm: Backend, workload: Workload, count: int, place: Place
) -> dict[str, Metric]:
    """Hold `count` instances of an arm at once; return the memory of one and what belongs to it."""
    if isinstance(arm, Simulated):
        return _simulated(arm, workload)
    token = secrets.token_hex(8)
    marked = replace(workload, argv=(*workload.argv, token), env=(f"BENCH_TOKEN={token}",))
    # What a daemon takes before the first instance is no instance's share.
    place_word = f"{place.path}/{arm.name}"
    fixed = memory.pss_bytes(memory.arm_processes((place_word,)))
    before = memory.available_bytes()
    with ExitStack() as held:
        os.environ["PYCONTAIN_BENCH_TOKEN"] = token
        for _ in range(count):
            held.enter_context(arm.hold(marked))
        time.sleep(SETTLE_S)
        pids = memory.arm_processes((token, place_word))
        peaks = [peak for pid in pids if (peak := memory.cgroup_peak_bytes(pid)) is not None]
        found = {
            "pss": _bytes((memory.pss_bytes(pids) - fixed) / count),
            "host": _bytes(max(before - memory.available_bytes(), 0) / count),
            "processes": Metric(value=len(pids) / count, unit="1"),
        }
    if fixed:
        found["pss_fixed"] = _bytes(fixed)
    return found | ({"cgroup_peak": _bytes(max(peaks))} if peaks else {})


def _bytes(value: float) -> Metric:
    return Metric(value=value, unit="B")


def _simulated(arm: Simulated, workload: Workload) -> dict[str, Metric]:
    trace = replace(tracer(arm.native).trace(startup()).trace, max_rss_bytes=1 << 20)
    found = arm.predict(trace, workload).memory
    middle = found["host"]
    return {"pss": Metric(value=middle.median, unit="B", low=middle.low, high=middle.high)}


def _sample(
    arm: Backend,
    workload: Workload,
    sequence: int,
    status: int,
    metrics: dict[str, Metric],
    note: str,
) -> Sample:
    # An emulated guest's memory is that of a real QEMU process: measured, but of an emulator.
    return Sample(
        arm=arm.name,
        workload=workload.name,
        group="memory",
        kind=Kind(arm.kind),
        sequence=sequence,
        warmup=False,
        status=status,
        metrics=metrics,
        note=note,
    )
