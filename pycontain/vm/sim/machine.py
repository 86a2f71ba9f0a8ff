"""The simulated machine: configuration, its parts, one run.

Owns the loop that takes every event of the machine's parts, prices it, and counts it; nothing is
counted elsewhere. Costs of the transition come from the hardware class, costs of the handling
from the rules in `components`, time on the I/O path from `devices`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pycontain.vm.sim import devices, guest
from pycontain.vm.sim.components import Component, Rule, components
from pycontain.vm.sim.exits import (
    Assist,
    Callout,
    Event,
    Hypercall,
    Op,
    Operations,
    VmExit,
    merged,
)
from pycontain.vm.sim.trace import WorkloadTrace, scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.vm.sim.constants import Costs
    from pycontain.vm.sim.hardware import Hardware
    from pycontain.vm.sim.profiles import Profile


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """What is simulated: profile, technique, paths, hardware and guest size.

    `hot` prices events as a loop of nothing else sees them: caches warm, no pollution. `nested`
    puts the whole hypervisor into a guest of another one. `fresh` says the guest's memory is not
    backed by the host yet. `loopback`: the native run went through no network adapter.
    `disk_latency_s` are native seconds one disk request takes.
    """

    profile: Profile
    technique: str
    hardware: Hardware
    net_path: str
    disk_path: str
    memory_bytes: float = 512 * 2**20
    vcpus: int = 1
    drivers: str | None = None
    nested: bool = False
    hot: bool = False
    fresh: bool = False
    shared_cpu: bool = False
    loopback: bool = False
    disk_latency_s: float = 100e-6

    def driver(self, kind: str) -> str:
        """Return the drivers used for "net" or "disk"."""
        path = self.net_path if kind == "net" else self.disk_path
        return devices.drivers_of(self.technique, path, self.drivers)


@dataclass(kw_only=True)
class Entry:
    """One line of the ledger: how often, and what it cost in cycles and in waiting seconds."""

    kind: str
    part: str
    reason: str
    op: Op
    count: float = 0.0
    exit_cycles: float = 0.0
    work_cycles: float = 0.0
    wait_s: float = 0.0

    @property
    def cycles(self) -> float:
        """All cycles of this line."""
        return self.exit_cycles + self.work_cycles


@dataclass(kw_only=True)
class Run:
    """What one run of the machine cost.

    `wall_s` is the elapsed time, `cpu_s` guest and hypervisor CPU on the vCPUs, `native_s` the
    elapsed time on the host, `dilation_s` what translated addresses or code add, `event_s` the
    events of the ledger, `touch_s` the part of the elapsed time that backs memory first touched,
    `io_s` added waiting for devices, `backend_s` work on other CPUs.
    """

    native_s: float
    wall_s: float
    cpu_s: float
    dilation_s: float
    event_s: float
    touch_s: float
    io_s: float
    backend_s: float
    ledger: list[Entry] = field(default_factory=list)


class Machine:
    """A configured virtual machine; `run` feeds it a filled trace."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.parts: tuple[Component, ...] = components(
            configuration.technique, configuration.profile.type, configuration.hardware
        )

    def run(
        self,
        trace: WorkloadTrace,
        costs: Costs,
        extra: Operations | None = None,
        estimated: tuple[str, ...] = (),
    ) -> Run:
        """Run a filled trace, and `extra` operations besides, with one assignment of costs.

        The counts named in `estimated` were not measured and carry an error of their own.
        """
        config = self.configuration
        if estimated:
            trace = scaled(trace, estimated, costs["e_counts"])
        fresh = guest.fresh_bytes(trace, config.memory_bytes) if config.fresh else 0.0
        io_operations, backend_s, io_s, stack_s = self._io(trace, costs)
        wanted = merged(
            guest.operations(trace, costs, fresh_bytes=fresh), io_operations, extra or {}
        )
        ledger = self.handle(wanted, costs)
        event_s = config.hardware.seconds(sum(entry.cycles for entry in ledger))
        wait_s = sum(entry.wait_s for entry in ledger) / trace.concurrency
        user_s, system_s = self._dilated(trace, costs)
        dilated_s = user_s + system_s + stack_s
        return self._elapsed(trace, dilated_s, event_s, io_s + wait_s, backend_s, ledger)

    def handle(self, operations: Operations, costs: Costs) -> list[Entry]:
        """Price and count every event the operations cause: the one place where counting is."""
        ledger = []
        for part, event in self._events(operations):
            rule = part.rules[event.op]
            match event:
                case VmExit(reason=reason):
                    entry = Entry(kind="vm_exit", part=part.name, reason=reason, op=event.op)
                case Hypercall(name=name):
                    entry = Entry(kind="hypercall", part=part.name, reason=name, op=event.op)
                case Callout(name=name):
                    entry = Entry(kind="callout", part=part.name, reason=name, op=event.op)
                case Assist(name=name):
                    entry = Entry(kind="assist", part=part.name, reason=name, op=event.op)
            entry.count = event.count * (costs[rule.share_constant] if rule.share_constant else 1)
            self._price(entry, rule, costs)
            ledger.append(entry)
        return ledger

    def _events(self, operations: Operations) -> Iterator[tuple[Component, Event]]:
        for part in self.parts:
            for event in part.events(operations):
                yield part, event

    def _price(self, entry: Entry, rule: Rule, costs: Costs) -> None:
        if rule.exits:
            entry.exit_cycles = entry.count * rule.exits * self.transition_cycles(costs)
        # The way to a userspace VMM loads and stores VMCS and MSRs: a nested one traps on each.
        nested = costs["nu"] if self.configuration.nested and "c_usr" in rule.work else 1.0
        work = sum(
            factor * costs[name] * (nested if name == "c_usr" else 1.0)
            for name, factor in rule.work.items()
        )
        entry.work_cycles = entry.count * work
        entry.wait_s = entry.count * costs[rule.wait] if rule.wait else 0.0

    def transition_cycles(self, costs: Costs) -> float:
        """Return the cycles of one exit and entry, with pollution, mitigations and nesting."""
        config = self.configuration
        cycles = costs["c_exit"]
        if not config.hot:
            cycles += costs["c_poll"]
        if config.hardware.has("mitigations"):
            cycles += costs["c_mit"]
        return cycles * (costs["nu"] if config.nested else 1.0)

    def _io(self, trace: WorkloadTrace, costs: Costs) -> tuple[Operations, float, float, float]:
        """Return the operations of all device requests, back-end, waiting and stack seconds."""
        disk, disk_backend_s, disk_wait_s = self._disk_io(trace, costs)
        net, net_backend_s, net_wait_s, stack_s = self._net_io(trace, costs)
        wait_s = disk_wait_s + net_wait_s
        return merged(disk, net), disk_backend_s + net_backend_s, wait_s, stack_s

    def _disk_io(self, trace: WorkloadTrace, costs: Costs) -> tuple[Operations, float, float]:
        count = (trace.disk_reads or 0) + (trace.disk_writes or 0)
        flushes = trace.disk_flushes or 0
        if not count + flushes:
            return {}, 0.0, 0.0
        total = (trace.disk_read_bytes or 0) + (trace.disk_write_bytes or 0)
        request = self.disk_request(costs, total / count if count else 4096, trace.queue_depth)
        waited = (trace.disk_reads or 0) + flushes
        requests = count + flushes
        return (
            {op: requests * each for op, each in request.operations.items()},
            requests * request.backend_s,
            waited * request.latency_s / max(trace.queue_depth, trace.concurrency),
        )

    def disk_request(self, costs: Costs, size: float, depth: float) -> devices.Request:
        """Return the virtual part of one disk request."""
        config = self.configuration
        found = devices.disk_request(
            config.profile,
            config.disk_path,
            config.driver("disk"),
            costs,
            config.hardware,
            size=size,
            device_s=config.disk_latency_s,
            depth=depth,
        )
        return replace(found, latency_s=found.latency_s + self.nested_wait_s(costs))

    def round_trip_s(self, costs: Costs) -> float:
        """Return the seconds one request-response over the network gains."""
        path_s = devices.round_trip_s(self.configuration.net_path, costs)
        return path_s + self.nested_wait_s(costs)

    def nested_wait_s(self, costs: Costs) -> float:
        """Return what nesting adds to a waited-for request: the exits on its way, multiplied.

        A single hypervisor's exits are in the published latencies of its path already.
        """
        config = self.configuration
        if not config.nested or config.technique not in HARDWARE_TECHNIQUES:
            return 0.0
        more = self.transition_cycles(costs) * (1 - 1 / costs["nu"])
        return config.hardware.seconds(costs["n_wait_exits"] * more)

    def segment(
        self, costs: Costs, size: float, *, transmit: bool, depth: float = devices.BATCH
    ) -> devices.Request:
        """Return the virtual part of one network segment."""
        config = self.configuration
        return devices.segment(
            config.profile,
            config.net_path,
            config.driver("net"),
            costs,
            config.hardware,
            size=size,
            transmit=transmit,
            depth=depth,
            loopback=config.loopback,
        )

    def _net_io(self, trace: WorkloadTrace, costs: Costs) -> tuple[Operations, float, float, float]:
        sent, received = trace.net_tx_packets or 0, trace.net_rx_packets or 0
        if not sent + received:
            return {}, 0.0, 0.0, 0.0
        depth = float(trace.concurrency)
        out = self.segment(
            costs, (trace.net_tx_bytes or 0) / max(sent, 1), transmit=True, depth=depth
        )
        back = self.segment(
            costs, (trace.net_rx_bytes or 0) / max(received, 1), transmit=False, depth=depth
        )
        # Somebody slept for a packet only when the vCPU halted: those are the round trips.
        trips = min(received, trace.halts or 0)
        # The wakes of the vCPU and of the back-end are in the round trip already.
        wake_s = 0.0
        if self.parts:
            wake_s += costs["t_halt"]
        if self.configuration.technique in HARDWARE_TECHNIQUES:
            kicks = out.operations.get(Op.KICK, 0.0)
            wake_s += self.configuration.hardware.seconds(kicks * costs["c_wake"])
        path_s = max(0.0, self.round_trip_s(costs) - wake_s)
        return (
            merged(
                {op: sent * each for op, each in out.operations.items()},
                {op: received * each for op, each in back.operations.items()},
            ),
            sent * out.backend_s + received * back.backend_s,
            trips * path_s / trace.concurrency,
            self.configuration.hardware.seconds(
                sent * out.guest_cycles + received * back.guest_cycles
            ),
        )

    def _dilated(self, trace: WorkloadTrace, costs: Costs) -> tuple[float, float]:
        """Return user and system seconds as this technique stretches them."""
        match self.configuration.technique:
            case "TCG":
                kernel = "x_tcg_switch" if "switch" in trace.class_tags else "x_tcg_kernel"
                return trace.t_user_s * self._tcg_user(trace, costs), trace.t_sys_s * costs[kernel]
            case "BT":
                return trace.t_user_s * costs["s_bt_user"], trace.t_sys_s * costs["s_bt_kernel"]
            case "HV2" | "HYB" if self.configuration.hardware.has("ept"):
                stretch = 1 + costs[walk_share(trace)] * (costs["kappa"] - 1)
                return trace.t_user_s * stretch, trace.t_sys_s * stretch
            case _:
                return trace.t_user_s, trace.t_sys_s

    def _tcg_user(self, trace: WorkloadTrace, costs: Costs) -> float:
        for tag in trace.class_tags:
            if tag in TCG_FACTORS:
                return costs[TCG_FACTORS[tag]]
        return costs["x_tcg_mixed"]

    def _elapsed(
        self,
        trace: WorkloadTrace,
        dilated_s: float,
        event_s: float,
        io_s: float,
        backend_s: float,
        ledger: list[Entry],
    ) -> Run:
        """Spread CPU time over the vCPUs and add the waiting that was there natively."""
        native_s = max(trace.wall_s, trace.cpu_s if trace.wall_s == 0 else 0.0)
        threads = max(1.0, trace.cpu_s / native_s) if native_s else 1.0
        idle_s = max(0.0, native_s - trace.cpu_s / threads)
        width = min(threads, self.configuration.vcpus) if native_s else 1.0
        cpu_s = dilated_s + event_s
        shared_s = backend_s if self.configuration.shared_cpu else 0.0
        touches = sum(entry.cycles for entry in ledger if entry.op is Op.FIRST_TOUCH)
        return Run(
            native_s=native_s,
            wall_s=(cpu_s + shared_s) / width + idle_s + io_s,
            cpu_s=cpu_s,
            dilation_s=dilated_s - trace.cpu_s,
            event_s=event_s,
            touch_s=self.configuration.hardware.seconds(touches) / width,
            io_s=io_s,
            backend_s=backend_s,
            ledger=ledger,
        )


HARDWARE_TECHNIQUES = ("HV1", "HV2", "HYB")
TCG_FACTORS = {
    "integer": "x_tcg_integer",
    "float": "x_tcg_float",
    "copy": "x_tcg_copy",
    "random-access": "x_tcg_random",
}


def walk_share(trace: WorkloadTrace) -> str:
    """Return the constant that holds the workload's share of time in TLB walks."""
    if "random-access" in trace.class_tags:
        return "phi_random"
    return "phi_memory" if "memory" in trace.class_tags else "phi_light"
