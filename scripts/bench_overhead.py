"""The harness measured by itself; see scripts/bench-overhead."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from pycontain.bench import noise, stats
from pycontain.bench.backends.native import Native
from pycontain.bench.image import suite_image
from pycontain.bench.model import Workload
from pycontain.bench.place import Place
from pycontain.bench.runner import Plan, run_all
from pycontain.bench.store import Results
from pycontain.bench.suite import startup


def main(runs: int) -> None:
    """Measure and print."""
    arms = [Native(), Native("native-again")]
    work = Workload(name="integer", argv=("/bin/bench", "integer"), metric="integer")
    with Place() as place, tempfile.TemporaryDirectory() as directory:
        for arm in arms:
            arm.prepare(suite_image(), place)
        before, began = noise.read(), time.monotonic()
        results = Results(Path(directory))
        results.open({"image_digest": "", "workloads": []})
        run_all(arms, [startup(), work], Plan(runs=runs, warmups=3), results)
        spent = time.monotonic() - began
    for metric, workload in (("wall", "startup"), ("integer", "integer")):
        report(results, metric, workload)
    inside = sum(one.value("wall") or 0 for one in results.samples)
    outside_ms = (spent - inside) / len(results.samples) * 1e3
    print(
        f"outside of the clock: {outside_ms:.2f} ms a run (start the stopwatch, read, write down)"
    )
    steal, pressure = noise.between(before, noise.read())
    print(f"meanwhile: steal {steal} %, CPU pressure {pressure} %")


def report(results: Results, metric: str, workload: str) -> None:
    """Print one A/A comparison."""
    base, again = (
        [
            value
            for one in results.samples
            if (one.arm, one.workload, one.warmup) == (arm, workload, False)
            and (value := one.value(metric)) is not None
        ]
        for arm in ("native", "native-again")
    )
    ratio = stats.ratio_of_medians(again, base)
    assert ratio is not None
    scale, unit = (1e6, "µs") if metric == "wall" else (1, "ns")
    summary = stats.summarise(base)
    print(
        f"{workload}: min {summary.minimum * scale:.3g} {unit}, "
        f"median {summary.median * scale:.3g} {unit}, n {summary.count}; "
        f"A/A ratio {ratio.value:.4f} [{ratio.low:.4f}, {ratio.high:.4f}], "
        f"noise floor ±{stats.noise_floor(ratio) * 100:.1f} %"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
