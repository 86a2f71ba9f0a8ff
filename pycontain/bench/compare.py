"""The verbs `bench compare` and `bench suite`: from words to a directory with results and reports.

Owns the order of steps and what is said meanwhile; each step has its own module.
"""

from __future__ import annotations

import hashlib
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pycontain.bench import report, runner
from pycontain.bench.backends import arms, choose
from pycontain.bench.environment import fingerprint
from pycontain.bench.image import from_store, macro_image, suite_image
from pycontain.bench.model import Limits, Workload
from pycontain.bench.place import Place
from pycontain.bench.progress import Progress
from pycontain.bench.store import Results
from pycontain.bench.suite import macro_workloads
from pycontain.bench.suite import workloads as suite_workloads
from pycontain.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from pycontain.bench.backend import Backend
    from pycontain.bench.image import BenchImage

INTERRUPTED = 130
RESULTS = "bench-results"
NO_LIMITS = Limits()


def compare(
    data_root: str,
    image_name: str,
    words: tuple[str, ...],
    *,
    arms_asked: str = "",
    runs: int = 10,
    guest_runs: int = 5,
    limits: Limits = NO_LIMITS,
    timeout_s: float = 120.0,
    out: str = "",
) -> int:
    """Run one command in every arm, write the reports, print the table; return the exit status."""
    image = from_store(image_name, data_root)
    argv = image.argv(words)
    if not argv:
        raise UsageError(f"no command given, and image {image_name} has none")
    workload = Workload(
        name=" ".join(argv)[:60], argv=argv, cwd=image.cwd, limits=limits, timeout_s=timeout_s
    )
    plan = runner.Plan(runs=runs, guest_runs=guest_runs)
    return _measure(
        data_root, image, [workload], arms_asked, plan, out or _default_out("compare", workload)
    )


def suite(
    data_root: str, group: str, *, arms_asked: str = "", runs: int, guest_runs: int, out: str = ""
) -> int:
    """Run the standard workloads of `group`; return the exit status."""
    from pycontain.bench import density

    workloads = suite_workloads(group)
    image = suite_image()
    plan = runner.Plan(runs=runs, guest_runs=guest_runs)
    directory = out or f"{RESULTS}/suite-{group}"
    status = 0
    if workloads:
        status = _measure(data_root, image, workloads, arms_asked, plan, directory)
    macro = macro_workloads(group)
    if not status and macro:
        programs = macro_image(tuple(one.name for one in macro))
        status = _measure(data_root, programs, macro, arms_asked, plan, f"{directory}/macro")
    if not status and group in ("memory", "density", "all"):
        status = density.run(
            data_root, image, arms_asked, f"{directory}/memory", ramp=group != "memory"
        )
    return status


def _default_out(verb: str, workload: Workload) -> str:
    identity = json.dumps(asdict(workload), sort_keys=True).encode()
    return f"{RESULTS}/{verb}-{hashlib.sha256(identity).hexdigest()[:8]}"


def _measure(
    data_root: str,
    image: BenchImage,
    workloads: Sequence[Workload],
    arms_asked: str,
    plan: runner.Plan,
    out: str,
) -> int:
    chosen = choose(arms(data_root), arms_asked)
    results = Results(Path(out))
    with Interruptible(results) as measuring, ExitStack() as undo:
        place = undo.enter_context(Place())
        usable, absent = runner.usable(chosen)
        absent |= runner.prepare(usable, image, place, undo)
        ready = [arm for arm in usable if arm.name not in absent]
        if not ready or ready[0].name != "native":
            raise UnsupportedError(f"no base to compare with: native {absent.get('native', '')}")
        results.open(metadata(image, workloads, ready, absent, plan))
        with Progress() as progress:
            runner.run_all(ready, workloads, plan, results, progress)
    publish(results)
    return measuring.status


class Interruptible:
    """Takes Ctrl-C as the end of measuring: what was undone stays undone, what was kept is kept."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self.status = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if not isinstance(error, KeyboardInterrupt):
            return False
        self.status = INTERRUPTED
        kept = len(self._results.samples)
        print(f"interrupted: {kept} samples kept; the same command goes on", file=sys.stderr)
        return True


def metadata(
    image: BenchImage,
    workloads: Sequence[Workload],
    ready: Sequence[Backend],
    absent: dict[str, str],
    plan: runner.Plan,
) -> dict[str, Any]:
    """Return what is written beside the samples: everything needed to judge and to repeat them."""
    return {
        "schema": 1,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "image": image.name,
        "image_digest": f"sha256:{image.digest}",
        "environment": fingerprint(),
        "workloads": json.loads(json.dumps([asdict(workload) for workload in workloads])),
        "plan": asdict(plan),
        "arms": {
            arm.name: {
                "kind": arm.kind.value,
                "includes": arm.includes,
                "command": arm.command_line(workloads[0]),
            }
            for arm in ready
        },
        "absent": absent,
    }


def publish(results: Results) -> None:
    """Write every form of the report beside the samples, and print the table."""
    if not any(not sample.warmup for sample in results.samples):
        return
    for form, name in report.FILES.items():
        (results.directory / name).write_text(report.render(results, form))
    sys.stdout.write(report.render(results, "text"))
    names = " ".join(report.FILES.values())
    print(f"\nreports in {results.directory}: {names}", flush=True)
