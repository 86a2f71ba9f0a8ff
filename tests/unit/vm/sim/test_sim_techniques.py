"""How each technique handles what a guest does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.errors import UsageError
from pycontain.vm.sim.exits import ExitReason, Op
from pycontain.vm.sim.hardware import hardware
from pycontain.vm.sim.machine import Entry, Machine
from pycontain.vm.sim.profiles import profile, profiles

if TYPE_CHECKING:
    from types import ModuleType


def entry(sim: ModuleType, technique: str, op: Op, class_: str = "zen4_2023") -> Entry | None:
    """Return the ledger line of 100 operations, None when the technique never sees them."""
    machine = Machine(sim.configuration(technique, class_))
    found = machine.handle({op: 100.0}, sim.costs(class_))
    return found[0] if found else None


@pytest.mark.parametrize("technique", ["HV1", "HV2", "HYB"])
def test_hardware_runs_system_calls_without_an_exit(sim: ModuleType, technique: str) -> None:
    assert entry(sim, technique, Op.SYSCALL) is None


@pytest.mark.parametrize("technique", ["HV2", "HYB"])
def test_nested_paging_runs_faults_and_root_switches_without_an_exit(
    sim: ModuleType, technique: str
) -> None:
    for op in (Op.FAULT, Op.PTE, Op.PTE_BATCH, Op.CR3):
        assert entry(sim, technique, op) is None


def test_nested_paging_exits_on_the_first_touch_of_a_page(sim: ModuleType) -> None:
    found = entry(sim, "HV2", Op.FIRST_TOUCH)
    assert found and found.kind == "vm_exit" and found.reason == ExitReason.EPT_VIOLATION
    assert found.count == 100


def test_shadow_paging_exits_on_page_table_writes(sim: ModuleType) -> None:
    found = entry(sim, "HV1", Op.PTE)
    assert found and found.reason == ExitReason.EXCEPTION_NMI and found.exit_cycles > 0


def test_shadow_paging_refills_after_a_root_switch(sim: ModuleType) -> None:
    switches = sim.trace(cr3_loads=100)
    operations = {line.op for line in sim.run("HV1", switches).ledger}
    assert {Op.CR3, Op.REFILL} <= operations
    assert Op.REFILL not in {line.op for line in sim.run("HV2", switches).ledger}


@pytest.mark.parametrize("op", [Op.PTE, Op.CR3, Op.PTE_BATCH, Op.IPI, Op.MSR])
def test_a_paravirtual_guest_calls_instead_of_trapping(sim: ModuleType, op: Op) -> None:
    found = entry(sim, "PV", op)
    assert found and found.kind == "hypercall" and found.exit_cycles == 0


def test_batched_page_table_updates_are_cheaper_than_single_ones(sim: ModuleType) -> None:
    single, batched = entry(sim, "PV", Op.PTE), entry(sim, "PV", Op.PTE_BATCH)
    assert single and batched and batched.cycles < single.cycles / 5


def test_a_64_bit_paravirtual_guest_bounces_its_system_calls(sim: ModuleType) -> None:
    wide, narrow = entry(sim, "PV", Op.SYSCALL), entry(sim, "PV32", Op.SYSCALL)
    assert wide and narrow and wide.cycles > 10 * narrow.cycles


def test_a_paravirtual_guest_owns_its_memory_already(sim: ModuleType) -> None:
    assert entry(sim, "PV", Op.FIRST_TOUCH) is None


def test_translation_calls_out_and_never_exits_by_hardware(sim: ModuleType) -> None:
    work = sim.trace(syscalls=10, minor_faults=10, cr3_loads=10, cpuids=10, ticks=10, halts=2)
    ledger = sim.run("BT", work, "p4_2003").ledger
    assert {line.kind for line in ledger} == {"callout"}
    assert sum(line.exit_cycles for line in ledger) == 0


def test_trap_and_emulate_traps_twice_for_a_system_call(sim: ModuleType) -> None:
    found = entry(sim, "TE", Op.SYSCALL)
    machine = Machine(sim.configuration("TE"))
    assert found and found.exit_cycles == pytest.approx(
        200 * machine.transition_cycles(sim.costs())
    )


def test_an_interrupt_controller_in_hardware_needs_no_exit_for_an_eoi(sim: ModuleType) -> None:
    with_apicv, without = entry(sim, "HV2", Op.EOI), entry(sim, "HV2", Op.EOI, "snb_2012")
    assert with_apicv and with_apicv.kind == "assist"
    assert without and without.reason == ExitReason.EOI_INDUCED


def test_a_paravirtual_eoi_saves_the_exit_on_old_hardware(sim: ModuleType) -> None:
    found = entry(sim, "HYB", Op.EOI, "snb_2012")
    assert found and found.kind == "assist"


def test_containers_and_emulation_leave_nothing_to_handle(sim: ModuleType) -> None:
    everything = dict.fromkeys(Op, 5.0)
    for technique in ("OS", "TCG"):
        assert Machine(sim.configuration(technique)).handle(everything, sim.costs()) == []


def test_emulation_stretches_by_the_class_of_the_workload(sim: ModuleType) -> None:
    integer = sim.run("TCG", sim.trace(class_tags=("integer",), t_sys_s=0, t_user_s=1.0))
    copy = sim.run("TCG", sim.trace(class_tags=("copy",), t_sys_s=0, t_user_s=1.0))
    assert integer.wall_s < 1.2
    assert copy.wall_s > 8


def test_hybrid_pages_by_shadow_where_there_is_no_nested_paging(sim: ModuleType) -> None:
    assert entry(sim, "HYB", Op.PTE, "vt1_2006") is not None
    assert entry(sim, "HYB", Op.PTE, "nehalem_2009") is None


def test_mitigations_are_paid_only_where_the_class_has_them(sim: ModuleType) -> None:
    old, new = Machine(sim.configuration("HV2", "hsw_2014")), Machine(sim.configuration("HV2"))
    dear = {"c_mit": 10_000.0}
    assert old.transition_cycles(sim.costs("hsw_2014", **dear)) < 5_000
    assert new.transition_cycles(sim.costs(**dear)) > 10_000


def test_a_port_served_in_user_space_costs_more_than_one_in_the_kernel(sim: ModuleType) -> None:
    kernel, user = entry(sim, "HV2", Op.PIO_KERNEL), entry(sim, "HV2", Op.PIO_USER)
    assert kernel and user and user.cycles > 2 * kernel.cycles


# --- profiles -------------------------------------------------------------------------------------
EXPECTED = (
    "xen-pv xen-hvm xen-pvh xenserver esxi hyper-v kvm-qemu kvm-microvm firecracker "
    "cloud-hypervisor vmware-workstation vmware-workstation-bt vmware-server vmware-fusion "
    "virtualbox parallels container"
)


def test_every_product_of_the_seeds_is_a_profile() -> None:
    assert set(EXPECTED.split()) <= set(profiles())


@pytest.mark.parametrize("name", sorted(profiles()))
def test_a_profile_runs_on_the_newest_hardware(name: str) -> None:
    found = profile(name)
    assert found.technique_on(hardware()) in found.techniques
    assert found.net_path in found.paths and found.disk_path in found.paths


def test_a_profile_falls_back_to_what_old_hardware_can_do() -> None:
    old = hardware("p4_2003")
    assert profile("esxi").technique_on(old) == "BT"
    assert profile("vmware-workstation").technique_on(hardware("vt1_2006")) == "HYB"
    with pytest.raises(UsageError, match="no vt"):
        profile("kvm-qemu").technique_on(old)


def test_an_alias_names_the_same_profile() -> None:
    assert profile("hyperv") is profile("hyper-v")
