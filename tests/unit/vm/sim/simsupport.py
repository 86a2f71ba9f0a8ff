"""Small builders shared by the simulator's tests."""

from __future__ import annotations

from typing import Any

from pycontain.vm.sim.constants import Costs, load_constants
from pycontain.vm.sim.hardware import hardware
from pycontain.vm.sim.machine import Configuration, Machine, Run
from pycontain.vm.sim.profiles import anonymous
from pycontain.vm.sim.scenario import Scenario, parse_scenario
from pycontain.vm.sim.trace import WorkloadTrace, filled

TYPES = {"PV": "1+dom0", "PV32": "1+dom0", "BT": "2", "OS": "os", "TE": "1"}
PATHS = {"1+dom0": "dom0", "2": "hosted", "os": "native", "1": "inhyp", "3": "qemu"}


def trace(**counts: Any) -> WorkloadTrace:
    """Return a filled trace of one second, half of it in the kernel, with these counts."""
    values = {"t_user_s": 0.5, "t_sys_s": 0.5, "wall_s": 1.0, "ticks": 0, **counts}
    return filled(WorkloadTrace(**values))[0]


def configuration(technique: str, class_: str = "zen4_2023", **changes: Any) -> Configuration:
    """Return a machine's configuration for a technique, with its type's I/O path."""
    type_ = TYPES.get(technique, "3")
    path = PATHS[type_]
    values: dict[str, Any] = {
        "profile": anonymous(technique, type_, path, path),
        "technique": technique,
        "hardware": hardware(class_),
        "net_path": path,
        "disk_path": path,
        **changes,
    }
    return Configuration(**values)


def costs(class_: str = "zen4_2023", **moved: float) -> Costs:
    """Return the default costs of a class, some of them moved."""
    return Costs(load_constants(class_), moved=moved)


def run(technique: str, work: WorkloadTrace, class_: str = "zen4_2023", **changes: Any) -> Run:
    """Run a trace with one technique at the default costs."""
    return Machine(configuration(technique, class_, **changes)).run(work, costs(class_))


def scenario(**changes: Any) -> Scenario:
    """Return a small valid scenario with some keys changed."""
    document = {
        "name": "row",
        "quantity": "time",
        "unit": "us",
        "native": {"value": 100},
        "hypervisor": {"profile": "kvm-qemu"},
        **changes,
    }
    return parse_scenario({k: v for k, v in document.items() if v is not None}, "row.json")
