"""What must hold whatever the constants are (vm-costs 3.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.vm.sim.constants import load_constants
from pycontain.vm.sim.exits import Op
from pycontain.vm.sim.guest import operations
from pycontain.vm.sim.machine import Machine
from pycontain.vm.sim.trace import COUNTS

if TYPE_CHECKING:
    from types import ModuleType

VM_TECHNIQUES = ("TE", "BT", "HV1", "HV2", "PV", "PV32", "HYB", "TCG")
MIXED = {
    "syscalls": 20_000,
    "minor_faults": 5_000,
    "ctx_switches": 800,
    "forks": 40,
    "execs": 30,
    "exits": 40,
    "cr3_loads": 800,
    "shootdowns": 50,
    "ticks": 250,
    "timer_programs": 100,
    "ipis": 100,
    "msr_accesses": 20,
    "cpuids": 10,
    "unmaps": 100,
    "halts": 100,
    "disk_reads": 50,
    "disk_read_bytes": 50 * 4096,
    "disk_writes": 20,
    "disk_write_bytes": 20 * 4096,
    "disk_flushes": 5,
    "net_tx_packets": 100,
    "net_tx_bytes": 100_000,
    "net_rx_packets": 100,
    "net_rx_bytes": 100_000,
}
COUNTED = tuple(name for name in MIXED if name not in ("page_allocs",))


@pytest.mark.parametrize("technique", ["HV1", "PV", "PV32", "TE", "OS"])
def test_no_events_cost_nothing_without_two_dimensional_walks(
    sim: ModuleType, technique: str
) -> None:
    assert sim.run(technique, sim.trace()).wall_s == pytest.approx(1.0)


@pytest.mark.parametrize("technique", ["HV2", "HYB"])
def test_no_events_leave_only_the_walks_under_nested_paging(
    sim: ModuleType, technique: str
) -> None:
    costs = sim.costs()
    stretch = 1 + costs["phi_light"] * (costs["kappa"] - 1)
    assert sim.run(technique, sim.trace()).wall_s == pytest.approx(stretch)


def test_no_events_leave_only_translated_code_under_binary_translation(sim: ModuleType) -> None:
    found = sim.run("BT", sim.trace(), "p4_2003")
    costs = sim.costs("p4_2003")
    assert found.wall_s == pytest.approx(0.5 * costs["s_bt_user"] + 0.5 * costs["s_bt_kernel"])


@pytest.mark.parametrize("technique", VM_TECHNIQUES)
@pytest.mark.parametrize("count", COUNTED)
def test_more_of_any_event_never_takes_less_time(
    sim: ModuleType, technique: str, count: str
) -> None:
    more = sim.trace(**{**MIXED, count: MIXED[count] * 10})
    assert sim.run(technique, more).wall_s >= sim.run(technique, sim.trace(**MIXED)).wall_s - 1e-12


@pytest.mark.parametrize("technique", VM_TECHNIQUES)
def test_a_dearer_constant_never_makes_a_run_cheaper(sim: ModuleType, technique: str) -> None:
    machine = Machine(sim.configuration(technique, fresh=True))
    work = sim.trace(**MIXED, max_rss_bytes=10_000_000)
    base = sim.costs()
    wall_s = machine.run(work, base).wall_s
    constants = load_constants("zen4_2023")
    for name in sorted(base.used):
        high = machine.run(work, sim.costs(**{name: constants[name].high})).wall_s
        assert high >= wall_s - 1e-12, name


@pytest.mark.parametrize("technique", VM_TECHNIQUES)
@pytest.mark.parametrize("class_", ["p4_2003", "zen4_2023"])
def test_a_container_is_never_slower_than_a_vm(
    sim: ModuleType, technique: str, class_: str
) -> None:
    work = sim.trace(**MIXED)
    assert sim.run("OS", work, class_).wall_s <= sim.run(technique, work, class_).wall_s


@pytest.mark.parametrize("class_", ["nehalem_2009", "snb_2012", "hsw_2014", "zen4_2023"])
def test_paravirtual_drivers_do_not_make_hardware_virtualization_slower(
    sim: ModuleType, class_: str
) -> None:
    work = sim.trace(**MIXED)
    assert sim.run("HYB", work, class_).wall_s <= sim.run("HV2", work, class_).wall_s


def test_without_faults_and_switches_shadow_paging_costs_what_nested_paging_exits_cost(
    sim: ModuleType,
) -> None:
    work = sim.trace(syscalls=10_000, ticks=250, msr_accesses=100, halts=10)
    shadow, nested = sim.run("HV1", work), sim.run("HV2", work)
    assert shadow.event_s == pytest.approx(nested.event_s)


def test_paravirtualization_beats_translation_on_forks_of_2003(sim: ModuleType) -> None:
    work = sim.trace(forks=500, minor_faults=25_000, cr3_loads=1500, syscalls=2000)
    assert sim.run("PV32", work, "p4_2003").wall_s < sim.run("BT", work, "p4_2003").wall_s


def test_nesting_multiplies_the_transitions_and_only_them(sim: ModuleType) -> None:
    work = sim.trace(cpuids=1000, msr_accesses=500, timer_programs=100)
    plain, nested = sim.run("HV2", work), sim.run("HV2", work, nested=True)
    factor = sim.costs()["nu"]
    exits = sum(entry.exit_cycles for entry in plain.ledger)
    assert sum(entry.exit_cycles for entry in nested.ledger) == pytest.approx(factor * exits)
    handling = sum(entry.work_cycles for entry in plain.ledger)
    assert sum(entry.work_cycles for entry in nested.ledger) == pytest.approx(handling)


def test_emulation_does_not_depend_on_the_cost_of_an_exit(sim: ModuleType) -> None:
    machine = Machine(sim.configuration("TCG"))
    work = sim.trace(**{**MIXED, "disk_reads": 0, "net_rx_packets": 0})
    dear = machine.run(work, sim.costs(c_exit=50_000.0))
    assert dear.wall_s == machine.run(work, sim.costs()).wall_s


@pytest.mark.parametrize("technique", VM_TECHNIQUES)
def test_the_lines_of_the_ledger_add_up_to_the_time(sim: ModuleType, technique: str) -> None:
    work = sim.trace(**MIXED)
    found = sim.run(technique, work)
    cycles = sum(entry.cycles for entry in found.ledger)
    assert found.event_s == pytest.approx(cycles / 3.0e9)
    assert found.wall_s == pytest.approx(
        found.native_s + found.dilation_s + found.event_s + found.io_s
    )


def test_costs_are_cycles_so_half_the_clock_doubles_the_events(sim: ModuleType) -> None:
    from pycontain.vm.sim.hardware import hardware

    work = sim.trace(cpuids=1000)
    slow = sim.run("HV2", work, hardware=hardware(clock_hz=1.5e9))
    assert slow.event_s == pytest.approx(2 * sim.run("HV2", work).event_s)


def test_every_count_of_a_trace_reaches_an_operation_or_a_device(sim: ModuleType) -> None:
    silent = {"page_allocs", "max_rss_bytes", "page_cache_bytes", "ctx_switches"}
    devices = {name for name in COUNTS if name.startswith(("disk_", "net_"))}
    base = operations(sim.trace(), sim.costs())
    for name in set(COUNTS) - silent - devices:
        moved = operations(sim.trace(**{name: 1000}), sim.costs())
        assert sum(moved.values()) > sum(base.values()), name


def test_a_run_on_two_vcpus_is_no_slower_than_on_one(sim: ModuleType) -> None:
    work = sim.trace(**MIXED, t_user_s=1.0, t_sys_s=1.0)
    one, two = sim.run("HYB", work, vcpus=1), sim.run("HYB", work, vcpus=2)
    assert two.wall_s < one.wall_s
    assert Op.FAULT not in {entry.op for entry in two.ledger}
