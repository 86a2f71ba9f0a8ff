"""Start-up, memory, density, migration, reallocation, failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.errors import InvalidError
from pycontain.vm.sim.hardware import hardware
from pycontain.vm.sim.memory import DEFINITIONS, Footprint, Host, density, memory_bytes, parts
from pycontain.vm.sim.migration import (
    MAX_ROUNDS,
    Failure,
    Migration,
    migrate,
    reallocation_s,
    recovery_s,
)
from pycontain.vm.sim.profiles import profile, profiles
from pycontain.vm.sim.startup import Boot, stages

if TYPE_CHECKING:
    from types import ModuleType

GIB = 2**30
MIB = 2**20
KVM = profile("kvm-qemu")


def boot_s(sim: ModuleType, name: str, **changes: object) -> float:
    return sum(stages(profile(name), Boot(**changes), sim.costs(), hardware()).values())  # type: ignore[arg-type]


# --- start-up -------------------------------------------------------------------------------------
def test_a_start_is_the_sum_of_named_stages(sim: ModuleType) -> None:
    found = stages(KVM, Boot(until="command"), sim.costs(), hardware())
    assert list(found) == ["vmm", "firmware", "decompress", "kernel", "init", "command"]
    assert all(seconds > 0 for seconds in found.values())


def test_an_uncompressed_kernel_and_no_firmware_start_faster(sim: ModuleType) -> None:
    typical = boot_s(sim, "kvm-qemu")
    assert boot_s(sim, "kvm-qemu", kernel_format="vmlinux") < typical
    assert boot_s(sim, "kvm-qemu", firmware="ovmf") > typical
    assert boot_s(sim, "kvm-microvm") < typical


def test_an_emulated_boot_takes_several_times_as_long(sim: ModuleType) -> None:
    assert boot_s(sim, "qemu-tcg") > 2.5 * boot_s(sim, "kvm-qemu")


def test_a_slower_processor_boots_later(sim: ModuleType) -> None:
    boot, costs = Boot(), sim.costs()
    old, new = (stages(KVM, boot, costs, hardware(name)) for name in ("snb_2012", "zen4_2023"))
    assert old["kernel"] > 1.5 * new["kernel"] and old["vmm"] > 1.5 * new["vmm"]


def test_a_missing_tsc_deadline_costs_a_calibration(sim: ModuleType) -> None:
    slow = boot_s(sim, "kvm-qemu", tsc_deadline=False)
    assert slow - boot_s(sim, "kvm-qemu") == pytest.approx(sim.costs()["t_no_tsc_deadline"])
    assert boot_s(sim, "xen-pv", tsc_deadline=False) == boot_s(sim, "xen-pv")


@pytest.mark.parametrize("name", [name for name in profiles() if name != "container"])
def test_a_container_starts_before_any_vm(sim: ModuleType, name: str) -> None:
    assert boot_s(sim, "container") < boot_s(sim, name)


def test_starting_many_at_once_takes_each_of_them_longer(sim: ModuleType) -> None:
    times = [boot_s(sim, "firecracker", concurrency=n) for n in (1, 4, 40)]
    assert times == sorted(times) and times[2] > 5 * times[0]
    alone, four = (
        stages(profile("firecracker"), Boot(concurrency=n), sim.costs(), hardware()) for n in (1, 4)
    )
    costs = sim.costs()
    assert four["kernel"] / alone["kernel"] == pytest.approx(1 + 3 * costs["k_boot_contention"])
    assert four["vmm"] / alone["vmm"] == pytest.approx(1 + 3 * costs["k_vmm_contention"])


def test_a_restored_snapshot_skips_the_kernel(sim: ModuleType) -> None:
    assert boot_s(sim, "firecracker", restore=True) < boot_s(sim, "firecracker") / 2


def test_the_toolstack_slows_with_running_guests(sim: ModuleType) -> None:
    assert boot_s(sim, "xen-pv", running_guests=1000) > boot_s(sim, "xen-pv") + 0.1


def test_an_unknown_firmware_is_refused() -> None:
    with pytest.raises(InvalidError, match="firmware"):
        Boot(firmware="openbios")


# --- memory and density ---------------------------------------------------------------------------
def test_the_parts_of_memory_add_up_to_what_the_host_loses(sim: ModuleType) -> None:
    foot = Footprint(memory_bytes=GIB, working_set_bytes=100 * MIB, page_cache_bytes=50 * MIB)
    costs = sim.costs()
    assert memory_bytes(KVM, foot, "host", costs) == sum(parts(KVM, foot, costs).values())


@pytest.mark.parametrize("definition", sorted(DEFINITIONS))
def test_every_definition_has_an_answer(sim: ModuleType, definition: str) -> None:
    assert memory_bytes(KVM, Footprint(memory_bytes=GIB), definition, sim.costs()) > 0


def test_a_guest_never_holds_more_than_its_memory(sim: ModuleType) -> None:
    foot = Footprint(memory_bytes=64 * MIB, working_set_bytes=GIB)
    assert memory_bytes(KVM, foot, "guest", sim.costs()) == 64 * MIB


def test_sharing_and_ballooning_give_memory_back(sim: ModuleType) -> None:
    costs = sim.costs()
    plain = memory_bytes(KVM, Footprint(memory_bytes=GIB), "host", costs)
    shared = Footprint(memory_bytes=GIB, sharing="same")
    assert memory_bytes(KVM, shared, "host", costs) < plain
    balloon = Footprint(memory_bytes=GIB, balloon_bytes=50 * MIB)
    assert memory_bytes(KVM, balloon, "host", costs) == plain - 50 * MIB


def test_cached_files_are_held_twice_unless_mapped_from_the_host(sim: ModuleType) -> None:
    costs = sim.costs()
    twice = Footprint(memory_bytes=GIB, page_cache_bytes=100 * MIB)
    once = Footprint(memory_bytes=GIB, page_cache_bytes=100 * MIB, dax=True)
    gap = memory_bytes(KVM, twice, "host", costs) - memory_bytes(KVM, once, "host", costs)
    assert gap == 100 * MIB


def test_more_containers_than_guests_fit_on_a_host(sim: ModuleType) -> None:
    host, foot = Host(memory_bytes=64 * GIB), Footprint(memory_bytes=GIB, working_set_bytes=MIB)
    counts = {n: density(profile(n), foot, host, sim.costs()) for n in ("container", "kvm-qemu")}
    assert counts["container"] > 10 * counts["kvm-qemu"] > 0


def test_reserved_memory_and_cores_bound_the_number_of_guests(sim: ModuleType) -> None:
    foot, costs = Footprint(memory_bytes=GIB), sim.costs()
    reserved = density(KVM, foot, Host(memory_bytes=16 * GIB, reserved=True), costs)
    assert reserved <= 15
    busy = Host(memory_bytes=1024 * GIB, cores=8, cpu_per_guest=0.5)
    assert density(KVM, foot, busy, costs) == 16


# --- migration ------------------------------------------------------------------------------------
def guest(**changes: object) -> Migration:
    values = {
        "memory_bytes": 800e6,
        "dirty_rate": 10e6,
        "wws_bytes": 20e6,
        "link_rate": 60e6,
        **changes,
    }
    return Migration(**values)  # type: ignore[arg-type]


def test_an_idle_guest_is_sent_once(sim: ModuleType) -> None:
    found = migrate(guest(dirty_rate=0.0, wws_bytes=0.0), sim.costs())
    assert found.sent_bytes == pytest.approx(800e6)
    assert found.downtime_s == pytest.approx(sim.costs()["t_resume"])


def test_dirtying_faster_makes_downtime_and_traffic_grow(sim: ModuleType) -> None:
    slow, fast = (
        migrate(guest(dirty_rate=rate, wws_bytes=300e6), sim.costs()) for rate in (5e6, 50e6)
    )
    assert fast.downtime_s > slow.downtime_s and fast.sent_bytes > slow.sent_bytes


def test_a_guest_that_outwrites_the_link_still_ends(sim: ModuleType) -> None:
    found = migrate(guest(dirty_rate=1e9, wws_bytes=700e6), sim.costs())
    assert len(found.rounds) <= MAX_ROUNDS + 1
    assert found.downtime_s > 5


def test_rounds_are_bounded_when_each_is_a_little_smaller(sim: ModuleType) -> None:
    slow = guest(dirty_rate=10e6, wws_bytes=400e6, max_rounds=2, stop="xen")
    assert len(migrate(slow, sim.costs()).rounds) == 3


def test_the_first_round_is_slow_when_the_rate_adapts(sim: ModuleType) -> None:
    found = migrate(guest(first_rate=12.5e6, rate_step=6e6, stop="xen"), sim.costs())
    rates = [each.rate for each in found.rounds]
    assert rates[0] == min(rates) and rates[-1] == max(rates) > 4 * rates[0]


def test_a_downtime_limit_is_kept_when_the_guest_converges(sim: ModuleType) -> None:
    found = migrate(guest(downtime_limit_s=0.5), sim.costs())
    assert found.downtime_s <= 0.5 + sim.costs()["t_resume"]


# --- reallocation and failure ---------------------------------------------------------------------
def test_changing_nothing_takes_no_time(sim: ModuleType) -> None:
    assert reallocation_s(sim.costs()) == 0
    assert reallocation_s(sim.costs(), memory_bytes=-2 * GIB, vcpus=1) > 2


def test_every_guest_of_a_dead_host_comes_back_in_waves(sim: ModuleType) -> None:
    times = recovery_s(Failure(guests=10, start_s=2.0, detect_s=5.0, parallel=4), sim.costs())
    assert times == [7.0] * 4 + [9.0] * 4 + [11.0] * 2


def test_waiting_for_the_same_host_takes_longer(sim: ModuleType) -> None:
    there = recovery_s(Failure(guests=1, start_s=1.0), sim.costs())[0]
    here = recovery_s(Failure(guests=1, start_s=1.0, same_host=True), sim.costs())[0]
    assert here > 3 * there
