"""Predictions: a measured workload on a simulated VM, and the answer to a scenario.

Owns the public calls of the simulator. Every number that leaves here is labelled SIMULATED.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pycontain.errors import UsageError
from pycontain.vm.sim import memory, quantities, startup
from pycontain.vm.sim.constants import SEED, Constants, Costs, load_constants
from pycontain.vm.sim.estimate import (
    DRAWS,
    KIND,
    Contribution,
    Interval,
    interval,
    intervals,
    rounded,
    tornado,
)
from pycontain.vm.sim.hardware import Hardware, host
from pycontain.vm.sim.machine import Configuration, Entry, Machine
from pycontain.vm.sim.profiles import Profile, profile
from pycontain.vm.sim.trace import WorkloadTrace, filled

if TYPE_CHECKING:
    from pycontain.vm.sim.scenario import Scenario

MIB = 2**20
MIN_MEMORY = 16 * MIB


@dataclass(frozen=True, kw_only=True)
class ExitRow:
    """One line of "explained exit by exit": how often something left the guest, and its time.

    `kind` is "vm_exit", "hypercall", "callout" or "assist"; `count` is at the default constants.
    """

    kind: str
    part: str
    reason: str
    operation: str
    count: float
    seconds: Interval


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One simulated VM run. Times are seconds, sizes bytes; intervals are 5-95 %.

    `stages` is the start-up; `run` the workload; `total` both; `overhead` is
    `slowdown` less one, which keeps its digits; `steady` the slowdown of work that goes on when the
    guest's memory is backed, without the first touches. `parts` splits the run: native,
    translation, exits, devices. `memory` is by definition (of memory.DEFINITIONS). `estimated`
    names the counts that were not measured.
    """

    profile: str
    product: str
    type: str
    technique: str
    net_path: str
    disk_path: str
    drivers: str
    hardware: str
    clock_hz: float
    native_s: float
    stages: dict[str, Interval]
    startup: Interval
    run: Interval
    total: Interval
    slowdown: Interval
    overhead: Interval
    steady: Interval
    parts: dict[str, Interval]
    exits: tuple[ExitRow, ...]
    memory: dict[str, Interval]
    tornado: tuple[Contribution, ...]
    estimated: tuple[str, ...]
    notes: tuple[str, ...]
    draws: int
    seed: int
    kind: str = KIND

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as JSON values, every simulated number to two digits."""
        plain = ("kind", "profile", "product", "type", "technique", "net_path", "disk_path")
        more = ("drivers", "hardware", "clock_hz", "native_s", "draws", "seed")
        return {
            **{name: getattr(self, name) for name in (*plain, *more)},
            "stages_s": {name: each.to_json() for name, each in self.stages.items()},
            "startup_s": self.startup.to_json(),
            "run_s": self.run.to_json(),
            "total_s": self.total.to_json(),
            "slowdown": self.slowdown.to_json(),
            "overhead": self.overhead.to_json(),
            "steady": self.steady.to_json(),
            "parts_s": {name: each.to_json() for name, each in self.parts.items()},
            "exits": [exit_json(row) for row in self.exits],
            "memory_bytes": {name: each.to_json() for name, each in self.memory.items()},
            "tornado": [contribution_json(each) for each in self.tornado],
            "estimated": list(self.estimated),
            "notes": list(self.notes),
        }


def exit_json(row: ExitRow) -> dict[str, Any]:
    """Return one exit row as JSON values."""
    return {
        "kind": row.kind,
        "part": row.part,
        "reason": row.reason,
        "operation": row.operation,
        "count": rounded(row.count),
        "seconds": row.seconds.to_json(),
    }


def contribution_json(each: Contribution) -> dict[str, Any]:
    """Return one bar of the tornado as JSON values."""
    return {
        "constant": each.constant,
        "tag": each.tag,
        "low": rounded(each.low),
        "high": rounded(each.high),
    }


def predict(
    profile_name: str | Profile,
    trace: WorkloadTrace,
    *,
    memory_bytes: int,
    vcpus: int,
    technique: str | None = None,
    io_path: str | None = None,
    boot: startup.Boot | None = None,
    chip: Hardware | None = None,
    constants: Constants | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> Prediction:
    """Predict one run of a measured workload under a profile.

    `trace` is per run, as measured on this host. `io_path` holds for disk and network. `chip`
    defaults to the newest hardware class at this host's clock; `constants` to that class's.
    NotFoundError names an unknown profile, UsageError a technique the hardware cannot run.
    """
    if memory_bytes < MIN_MEMORY or vcpus < 1:
        raise UsageError(f"a guest needs {MIN_MEMORY // MIB} MiB and one vCPU at least")
    found = profile(profile_name) if isinstance(profile_name, str) else profile_name
    chip = chip or host()
    constants = constants or load_constants(chip.name)
    whole, estimated = filled(trace)
    configuration = Configuration(
        profile=found,
        technique=found.technique_on(chip, technique),
        hardware=chip,
        net_path=found.path_of("net", io_path),
        disk_path=found.path_of("disk", io_path),
        memory_bytes=memory_bytes,
        vcpus=vcpus,
        fresh=True,
    )
    return _Predictor(configuration, whole, boot, constants, draws, seed, estimated).prediction()


class _Predictor:
    """The model of one prediction, split so that one pass over the draws gives every interval."""

    def __init__(
        self,
        configuration: Configuration,
        trace: WorkloadTrace,
        boot: startup.Boot | None,
        constants: Constants,
        draws: int,
        seed: int,
        estimated: tuple[str, ...],
    ) -> None:
        self.estimated = estimated
        self.configuration = configuration
        self.machine = Machine(configuration)
        self.trace = trace
        self.boot = boot or startup.Boot(init="busybox", until="command")
        self.constants = constants
        self.draws = draws
        self.seed = seed
        self.foot = memory.Footprint(
            memory_bytes=configuration.memory_bytes,
            working_set_bytes=float(trace.max_rss_bytes or 0),
            page_cache_bytes=float(trace.page_cache_bytes or 0),
        )

    def values(self, costs: Costs) -> dict[str, float]:
        """Return every number of one draw, by a key that names its place."""
        config = self.configuration
        run = self.machine.run(self.trace, costs, estimated=self.estimated)
        stages = startup.stages(config.profile, self.boot, costs, config.hardware)
        begin_s = sum(stages.values())
        rows = {f"exit {index}": self._row_s(entry) for index, entry in enumerate(run.ledger)}
        return {
            **{f"stage {name}": seconds for name, seconds in stages.items()},
            "startup": begin_s,
            "run": run.wall_s,
            "total": begin_s + run.wall_s,
            "slowdown": run.wall_s / run.native_s if run.native_s else 1.0,
            "overhead": run.wall_s / run.native_s - 1.0 if run.native_s else 0.0,
            "steady": (run.wall_s - run.touch_s) / run.native_s if run.native_s else 1.0,
            "part native": run.native_s,
            "part translation": run.dilation_s,
            "part exits": run.event_s,
            "part devices": run.io_s,
            **rows,
            **self._memory(costs),
        }

    def _row_s(self, entry: Entry) -> float:
        return self.configuration.hardware.seconds(entry.cycles) + entry.wait_s

    def _memory(self, costs: Costs) -> dict[str, float]:
        found = self.configuration.profile
        names = ("host", "rss") if found.type == "os" else memory.DEFINITIONS
        return {
            f"memory {name}": memory.memory_bytes(found, self.foot, name, costs) for name in names
        }

    def prediction(self) -> Prediction:
        """Run every draw and put the pieces together."""
        config = self.configuration
        found = intervals(self.values, self.constants, draws=self.draws, seed=self.seed)
        ledger = self.machine.run(self.trace, Costs(self.constants)).ledger
        rows = tuple(
            ExitRow(
                kind=entry.kind,
                part=entry.part,
                reason=str(entry.reason),
                operation=str(entry.op),
                count=entry.count,
                seconds=replace(found[f"exit {index}"], unit="s"),
            )
            for index, entry in enumerate(ledger)
        )
        return Prediction(
            profile=config.profile.name,
            product=config.profile.product,
            type=config.profile.type,
            technique=config.technique,
            net_path=config.net_path,
            disk_path=config.disk_path,
            drivers=config.driver("disk"),
            hardware=config.hardware.name,
            clock_hz=config.hardware.clock_hz,
            native_s=self.trace.wall_s,
            stages=_named(found, "stage ", "s"),
            startup=replace(found["startup"], unit="s"),
            run=replace(found["run"], unit="s"),
            total=replace(found["total"], unit="s"),
            slowdown=replace(found["slowdown"], unit="ratio"),
            overhead=replace(found["overhead"], unit="share"),
            steady=replace(found["steady"], unit="ratio"),
            parts=_named(found, "part ", "s"),
            exits=tuple(sorted(rows, key=lambda row: -row.seconds.median)),
            memory=_named(found, "memory ", "bytes"),
            tornado=tuple(tornado(lambda costs: self.values(costs)["total"], self.constants)),
            estimated=self.estimated,
            notes=_notes(config),
            draws=self.draws,
            seed=self.seed,
        )


def _named(found: dict[str, Interval], prefix: str, unit: str) -> dict[str, Interval]:
    return {
        key.removeprefix(prefix): replace(value, unit=unit)
        for key, value in found.items()
        if key.startswith(prefix)
    }


def _notes(config: Configuration) -> tuple[str, ...]:
    """Return what a reader must know besides the numbers."""
    notes = [config.profile.notes]
    if config.profile.assumed:
        notes.append("assumed: no published number for this product stands behind its parameters")
    if config.technique == "TCG":
        notes.append("TCG is an emulator: this does not say how fast a virtual machine is")
    if config.profile.type == "os":
        notes.append("the start of a container is better measured than modelled")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a scenario asked for, in its own unit, with the tornado."""

    scenario: Scenario
    value: Interval
    tornado: tuple[Contribution, ...]
    kind: str = KIND

    def to_json(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        config = self.scenario.configuration
        return {
            "kind": self.kind,
            "scenario": self.scenario.name,
            "quantity": self.scenario.quantity,
            "profile": config.profile.name,
            "technique": config.technique,
            "net_path": config.net_path,
            "disk_path": config.disk_path,
            "hardware": config.hardware.name,
            "value": self.value.to_json(),
            "expected": self.scenario.expected,
            "tornado": [contribution_json(each) for each in self.tornado],
            "estimated": list(self.scenario.estimated),
        }


def answer(scenario: Scenario, *, draws: int = DRAWS, seed: int = SEED) -> Answer:
    """Answer a scenario; InvalidError says which input is missing for its quantity."""
    model = quantities.model(scenario)
    scale = 1.0 if scenario.quantity == "slowdown" else scenario.scale
    noisy = scenario.native is not None

    def scaled(costs: Costs) -> float:
        return model(costs) / scale * (costs["e_native"] if noisy else 1.0)

    return Answer(
        scenario=scenario,
        value=interval(scaled, scenario.constants, draws=draws, seed=seed, unit=scenario.unit),
        tornado=tuple(tornado(scaled, scenario.constants)),
    )
