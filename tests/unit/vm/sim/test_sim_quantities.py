"""Rates, latencies and sizes: what a scenario's answer must do when an input moves."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.vm.sim.machine import Machine
from pycontain.vm.sim.quantities import model

if TYPE_CHECKING:
    from types import ModuleType

KVM = {"profile": "kvm-qemu"}
OLD = {"class": "p4_2003", "cores": 1}


def value(sim: ModuleType, **document: Any) -> float:
    """Return the answer at the default constants, in SI units."""
    found = sim.scenario(**{"unit": None, "native": None, **document})
    answer: float = model(found)(sim.costs(found.configuration.hardware.name))
    return answer


# --- network --------------------------------------------------------------------------------------
def stream(sim: ModuleType, native: float, **document: Any) -> float:
    """Return Gb/s of a stream."""
    rate = value(sim, quantity="throughput", unit="Gb/s", native={"value": native}, **document)
    return rate * 8 / 1e9


def test_a_stream_never_exceeds_the_native_one(sim: ModuleType) -> None:
    for profile in ("container", "kvm-qemu", "xen-pv", "esxi", "virtualbox"):
        assert stream(sim, 1.0, hypervisor={"profile": profile}) <= 1.0001


def test_a_container_streams_at_the_native_rate(sim: ModuleType) -> None:
    assert stream(sim, 40, hypervisor={"profile": "container"}) == pytest.approx(40, rel=1e-3)


def test_paravirtual_adapters_beat_emulated_ones(sim: ModuleType) -> None:
    def fast(drivers: str) -> float:
        hypervisor = {**KVM, "net_path": "qemu", "drivers": drivers}
        return stream(sim, 40, hypervisor=hypervisor)

    assert fast("pv") > 3 * fast("emulated")


def test_vhost_beats_the_userspace_thread_on_old_hosts(sim: ModuleType) -> None:
    def fast(path: str) -> float:
        return stream(sim, 40, hypervisor={**KVM, "net_path": path}, hardware={"class": "snb_2012"})

    assert fast("vhost") > fast("qemu")


def test_small_packets_carry_less_data(sim: ModuleType) -> None:
    large = stream(sim, 40, hypervisor=KVM)
    assert stream(sim, 40, hypervisor=KVM, io={"packet_bytes": 64}) < large / 20


def test_a_shared_core_slows_a_stream(sim: ModuleType) -> None:
    xen = {"profile": "xen-pv"}
    alone = stream(sim, 40, hypervisor=xen, hardware={"cores": 1})
    assert alone < stream(sim, 40, hypervisor=xen, hardware={"cores": 8})


# --- disk -----------------------------------------------------------------------------------------
def iops(sim: ModuleType, native: float, **document: Any) -> float:
    return value(sim, quantity="iops", native={"value": native}, **document)


def test_requests_at_depth_one_pay_the_paths_latency(sim: ModuleType) -> None:
    added = 1 / iops(sim, 16473, hypervisor=KVM) - 1 / 16473
    assert 40e-6 < added < 110e-6


def test_the_latency_a_fast_device_gains_has_a_floor_and_a_ceiling(sim: ModuleType) -> None:
    floor, ceiling = sim.costs()["t_blk_min"], sim.costs()["t_wake_cap"] * 1.19
    assert 1 / iops(sim, 1e6, hypervisor=KVM) - 1e-6 == pytest.approx(floor)
    assert 1 / iops(sim, 100, hypervisor=KVM) - 0.01 == pytest.approx(ceiling)


def test_depth_hides_latency_until_a_thread_is_full(sim: ModuleType) -> None:
    rates = [
        value(
            sim,
            quantity="iops",
            native={"value": 500_000, "latency_s": 80e-6},
            hypervisor=KVM,
            io={"queue_depth": depth},
        )
        for depth in (2, 8, 32, 256)
    ]
    # The clock samples: a half per cent between two saturated depths means nothing.
    assert all(deeper > 0.995 * shallow for shallow, deeper in pairwise(rates))
    assert rates[1] > 3 * rates[0]
    costs = sim.costs()
    assert rates[-1] == pytest.approx(
        1 / (costs["t_svc_qemu"] + costs["t_note_qemu"] / 16), rel=0.1
    )


def test_more_back_end_threads_serve_more(sim: ModuleType) -> None:
    io = {"queue_depth": 256}
    one = iops(sim, 1e6, hypervisor=KVM, io=io, guest={"vcpus": 16})
    four = iops(sim, 1e6, hypervisor=KVM, io={**io, "io_threads": 4}, guest={"vcpus": 16})
    assert four > 2.5 * one


def test_a_synchronous_device_thread_does_not_profit_from_depth(sim: ModuleType) -> None:
    firecracker = {"profile": "firecracker"}
    deep = iops(sim, 340_000, hypervisor=firecracker, io={"queue_depth": 32})
    assert deep < 15_000


def test_a_disk_stream_is_requests_times_their_size(sim: ModuleType) -> None:
    document = {"hypervisor": KVM, "io": {"queue_depth": 4, "request_bytes": 1 << 20}}
    requests = iops(sim, 500e6 / (1 << 20), **document)
    data = value(sim, quantity="throughput", unit="MB/s", native={"value": 500}, **document)
    assert data == pytest.approx(requests * (1 << 20))


# --- requests -------------------------------------------------------------------------------------
def test_a_saturated_container_serves_what_the_host_serves(sim: ModuleType) -> None:
    document = {"quantity": "throughput", "hypervisor": {"profile": "container"}}
    for io in ({}, {"concurrency": 1}, {"concurrency": 200}):
        found = value(sim, native={"value": 5000}, workload="webserver", io=io, **document)
        assert found == pytest.approx(5000, rel=1e-3)


def test_a_request_somebody_waits_for_pays_the_round_trip_once(sim: ModuleType) -> None:
    one = {
        "quantity": "throughput",
        "native": {"value": 25_000, "utilization": 0.5},
        "events": {"net_tx_packets": 1, "net_rx_packets": 1, "halts": 1},
        "io": {"concurrency": 1},
        "hypervisor": KVM,
    }
    added = 1 / value(sim, **one) - 1 / 25_000
    assert added == pytest.approx(sim.costs()["t_rr_vhost"], rel=0.35)


def test_spare_native_cpu_time_absorbs_overhead(sim: ModuleType) -> None:
    busy = {"quantity": "throughput", "workload": "webserver", "hypervisor": KVM}
    full = value(sim, native={"value": 1000}, **busy)
    idle = value(sim, native={"value": 1000, "utilization": 0.5}, **busy)
    assert full < idle <= 1000


def test_slowdown_and_time_are_the_same_run(sim: ModuleType) -> None:
    document = {"workload": "compile", "hypervisor": KVM}
    ratio = value(sim, quantity="slowdown", native={"value": 30}, **document)
    seconds = value(sim, quantity="time", unit="s", native={"value": 30}, **document)
    assert ratio == pytest.approx(seconds / 30)


def test_a_ballooned_guest_runs_a_little_longer(sim: ModuleType) -> None:
    document = {"quantity": "time", "unit": "s", "native": {"value": 10}, "hypervisor": KVM}
    plain = value(sim, **document)
    assert 1.01 < value(sim, memory={"balloon_bytes": 2**28}, **document) / plain < 1.05


def test_a_loop_of_one_operation_finds_its_caches_warm(sim: ModuleType) -> None:
    loop = sim.scenario(quantity="time", unit="us", native={"value": 1}, operations={"cpuid": 1})
    whole = sim.scenario(quantity="time", unit="s", native={"value": 1}, operations={"cpuid": 1})
    hot, cold = Machine(loop.configuration), Machine(whole.configuration)
    gap = cold.transition_cycles(sim.costs()) - hot.transition_cycles(sim.costs())
    assert gap == sim.costs()["c_poll"]


# --- latency, memory, recovery --------------------------------------------------------------------
def test_a_round_trip_gains_what_the_path_adds(sim: ModuleType) -> None:
    document = {"quantity": "latency", "unit": "us", "native": {"value": 40}}
    for path, constant in (("vhost", "t_rr_vhost"), ("qemu", "t_rr_qemu"), ("pt", "t_rr_pt")):
        found = value(sim, hypervisor={**KVM, "io_path": path}, **document)
        assert found == pytest.approx(40e-6 + sim.costs()[constant])
    assert value(sim, hypervisor={"profile": "container"}, **document) == pytest.approx(40e-6)


def test_nesting_lengthens_what_somebody_waits_for(sim: ModuleType) -> None:
    document = {"quantity": "latency", "unit": "us", "native": {"value": 40}}
    for io in ({}, {"device": "disk"}):
        plain = value(sim, hypervisor=KVM, io=io, **document)
        nested = value(sim, hypervisor={**KVM, "nested": True}, io=io, **document)
        assert nested > plain + 20e-6
    container = {"profile": "container", "nested": True}
    assert value(sim, hypervisor=container, **document) == pytest.approx(40e-6)


def test_a_disk_request_gains_latency_too(sim: ModuleType) -> None:
    document = {"quantity": "latency", "unit": "us", "native": {"value": 60}}
    found = value(sim, hypervisor=KVM, io={"device": "disk"}, **document)
    assert 90e-6 < found < 160e-6


def test_many_guests_take_many_times_the_memory(sim: ModuleType) -> None:
    one = value(sim, quantity="memory", hypervisor=KVM)
    many = value(sim, quantity="memory", hypervisor=KVM, memory={"guests": 50})
    assert many == pytest.approx(50 * one)


def test_the_first_guest_is_back_before_the_last(sim: ModuleType) -> None:
    def back(which: str) -> float:
        failure = {"guests": 100, "start_s": 10, "parallel": 10, "which": which}
        return value(sim, quantity="recovery", hypervisor=KVM, failure=failure)

    assert back("last") - back("first") == pytest.approx(90)


def test_packets_of_many_peers_share_notifications(sim: ModuleType) -> None:
    machine = Machine(sim.configuration("HYB", net_path="vhost"))
    alone = machine.segment(sim.costs(), 1000, transmit=True, depth=1)
    crowd = machine.segment(sim.costs(), 1000, transmit=True, depth=16)
    assert sum(crowd.operations.values()) == pytest.approx(sum(alone.operations.values()) / 4)


def test_an_assigned_device_costs_interrupts_only(sim: ModuleType) -> None:
    machine = Machine(sim.configuration("HYB", net_path="pt", disk_path="pt"))
    found = machine.disk_request(sim.costs(), 4096, 1)
    assert {op.value for op in found.operations} == {"interrupt", "eoi"}
    assert found.backend_s == 0


def test_old_emulated_disks_are_ports_and_newer_ones_mmio(sim: ModuleType) -> None:
    old = Machine(sim.configuration("BT", "p4_2003", disk_path="qemu"))
    new = Machine(sim.configuration("HV2", disk_path="qemu"))
    assert "pio_user" in {op.value for op in old.disk_request(sim.costs(), 4096, 1).operations}
    assert "mmio_user" in {op.value for op in new.disk_request(sim.costs(), 4096, 1).operations}


def test_a_hosted_adapter_of_2003_switches_worlds_for_each_packet(sim: ModuleType) -> None:
    machine = Machine(sim.configuration("BT", "p4_2003"))
    costs = sim.costs("p4_2003")
    sent = machine.segment(costs, 1460, transmit=True).operations
    received = machine.segment(costs, 1460, transmit=False).operations
    switches = {op.value: count for op, count in sent.items()}["world_switch"]
    assert switches == pytest.approx(costs["k_hosted_tx"] * costs["n_lance_ws"])
    assert sum(received.values()) < sum(sent.values())


# --- what a writer leaves out ---------------------------------------------------------------------
def test_a_short_request_of_a_class_has_events_too(sim: ModuleType) -> None:
    one = sim.scenario(
        quantity="throughput", unit="requests/s", native={"value": 1e5}, workload="keyvalue"
    )
    assert 0 < one.trace.minor_faults < 1
    assert one.trace.net_rx_packets >= 1 and one.trace.net_tx_packets >= 1


def test_counts_that_are_given_are_not_raised(sim: ModuleType) -> None:
    one = sim.scenario(
        quantity="throughput",
        unit="requests/s",
        native={"value": 1e5},
        workload="keyvalue",
        events={"net_rx_packets": 0.1},
    )
    assert one.trace.net_rx_packets == 0.1


def test_nat_costs_the_container_time_per_packet(sim: ModuleType) -> None:
    one = {"quantity": "throughput", "native": {"value": 1e5}, "workload": "keyvalue"}
    host = value(sim, hypervisor={"profile": "container"}, **one)
    nat = value(sim, hypervisor={"profile": "container", "net_path": "nat"}, **one)
    assert nat < 0.95 * host


def test_a_local_native_run_met_no_adapter(sim: ModuleType) -> None:
    one = {"quantity": "throughput", "native": {"value": 1e5}, "workload": "keyvalue"}
    remote = value(sim, hypervisor=KVM, **one)
    assert value(sim, hypervisor=KVM, io={"loopback": True}, **one) < remote


def test_a_slowdown_needs_no_native_time_when_its_workload_is_named(sim: ModuleType) -> None:
    named = {"quantity": "slowdown", "unit": "ratio", "workload": "compile", "hypervisor": KVM}
    long = value(sim, native={"value": 1000}, **named)
    assert value(sim, **named) == pytest.approx(long, rel=1e-6)


def test_compilers_grew_with_the_processors(sim: ModuleType) -> None:
    def faults(class_: str, workload: str) -> float:
        one = sim.scenario(
            quantity="time", native={"value": 1e9}, hardware={"class": class_}, workload=workload,
            hypervisor={"technique": "OS"},
        )  # fmt: skip
        found: float = one.trace.minor_faults
        return found

    assert faults("p4_2003", "java") < 0.15 * faults("zen4_2023", "java")
    assert faults("p4_2003", "compile") > 0.25 * faults("zen4_2023", "compile")


def test_requests_at_depth_share_a_notification(sim: ModuleType) -> None:
    def seconds(depth: int) -> float:
        machine = Machine(sim.scenario(hypervisor=KVM).configuration)
        found: float = machine.disk_request(sim.costs("snb_2012"), 4096, depth).backend_s
        return found

    assert seconds(16) > 1.5 * seconds(256)


def test_an_eoi_of_2009_leaves_the_guest(sim: ModuleType) -> None:
    def count(class_: str) -> int:
        features = {"apicv": False}
        found = sim.scenario(
            hypervisor=KVM, hardware={"class": class_, "features": features}, operations={"eoi": 1}
        )
        ledger = Machine(found.configuration).handle(found.operations, sim.costs(class_))
        return sum(entry.kind == "vm_exit" for entry in ledger)

    assert (count("nehalem_2009"), count("snb_2012")) == (1, 0)


def test_a_restored_guest_pays_its_own_toolstack(sim: ModuleType) -> None:
    one = {"quantity": "boot", "unit": "ms", "hypervisor": {"profile": "xen-pv"}}
    chaos = value(sim, boot={"restore": True, "toolstack": "chaos"}, **one)
    assert chaos < value(sim, boot={"restore": True}, **one) / 3
