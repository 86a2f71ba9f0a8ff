"""The nine experiments behind `bench claims`: figures in, a verdict out.

Each takes the prepared bench and returns one finding. Where a VM is needed it is emulated (QEMU
TCG) or simulated, and the rule for the verdict is written beside it.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from pycontain.bench import memory, stats, trials
from pycontain.bench.backends.simulated import tracer
from pycontain.bench.claims import OPERATIONS, Bench, Figure, Finding, Verdict
from pycontain.bench.model import Kind
from pycontain.bench.suite import hold, workloads
from pycontain.bench.text import figure
from pycontain.errors import PycontainError
from pycontain.vm.qemu.initramfs import tree_bytes

if TYPE_CHECKING:
    from pycontain.bench.backends.simulated import Simulated
    from pycontain.bench.model import Workload
    from pycontain.vm.sim.estimate import Interval

HOLDERS = 4
RECOVERIES = 3
FLOOR_LIMIT = 0.10
"""Noise above which an operation that shows no difference has shown nothing."""
DISTRIBUTION_BYTES = 100 << 20
OLD_PROCESSOR, NEW_PROCESSOR = "p4_2003", "zen4_2023"
PV_WORK = ("syscall", "fault", "fork")


def starts_faster(bench: Bench) -> Finding:
    """Containers start faster: the slowest container against the fastest VM, and the other way."""
    containers = {
        name: found
        for name in bench.containers()
        if (found := bench.values(name, "startup", "to_command"))
    }
    figures = [_measured(name, median(values), "s") for name, values in containers.items()]
    figures += _emulated(bench, "to_command")
    models = [_simulated_startup(bench, arm) for arm in bench.simulated()]
    if not containers or not models:
        return _no_figures("starts_faster", figures)
    fastest_vm = min(models, key=lambda one: one.low or one.value)
    slowest = max(figures[: len(containers)], key=lambda one: one.value)
    fastest = min(figures[: len(containers)], key=lambda one: one.value)
    bound = fastest_vm.low or fastest_vm.value
    if slowest.value < bound:
        verdict = Verdict.HOLDS
    else:
        verdict = Verdict.DEPENDS if fastest.value < bound else Verdict.FAILS
    words = {
        "fastest": f"{fastest.name} {figure(fastest.value, 's')}",
        "slowest": f"{slowest.name} {figure(slowest.value, 's')}",
        "vm": f"{fastest_vm.name} ≥ {figure(bound, 's', 2)}",
    }
    return Finding(
        claim="starts_faster",
        verdict=verdict,
        reason=f"starts_faster_{verdict.value}",
        words=words,
        figures=(*figures, *models),
    )


def smaller_images(bench: Bench) -> Finding:
    """Images are smaller: what a VM carries besides the same root file system."""
    image = tree_bytes(bench.image.rootfs)
    figures = [_measured("root file system", image, "B")]
    try:
        from pycontain.vm.qemu import boot

        files = boot.prepare(bench.image.rootfs, bench.image.digest, "q35")
    except PycontainError:
        return _no_figures("smaller_images", figures)
    extra = files.kernel.image.stat().st_size + files.initramfs.stat().st_size - image
    figures.append(_measured("kernel, modules and init", extra, "B"))
    share = extra / DISTRIBUTION_BYTES
    words = {
        "image": figure(image, "B"),
        "extra": figure(extra, "B"),
        "factor": f"{(image + extra) / image:.0f}",
        "share": f"{share * 100:.0f}",
    }
    return Finding(
        claim="smaller_images",
        verdict=Verdict.DEPENDS,
        reason="smaller_images",
        words=words,
        figures=tuple(figures),
    )


def no_overhead(bench: Bench) -> Finding:
    """OS-level virtualization has no overhead: operations in pycontain against native."""
    figures, dearer, unclear = [], [], []
    for name in OPERATIONS:
        base, again, inside = (
            bench.values(arm, name, name) for arm in ("native", "native-again", "pycontain")
        )
        ratio = stats.ratio_of_medians(inside, base)
        if ratio is None:
            continue
        floor = stats.noise_floor(stats.ratio_of_medians(again, base))
        figures.append(
            Figure(
                name=name, value=ratio.value, unit="x native", kind=Kind.MEASURED,
                low=ratio.low, high=ratio.high,
            )
        )  # fmt: skip
        if stats.verdict(ratio, floor) == "slower":
            dearer.append(f"{name} x{ratio.value:.2f}")
        elif floor > FLOOR_LIMIT:
            unclear.append(name)
    if not figures:
        return _no_figures("no_overhead", [])
    verdict, reason = _overhead_verdict(len(figures), len(dearer), len(unclear))
    words = {"dearer": ", ".join(dearer), "unclear": ", ".join(unclear)}
    return Finding(
        claim="no_overhead",
        verdict=verdict,
        reason=reason,
        words={**words, "count": str(len(figures))},
        figures=tuple(figures),
    )


def _overhead_verdict(count: int, dearer: int, unclear: int) -> tuple[Verdict, str]:
    if dearer:
        return Verdict.DEPENDS if dearer < count else Verdict.FAILS, "no_overhead_some"
    if unclear:
        return Verdict.DEPENDS, "no_overhead_noise"
    return Verdict.HOLDS, "no_overhead_none"


def para_beats_full(bench: Bench) -> Finding:
    """Para beats full because full traps: techniques on the same counted events, two processors."""
    if not bench.simulated():
        return _no_figures("para_beats_full", [])
    cases = (
        ("para, 2003", "xen-pv", "PV32", OLD_PROCESSOR),
        ("full by binary translation, 2003", "esxi", "BT", OLD_PROCESSOR),
        ("para, today", "xen-pv", "PV", NEW_PROCESSOR),
        ("full by nested paging, today", "kvm-qemu", "HV2", NEW_PROCESSOR),
        ("hybrid, today", "kvm-qemu", "HYB", NEW_PROCESSOR),
    )
    found: dict[str, list[float]] = {}
    figures = []
    for name, profile, technique, chip in cases:
        for work in PV_WORK:
            interval = _slowdown(bench, work, profile, technique, chip)
            found.setdefault(name, []).append(interval.median)
            figures.append(_model(f"{name}: {work}", interval, "x native"))
    means = {name: median(values) for name, values in found.items()}
    words = {
        "old_para": f"{means['para, 2003']:.2g}",
        "old_full": f"{means['full by binary translation, 2003']:.2g}",
        "new_para": f"{means['para, today']:.2g}",
        "new_full": f"{means['full by nested paging, today']:.2g}",
    }
    reason = (
        "para_then"
        if means["para, today"] > means["full by nested paging, today"]
        else "para_still"
    )
    return Finding(
        claim="para_beats_full",
        verdict=Verdict.SIMULATED_ONLY,
        reason=reason,
        words=words,
        figures=tuple(figures),
    )


def type_one_beats_two(bench: Bench) -> Finding:
    """Type 1 beats type 2: the same technique under two I/O paths."""
    if not bench.simulated():
        return _no_figures("type_one", [])
    figures, ratios = [], {}
    for work in ("integer", "syscall", "fdatasync"):
        pair = [
            _slowdown(bench, work, profile, "HYB", NEW_PROCESSOR)
            for profile in ("esxi", "vmware-workstation")
        ]
        ratios[work] = pair[1].median / pair[0].median
        figures += [
            _model(f"type 1: {work}", pair[0], "x native"),
            _model(f"type 2: {work}", pair[1], "x native"),
        ]
    words = {
        "cpu": f"{max(ratios['integer'], ratios['syscall']):.2g}",
        "disk": f"{ratios['fdatasync']:.2g}",
    }
    return Finding(
        claim="type_one",
        verdict=Verdict.SIMULATED_ONLY,
        reason="type_one_io" if ratios["fdatasync"] > 1.05 else "type_one_same",
        words=words,
        figures=tuple(figures),
    )


def more_fit(bench: Bench) -> Finding:
    """More fit on one host: memory of one of several instances against the memory that is free."""
    free = memory.available_bytes()
    figures = []
    for name in ("pycontain", "runc", "qemu"):
        if name in bench.arms:
            size = _instance_bytes(bench, name, 2 if name == "qemu" else HOLDERS)
            kind = bench.arms[name].kind
            figures.append(Figure(name=name, value=size, unit="B", kind=kind))
    for arm in bench.simulated():
        traced = replace(
            tracer(arm.native).trace(workloads("startup")[0]).trace, max_rss_bytes=1 << 20
        )
        figures.append(_model(arm.name, arm.predict(traced, hold()).memory["host"], "B"))
    containers = [one for one in figures if one.kind is Kind.MEASURED]
    machines = [one for one in figures if one.kind is not Kind.MEASURED]
    if not containers or not machines:
        return _no_figures("more_fit", figures)
    smallest = min(machines, key=lambda one: one.low or one.value)
    largest = max(containers, key=lambda one: one.value)
    holds = largest.value < (smallest.low or smallest.value)
    words = {
        "container": figure(largest.value, "B"),
        "containers": f"{free / largest.value:.0f}",
        "vm": f"{smallest.name} {figure(smallest.value, 'B', 2)}",
        "vms": f"{float(f'{free / smallest.value:.2g}'):.0f}",
    }
    return Finding(
        claim="more_fit",
        verdict=Verdict.HOLDS if holds else Verdict.DEPENDS,
        reason="more_fit",
        words=words,
        figures=tuple(figures),
    )


def faults_stay_inside(bench: Bench) -> Finding:
    """A fault in one does not reach the others: crash, hog, fork bomb; a guest kernel's panic."""
    results = trials.faults(bench.data_root, bench.image, bench.place)
    figures = tuple(
        Figure(name=name, value=float(passed), unit="passed", kind=kind)
        for name, passed, kind in results
    )
    if not figures:
        return _no_figures("faults", [])
    failed = [name for name, passed, _ in results if not passed]
    return Finding(
        claim="faults",
        verdict=Verdict.FAILS if failed else Verdict.DEPENDS,
        reason="faults_failed" if failed else "faults_kernel",
        words={"failed": ", ".join(failed), "count": str(len(figures))},
        figures=figures,
    )


def recovers_faster(bench: Bench) -> Finding:
    """Provisioning and recovery are faster: kill it, start it again, until it answers."""
    figures = []
    for name in ("pycontain", "runc", "qemu"):
        if name in bench.arms:
            seconds = [_recovery_s(bench, name) for _ in range(RECOVERIES)]
            figures.append(
                Figure(name=name, value=median(seconds), unit="s", kind=bench.arms[name].kind)
            )
    models = [_simulated_startup(bench, arm) for arm in bench.simulated()]
    measured = [one for one in figures if one.kind is Kind.MEASURED]
    if not measured or not models:
        return _no_figures("recovers", figures)
    fastest = min(models, key=lambda one: one.low or one.value)
    slowest = max(measured, key=lambda one: one.value)
    bound = fastest.low or fastest.value
    holds = slowest.value < bound
    words = {
        "container": f"{slowest.name} {figure(slowest.value, 's')}",
        "vm": f"{fastest.name} ≥ {figure(bound, 's', 2)}",
    }
    return Finding(
        claim="recovers",
        verdict=Verdict.HOLDS if holds else Verdict.DEPENDS,
        reason="recovers_holds" if holds else "recovers_depends",
        words=words,
        figures=(*figures, *models),
    )


def limits_and_mounts_work(bench: Bench) -> Finding:
    """Limits and host mounts work: memory, processes, CPU time, a shared and a read-only mount."""
    results = trials.limits(bench.data_root, bench.image, bench.place)
    figures = tuple(
        Figure(name=name, value=float(passed), unit="passed", kind=kind)
        for name, passed, kind in results
    )
    if not figures:
        return _no_figures("limits", [])
    failed = [name for name, passed, _ in results if not passed]
    return Finding(
        claim="limits",
        verdict=Verdict.FAILS if failed else Verdict.HOLDS,
        reason="limits_failed" if failed else "limits_work",
        words={"failed": ", ".join(failed), "count": str(len(figures))},
        figures=figures,
    )


EXPERIMENTS = (
    starts_faster,
    smaller_images,
    no_overhead,
    para_beats_full,
    type_one_beats_two,
    more_fit,
    faults_stay_inside,
    recovers_faster,
    limits_and_mounts_work,
)


def _measured(name: str, value: float, unit: str) -> Figure:
    return Figure(name=name, value=value, unit=unit, kind=Kind.MEASURED)


def _model(name: str, interval: Interval, unit: str) -> Figure:
    return Figure(
        name=name,
        value=interval.median,
        unit=unit,
        kind=Kind.SIMULATED,
        low=interval.low,
        high=interval.high,
    )


def _emulated(bench: Bench, metric: str) -> list[Figure]:
    values = bench.values("qemu", "startup", metric)
    if not values:
        return []
    kind = bench.arms["qemu"].kind if "qemu" in bench.arms else Kind.EMULATED
    return [Figure(name="qemu", value=median(values), unit="s", kind=kind)]


def _simulated_startup(bench: Bench, arm: Simulated) -> Figure:
    sample = next(
        one for one in bench.results.samples if one.arm == arm.name and one.workload == "startup"
    )
    found = sample.metrics["to_command"]
    return Figure(
        name=arm.name,
        value=found.value,
        unit="s",
        kind=Kind.SIMULATED,
        low=found.low,
        high=found.high,
    )


def _no_figures(claim: str, figures: list[Figure]) -> Finding:
    return Finding(
        claim=claim, verdict=Verdict.DEPENDS, reason="no_figures", figures=tuple(figures)
    )


def _work(name: str) -> Workload:
    return next(one for one in workloads("all") if one.name == name)


def _slowdown(bench: Bench, work: str, profile: str, technique: str, chip: str) -> Interval:
    """Return the simulated slowdown of a counted workload under one technique and processor."""
    from pycontain.vm.sim.hardware import hardware
    from pycontain.vm.sim.predict import predict

    native = bench.simulated()[0].native
    traced = tracer(native).trace(_work(work))
    return predict(
        profile,
        traced.trace,
        memory_bytes=256 << 20,
        vcpus=1,
        technique=technique,
        chip=hardware(chip),
    ).slowdown


def _instance_bytes(bench: Bench, name: str, count: int) -> float:
    from pycontain.bench.density import instance_metrics

    return instance_metrics(bench.arms[name], hold(), count, bench.place)["pss"].value


def _recovery_s(bench: Bench, name: str) -> float:
    """Return the seconds from the death of a running instance until another one answers."""
    arm, workload = bench.arms[name], hold()
    os.environ.pop("PYCONTAIN_BENCH_TOKEN", None)
    with arm.hold(workload):
        pass
    died = time.monotonic()
    with arm.hold(workload):
        return time.monotonic() - died
