"""What a scenario may ask for, each as a function of one assignment of costs, in SI.

Owns the step from a scenario to the models of machine, start-up, memory and migration, and the
pipeline of stations for rates. Monte-Carlo over the function is `predict`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from pycontain.vm.sim import memory, migration, startup, workloads
from pycontain.vm.sim.clock import Station, closed_form, flow
from pycontain.vm.sim.constants import Costs
from pycontain.vm.sim.machine import Configuration, Machine, Run

if TYPE_CHECKING:
    from pycontain.vm.sim.estimate import Model
    from pycontain.vm.sim.scenario import Scenario

T = TypeVar("T")
SATURATED = 64
PROTOCOL_BYTES = 52
"""IP and TCP headers with time stamps."""
UNKNOWN_DEVICE_S = 60e-6
"""Latency of an unloaded solid-state disk, where only its rate under load is known."""


def model(scenario: Scenario) -> Model:
    """Return the function that answers a scenario, in SI units."""
    return _MODELS[scenario.quantity](scenario)


# --- time ---------------------------------------------------------------------------------------
def _time(scenario: Scenario) -> Model:
    if scenario.native is None and not scenario.operations and "events" not in scenario.document:
        raise scenario.wants("native.value (or operations)")
    machine = Machine(scenario.configuration)
    ballooned = scenario.section("memory").get("balloon_bytes", 0) > 0

    def seconds(costs: Costs) -> float:
        wall_s = _run(machine, scenario, costs).wall_s
        return wall_s * costs["k_balloon"] if ballooned else wall_s

    return seconds


def _run(machine: Machine, scenario: Scenario, costs: Costs) -> Run:
    return machine.run(scenario.trace, costs, scenario.operations, scenario.estimated)


def _slowdown(scenario: Scenario) -> Model:
    native = scenario.native
    if native is None:
        raise scenario.wants("native.value (or workload)")
    seconds = _time(scenario)
    return lambda costs: seconds(costs) / native


# --- rates --------------------------------------------------------------------------------------
Stations = Callable[[Costs], list[Station]]


def _rate(scenario: Scenario, stations: Stations, customers: int, native: list[Station]) -> Model:
    """Return the closed form, corrected by the clock's answer where a server is busy.

    The native rate was measured, queues included, so only what the clock finds beyond the native
    stations' own queueing counts.
    """
    base = stations(Costs(scenario.constants))
    correction = min(1.0, queueing(base, customers) / queueing(native, customers))
    ceiling = scenario.native or math.inf

    def rate(costs: Costs) -> float:
        return min(ceiling, closed_form(stations(costs), customers).rate * correction)

    return rate


def queueing(stations: list[Station], customers: int) -> float:
    """Return the share of the closed form's rate that is left by queueing (1 when idle)."""
    bound = closed_form(stations, customers).rate
    return flow(stations, customers).rate / bound if math.isfinite(bound) else 1.0


def _throughput(scenario: Scenario) -> Model:
    if not scenario.is_stream:
        return _requests(scenario)
    io = scenario.section("io")
    disk = io.get("device") == "disk" or "request_bytes" in io or "queue_depth" in io
    return _disk_stream(scenario) if disk else _stream(scenario)


def _disk_stream(scenario: Scenario) -> Model:
    """Bytes a second of a disk: requests a second times their size."""
    size = scenario.section("io").get("request_bytes", 131072)
    native = None if scenario.native is None else scenario.native / size
    requests = _iops(replace(scenario, native=native), default_bytes=size)
    return lambda costs: requests(costs) * size


def _requests(scenario: Scenario) -> Model:
    """Requests a second: CPU time of one request stretched, its I/O on the path's servers."""
    native = scenario.native
    if native is None:
        raise scenario.wants("native.value")
    io = scenario.section("io")
    customers = io.get("concurrency", SATURATED)
    machine = Machine(scenario.configuration)
    config = scenario.configuration
    cpu_s = scenario.trace.cpu_s
    known = "concurrency" in io
    think_s = max(0.0, customers / native - cpu_s) if known else 0.0
    busy = scenario.section("native")
    cpus = math.ceil(busy.get("cpus", 1))
    # A rate below what the CPUs could do was held by something that holds the guest as well.
    held = busy.get("utilization", 1.0) < 1.0 or cpus > busy.get("cpus", 1)
    limit_s = 1 / native if held and not known else 0.0

    def stations(costs: Costs) -> list[Station]:
        run = _run(machine, scenario, costs)
        # Back-end time is part of a waited-for round trip; it must not be waited for twice.
        waited_s = max(0.0, run.io_s - run.backend_s) if run.io_s else 0.0
        serial_s = run.backend_s if config.shared_cpu else 0.0
        return [
            Station(name="vcpu", service_s=run.cpu_s + serial_s, servers=config.vcpus),
            Station(
                name="backend",
                service_s=0.0 if config.shared_cpu else run.backend_s,
                servers=io.get("io_threads", 1),
            ),
            Station(name="elsewhere", service_s=think_s + waited_s, servers=0),
            Station(name="limit", service_s=limit_s),
        ]

    before = [
        Station(name="vcpu", service_s=cpu_s, servers=cpus),
        Station(name="elsewhere", service_s=think_s, servers=0),
        Station(name="limit", service_s=limit_s),
    ]
    return _rate(scenario, stations, customers, before)


def _stream(scenario: Scenario) -> Model:
    """Bytes a second of a bulk transfer: the slowest of sender, back-end and link."""
    io = scenario.section("io")
    link = io.get("link_bps", 0) / 8
    native = scenario.native or link
    if not native:
        raise scenario.wants("native.value (or io.link_bps)")
    config = scenario.configuration
    machine = Machine(config)
    transmit = io.get("direction", "tx") == "tx"

    def stations(costs: Costs) -> list[Station]:
        size = _segment_bytes(scenario, costs)
        virtual = machine.segment(costs, size, transmit=transmit)
        entries = machine.handle(virtual.operations, costs)
        event_s = config.hardware.seconds(
            virtual.guest_cycles + sum(entry.cycles for entry in entries)
        )
        stack_s = min(size / native, _stack_s(scenario, costs, size))
        serial_s = virtual.backend_s if config.shared_cpu else 0.0
        parts = [
            Station(name="vcpu", service_s=(stack_s + event_s + serial_s) / size),
            Station(name="wire", service_s=1 / native),
        ]
        if not config.shared_cpu:
            parts.append(Station(name="backend", service_s=virtual.backend_s / size))
        return parts

    return _rate(scenario, stations, SATURATED, [Station(name="wire", service_s=1 / native)])


def _segment_bytes(scenario: Scenario, costs: Costs) -> float:
    """Return the bytes handed over at once: merged segments, or packets where nothing merges."""
    io, config = scenario.section("io"), scenario.configuration
    size = costs["n_segment" if io.get("direction", "tx") == "tx" else "n_segment_rx"]
    if config.net_path == "hosted" or config.driver("net") == "emulated":
        size = min(size, costs["n_segment_mtu"])
    if "mtu" in io and size <= 1500:
        size = io["mtu"] - PROTOCOL_BYTES
    return float(min(size, io.get("packet_bytes", size)))


def _stack_s(scenario: Scenario, costs: Costs, size: float) -> float:
    """Return seconds of the native network stack per segment."""
    section = scenario.section("native")
    if "utilization" in section and scenario.native:
        return float(section["utilization"] * size / scenario.native)
    cycles = costs["c_pkt_native"] + costs["c_byte_native"] * size
    return scenario.configuration.hardware.seconds(cycles)


def _iops(scenario: Scenario, default_bytes: float = 4096) -> Model:
    """Disk requests a second at a queue depth: device, path, back-end thread, vCPU."""
    io = scenario.section("io")
    depth = io.get("queue_depth", io.get("concurrency", 1))
    native = scenario.native
    device_s = _device_s(scenario, depth)
    if device_s is None:
        raise scenario.wants("native.value (or native.latency_s)")
    config = scenario.configuration
    machine = Machine(_with_device(scenario, device_s))
    gate_s = 1 / native if native and depth > 1 else 0.0

    def stations(costs: Costs) -> list[Station]:
        request = machine.disk_request(costs, io.get("request_bytes", default_bytes), depth)
        entries = machine.handle(request.operations, costs)
        event_s = config.hardware.seconds(sum(entry.cycles for entry in entries))
        if depth == 1:
            # The native time of one request contains the native CPU work already.
            whole = device_s + request.latency_s
            return [Station(name="request", service_s=whole, servers=0)]
        cpu_s = config.hardware.seconds(costs["c_blk_native"]) + event_s
        path_s = max(0.0, request.latency_s - request.backend_s)
        return [
            Station(name="vcpu", service_s=cpu_s, servers=config.vcpus),
            Station(name="backend", service_s=request.backend_s, servers=io.get("io_threads", 1)),
            Station(name="path", service_s=path_s, servers=0),
            Station(name="device", service_s=gate_s),
            Station(name="device wait", service_s=max(0.0, device_s - gate_s), servers=0),
        ]

    before = [
        Station(name="device", service_s=gate_s),
        Station(name="device wait", service_s=max(0.0, device_s - gate_s), servers=0),
    ]
    return _rate(scenario, stations, depth, before)


def _device_s(scenario: Scenario, depth: int) -> float | None:
    """Return the seconds one native request takes: given, or from the rate by Little's law."""
    given = scenario.section("native").get("latency_s")
    if given is not None:
        return float(given)
    if scenario.native is None:
        return None
    if depth == 1:
        return 1 / scenario.native
    return min(depth / scenario.native, UNKNOWN_DEVICE_S)


def _with_device(scenario: Scenario, device_s: float) -> Configuration:
    return replace(scenario.configuration, disk_latency_s=device_s)


def _latency(scenario: Scenario) -> Model:
    """Seconds of one request somebody waits for, over the network or to the disk."""
    io = scenario.section("io")
    native = scenario.native or 0.0
    config = scenario.configuration
    if io.get("device", "net") == "net":
        return lambda costs: native + Machine(config).round_trip_s(costs)
    depth = io.get("queue_depth", 1)
    machine = Machine(_with_device(scenario, native or UNKNOWN_DEVICE_S))

    def seconds(costs: Costs) -> float:
        request = machine.disk_request(costs, io.get("request_bytes", 4096), depth)
        return native + request.latency_s

    return seconds


# --- start-up, memory, density ------------------------------------------------------------------
def boot_of(scenario: Scenario) -> startup.Boot:
    """Return the start-up a scenario describes."""
    return _fill(startup.Boot, scenario.section("boot"))


def _boot(scenario: Scenario) -> Model:
    boot, config = boot_of(scenario), scenario.configuration
    return lambda costs: sum(startup.stages(config.profile, boot, costs, config.hardware).values())


def footprint_of(scenario: Scenario) -> memory.Footprint:
    """Return the footprint a scenario describes."""
    section = scenario.section("memory")
    section.pop("definition", None)
    size = scenario.configuration.memory_bytes
    return _fill(memory.Footprint, {**section, "memory_bytes": size})


def _memory(scenario: Scenario) -> Model:
    foot = footprint_of(scenario)
    definition = scenario.section("memory").get("definition", "host")
    found = scenario.configuration.profile
    return lambda costs: memory.memory_bytes(found, foot, definition, costs)


def _density(scenario: Scenario) -> Model:
    section = scenario.section("density")
    if not section:
        raise scenario.wants("density")
    foot = footprint_of(scenario)
    host = memory.Host(
        memory_bytes=section["host_memory_bytes"],
        cores=section.get("cores", 0),
        cpu_per_guest=section.get("cpu_per_guest", 0.0),
        reserved=section.get("reserved", False),
    )
    return lambda costs: memory.density(scenario.configuration.profile, foot, host, costs)


# --- migration, failure, reallocation -----------------------------------------------------------
def migration_of(scenario: Scenario) -> migration.Migration:
    """Return the migration a scenario describes; the workload class supplies what is missing."""
    section = scenario.section("migration")
    if not section:
        raise scenario.wants("migration")
    kind = workloads.workloads()[scenario.document.get("workload", "idle")]
    size = scenario.configuration.memory_bytes
    return migration.Migration(
        memory_bytes=size,
        dirty_rate=section.get("dirty_rate_bytes_per_s", kind["dirty_mb_s"] * 1e6),
        wws_bytes=min(size, section.get("wws_bytes", kind["wws_mb"] * 1e6)),
        link_rate=section["link_bps"] / 8,
        first_rate=section.get("first_rate_bps", 0) / 8,
        rate_step=section.get("rate_step_bps", 0) / 8,
        stop=section.get("stop", scenario.configuration.profile.migration),
        downtime_limit_s=section.get("downtime_limit_s"),
        max_rounds=section.get("max_rounds", migration.MAX_ROUNDS),
    )


def _migrated(pick: Callable[[migration.Migrated], float]) -> Callable[[Scenario], Model]:
    def build(scenario: Scenario) -> Model:
        guest = migration_of(scenario)
        return lambda costs: pick(migration.migrate(guest, costs))

    return build


def _recovery(scenario: Scenario) -> Model:
    section = scenario.section("failure")
    if not section:
        raise scenario.wants("failure")
    boot = _boot(scenario)
    last = section.get("which", "last") == "last"

    def seconds(costs: Costs) -> float:
        failure = migration.Failure(
            guests=section["guests"],
            start_s=section.get("start_s") or boot(costs),
            same_host=section.get("same_host", False),
            detect_s=section.get("detect_s"),
            parallel=section.get("parallel"),
        )
        return migration.recovery_s(failure, costs)[-1 if last else 0]

    return seconds


def _reallocation(scenario: Scenario) -> Model:
    section = scenario.section("reallocation")
    if not section:
        raise scenario.wants("reallocation")
    return lambda costs: migration.reallocation_s(
        costs, memory_bytes=section.get("memory_bytes", 0), vcpus=section.get("vcpus", 0)
    )


def _fill(kind: type[T], section: dict[str, Any]) -> T:
    """Build a dataclass from the keys of a checked section that it knows."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{key: value for key, value in section.items() if key in known})


_MODELS: dict[str, Callable[[Scenario], Model]] = {
    "time": _time,
    "slowdown": _slowdown,
    "throughput": _throughput,
    "iops": _iops,
    "latency": _latency,
    "boot": _boot,
    "memory": _memory,
    "density": _density,
    "downtime": _migrated(lambda done: done.downtime_s),
    "migration_time": _migrated(lambda done: done.total_s),
    "migrated_bytes": _migrated(lambda done: done.sent_bytes),
    "recovery": _recovery,
    "reallocation": _reallocation,
}
