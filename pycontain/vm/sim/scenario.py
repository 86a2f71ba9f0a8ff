"""Scenario files: one published (or imagined) measurement, as inputs of the model.

Owns the meaning of the keys in data/scenario.schema.json (docs/simulator.md explains them to a
writer): a checked document becomes typed values, and what the writer left out gets its default.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, PycontainError
from pycontain.vm.sim import schema, units, workloads
from pycontain.vm.sim.constants import DATA, Constants, load_constants
from pycontain.vm.sim.exits import Op, Operations
from pycontain.vm.sim.hardware import DEFAULT_CLASS, Hardware, class_of_year, hardware
from pycontain.vm.sim.machine import Configuration
from pycontain.vm.sim.profiles import Profile, anonymous, profile
from pycontain.vm.sim.trace import WorkloadTrace, filled

if TYPE_CHECKING:
    from pathlib import Path

MICRO_S = 1e-3
"""A native time below this is a loop of one operation: caches stay warm."""

MACRO_S = 0.05
"""A time above this is an application's, not an operation's."""

SLOWDOWN_S = 10.0
"""Native time of a slowdown that names a workload and no time: its length cancels out."""

DISK_VCPUS = 4
"""vCPUs of a disk benchmark that does not say: fio with several jobs."""

DEFAULT_MEMORY = 512 * 2**20
GROUPS = {
    "time": "micro",
    "slowdown": "macro",
    "throughput": "net",
    "iops": "io",
    "latency": "io",
    "boot": "boot",
    "memory": "memory",
    "density": "density",
    "downtime": "migration",
    "migration_time": "migration",
    "migrated_bytes": "migration",
    "recovery": "recovery",
    "reallocation": "reallocation",
}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One checked scenario.

    `document` is the JSON; `native` the native value in SI or None; `scale` what one unit is in
    SI; `expected` in the unit of the file. `estimated` names counts taken from a workload class.
    """

    document: dict[str, Any]
    where: str
    configuration: Configuration
    constants: Constants
    trace: WorkloadTrace
    operations: Operations
    estimated: tuple[str, ...]
    unit: str
    scale: float
    native: float | None
    expected: float | None

    @property
    def name(self) -> str:
        """The scenario's name."""
        return str(self.document["name"])

    @property
    def quantity(self) -> str:
        """What is wanted."""
        return str(self.document["quantity"])

    @property
    def group(self) -> str:
        """Rows of one group are scored together."""
        default = GROUPS[self.quantity]
        if self.quantity == "throughput" and not self.is_stream:
            default = "macro"
        if self.quantity == "time" and (self.native or 0.0) > MACRO_S:
            default = "macro"
        return str(self.document.get("group", default))

    @property
    def is_stream(self) -> bool:
        """Whether a throughput is a bulk transfer rather than work done by a CPU."""
        return units.is_data(self.unit) and "workload" not in self.document

    @property
    def tag(self) -> str:
        """Evidence behind the expected value."""
        return str(self.document.get("tag", "A"))

    @property
    def predicts(self) -> bool:
        """Whether the row may be scored: no constant was chosen with it."""
        return bool(self.document.get("use", "predict") == "predict")

    def section(self, name: str) -> dict[str, Any]:
        """Return one object of the document, empty when absent."""
        return dict(self.document.get(name, {}))

    def wants(self, what: str) -> InvalidError:
        """Return the error that an input of this quantity is missing."""
        return InvalidError(f"{self.where}: $.{what}: needed for {self.quantity}")


@cache
def scenario_schema() -> dict[str, Any]:
    """Return the JSON Schema of scenario files."""
    found: dict[str, Any] = json.loads((DATA / "scenario.schema.json").read_text("utf-8"))
    return found


def load_scenario(path: Path) -> Scenario:
    """Return the scenario in a file; InvalidError names file and JSON path."""
    return parse_scenario(schema.load_json(path), str(path))


def parse_scenario(document: Any, where: str) -> Scenario:
    """Return a scenario from its JSON value."""
    schema.check(document, scenario_schema(), where)
    try:
        return _scenario(document, where)
    except PycontainError as error:
        if where in str(error):
            raise
        raise InvalidError(f"{where}: {error.message}", hint=error.hint) from error


def _scenario(document: dict[str, Any], where: str) -> Scenario:
    chip = _hardware(document.get("hardware", {}))
    quantity = document["quantity"]
    unit = document.get("unit", units.QUANTITY_UNITS[quantity][1])
    scale = units.factor(quantity, unit, chip.clock_hz)
    value = document.get("native", {}).get("value")
    if value is None and quantity == "slowdown" and "workload" in document:
        value = SLOWDOWN_S
    native = None if value is None else value * (1.0 if quantity == "slowdown" else scale)
    trace, estimated = _trace(document, native, chip)
    return Scenario(
        document=document,
        where=where,
        configuration=_configuration(document, chip, native, trace),
        constants=_constants(document, chip),
        trace=trace,
        operations={Op(name): count for name, count in document.get("operations", {}).items()},
        estimated=estimated,
        unit=unit,
        scale=scale,
        native=native,
        expected=document.get("expected", {}).get("value"),
    )


def _hardware(section: dict[str, Any]) -> Hardware:
    name = section.get("class")
    if name is None:
        name = class_of_year(section["year"]) if "year" in section else DEFAULT_CLASS
    return hardware(
        name,
        clock_hz=section.get("clock_hz"),
        cores=section.get("cores"),
        features=section.get("features"),
    )


def _constants(document: dict[str, Any], chip: Hardware) -> Constants:
    constants = load_constants(chip.name)
    given = document.get("constants", {})
    return constants.with_values(given, tag="A", source="given in the scenario")


def _profile(section: dict[str, Any]) -> Profile:
    if "profile" in section:
        return profile(section["profile"])
    technique = section.get("technique", "HYB")
    type_ = section.get("type") or _TYPES.get(technique, "3")
    path = section.get("io_path", "")
    return anonymous(
        technique, type_, section.get("net_path", path), section.get("disk_path", path)
    )


_TYPES = {"PV": "1+dom0", "PV32": "1+dom0", "BT": "2", "OS": "os", "TE": "1"}


def _configuration(
    document: dict[str, Any], chip: Hardware, native: float | None, trace: WorkloadTrace
) -> Configuration:
    section, guest = document.get("hypervisor", {}), document.get("guest", {})
    found = _profile(section)
    path = section.get("io_path")
    default_cpus = max(1, round(document.get("native", {}).get("cpus", 1)))
    if document["quantity"] == "iops":
        default_cpus = max(default_cpus, DISK_VCPUS)
    timed = document["quantity"] == "time"
    return Configuration(
        profile=found,
        technique=found.technique_on(chip, section.get("technique")),
        hardware=chip,
        net_path=found.path_of("net", section.get("net_path", path)),
        disk_path=found.path_of("disk", section.get("disk_path", path)),
        memory_bytes=guest.get("memory_bytes", DEFAULT_MEMORY),
        vcpus=guest.get("vcpus", default_cpus),
        drivers=section.get("drivers"),
        nested=section.get("nested", False),
        hot=timed and (native is None or native < MICRO_S),
        fresh=guest.get("fresh_memory", False),
        shared_cpu=chip.cores == 1,
        loopback=document.get("io", {}).get("loopback", False),
    )


def _trace(
    document: dict[str, Any], native: float | None, chip: Hardware
) -> tuple[WorkloadTrace, tuple[str, ...]]:
    """Return the filled trace of one run or one request, and the counts a class supplied."""
    cpu_s, wall_s = _native_cpu(document, native)
    kind = document.get("workload")
    events = dict(document.get("events", {}))
    guesses = workloads.estimated_counts(kind, cpu_s, chip) if kind else {}
    if kind and document["quantity"] == "throughput" and "network" in workloads.tags_of(kind):
        # A request arrives in one packet at least and is answered with another.
        for name in ("net_rx_packets", "net_tx_packets"):
            guesses[name] = max(guesses[name], 1.0)
    estimated = tuple(name for name in guesses if name not in events)
    user_s = cpu_s * _user_share(document)
    tags = tuple(document.get("tags", ())) or (workloads.tags_of(kind) if kind else ())
    io = document.get("io", {})
    trace = WorkloadTrace(
        t_user_s=user_s,
        t_sys_s=cpu_s - user_s,
        wall_s=wall_s,
        class_tags=tags,
        concurrency=io.get("concurrency", workloads.concurrency_of(kind) if kind else 1),
        queue_depth=io.get("queue_depth", 1),
        name=document["name"],
        **{**guesses, **events},
    )
    return filled(trace)[0], estimated


def _native_cpu(document: dict[str, Any], native: float | None) -> tuple[float, float]:
    """Return CPU and wall seconds of the native run, or of one of its requests."""
    section = document.get("native", {})
    if native is None or document["quantity"] not in ("time", "slowdown", "throughput"):
        return 0.0, 0.0
    busy = section.get("utilization", 1.0) * section.get("cpus", 1.0)
    if document["quantity"] == "throughput":
        return busy / native, busy / native
    return busy * native, native


def _user_share(document: dict[str, Any]) -> float:
    """Return the share of CPU time in user mode: given, the class's, or by what is counted."""
    given = document.get("native", {}).get("user_share")
    if given is not None:
        return float(given)
    if kind := document.get("workload"):
        return 1.0 - workloads.system_share(kind)
    kernel_work = bool(document.get("events"))
    return 0.0 if kernel_work and not document.get("tags") else 1.0
