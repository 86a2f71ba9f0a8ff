"""The verb `bench claims`: nine textbook sentences about containers and VMs, each put to the test.

Owns the experiments and what follows from their figures. The sentences and verdicts in words, in
English and Korean, are `claims_text`'s. A figure of a VM is emulated or simulated here and says so;
a verdict that rests on the model alone is "simulated only".
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from pycontain.bench import runner
from pycontain.bench.backends import arms, choose
from pycontain.bench.backends.simulated import Simulated
from pycontain.bench.image import suite_image
from pycontain.bench.place import Place
from pycontain.bench.progress import Progress
from pycontain.bench.store import Results
from pycontain.bench.suite import workloads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontain.bench.backend import Backend
    from pycontain.bench.image import BenchImage
    from pycontain.bench.model import Kind, Workload

CONTAINERS = ("pycontain", "runc", "crun", "bwrap", "podman", "docker")
SIMULATED = ("kvm-qemu", "firecracker", "xen-pv", "esxi", "vmware-workstation", "trap-and-emulate")
OPERATIONS = ("integer", "copy", "syscall", "fault", "fork", "write", "tcp")
RESULTS = "bench-results/claims"


class Verdict(StrEnum):
    """What the figures of this host say to a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    DEPENDS = "depends"
    SIMULATED_ONLY = "simulated only"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure behind a verdict."""

    name: str
    value: float
    unit: str
    kind: Kind
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The answer to one claim; `reason` is a key of claims_text.REASONS with `words` filled in."""

    claim: str
    verdict: Verdict
    reason: str
    words: dict[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()


@dataclass(kw_only=True)
class Bench:
    """What the experiments share: prepared arms, their results, the place, the data root."""

    data_root: str
    image: BenchImage
    place: Place
    arms: dict[str, Backend]
    absent: dict[str, str]
    results: Results
    plan: runner.Plan

    def values(self, arm: str, workload: str, metric: str) -> list[float]:
        """Return every counted value of a metric."""
        found = [
            one.value(metric)
            for one in self.results.samples
            if (one.arm, one.workload) == (arm, workload) and not one.warmup
        ]
        return [value for value in found if value is not None]

    def simulated(self) -> list[Simulated]:
        """Return the simulated arms."""
        return [arm for arm in self.arms.values() if isinstance(arm, Simulated)]

    def containers(self) -> list[str]:
        """Return the names of the container arms that run here."""
        return [name for name in CONTAINERS if name in self.arms]


def run_claims(data_root: str, *, lang: str = "en", runs: int = 10, out: str = "") -> str:
    """Make every experiment (again only what is missing) and return the answers as text."""
    from pycontain.bench import claims_text
    from pycontain.bench.compare import Interruptible
    from pycontain.bench.experiments import EXPERIMENTS

    results = Results(Path(out or RESULTS))
    with Interruptible(results) as measuring, ExitStack() as undo:
        bench = _prepare(data_root, results, runs, undo)
        _measure(bench)
        findings = []
        with Progress() as progress:
            for number, experiment in enumerate(EXPERIMENTS):
                name = experiment.__name__.replace("_", " ")
                progress(name, "experiments", number, len(EXPERIMENTS))
                findings.append(experiment(bench))
    if measuring.status:
        raise KeyboardInterrupt
    _save(results.directory, findings)
    return claims_text.render(findings, bench.results.meta, lang)


def _prepare(data_root: str, results: Results, runs: int, undo: ExitStack) -> Bench:
    from pycontain.bench.compare import metadata

    image = suite_image()
    place = undo.enter_context(Place())
    wanted = [*CONTAINERS, "qemu", *(f"sim:{name}" for name in SIMULATED)]
    usable, absent = runner.usable(choose(arms(data_root), ",".join(wanted)))
    absent |= runner.prepare(usable, image, place, undo)
    ready = [arm for arm in usable if arm.name not in absent]
    plan = runner.Plan(runs=runs, guest_runs=3)
    results.open(metadata(image, chosen_workloads(), ready, absent, plan))
    return Bench(
        data_root=data_root,
        image=image,
        place=place,
        arms={arm.name: arm for arm in ready},
        absent=absent,
        results=results,
        plan=plan,
    )


def chosen_workloads() -> list[Workload]:
    """Return start-up and the operations the claims are about."""
    return [one for one in workloads("all") if one.name in ("startup", *OPERATIONS)]


def _measure(bench: Bench) -> None:
    """Run start-up in every arm, the operations in native and in pycontain only."""
    startup, *operations = chosen_workloads()
    few = [
        bench.arms[name] for name in ("native", "native-again", "pycontain") if name in bench.arms
    ]
    with Progress() as progress:
        runner.run_all(list(bench.arms.values()), [startup], bench.plan, bench.results, progress)
        runner.run_all(few, operations, bench.plan, bench.results, progress)


def _save(directory: Path, findings: Sequence[Finding]) -> None:
    body = json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False)
    (directory / "claims.json").write_text(body + "\n")
