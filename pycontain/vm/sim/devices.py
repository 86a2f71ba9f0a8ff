"""Devices and I/O paths: what one disk request or one network segment costs, and where.

Owns the device models (emulated IDE, AHCI and NIC; virtio and split drivers; passthrough) and the
path from the guest to the real device that the hypervisor's type decides. Register accesses and
notifications are operations for `components` to price; the rest is time on a back-end server.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycontain.vm.sim.exits import Op, Operations

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Costs
    from pycontain.vm.sim.hardware import Hardware
    from pycontain.vm.sim.profiles import Profile

BATCH = 16
AHCI_YEAR = 2006


@dataclass(frozen=True, kw_only=True)
class Request:
    """The virtual part of one disk request or network segment.

    `operations` run on the vCPU; `backend_s` is service time of the VMM thread, dom0 or host
    kernel, which bounds the rate; `latency_s` is added to a request somebody waits for, service
    included; `guest_cycles` is work on the workload's own CPU that is no operation.
    """

    operations: Operations = field(default_factory=dict)
    backend_s: float = 0.0
    latency_s: float = 0.0
    guest_cycles: float = 0.0


NO_REQUEST = Request()


def drivers_of(technique: str, path: str, wanted: str | None = None) -> str:
    """Return which drivers the guest uses: "native", "emulated", "pv" or "pt"."""
    if path in ("native", "nat"):
        return "native"
    if path == "pt":
        return "pt"
    if wanted:
        return wanted
    return "pv" if technique in ("PV", "PV32", "HYB") else "emulated"


# --- disk -----------------------------------------------------------------------------------------
DISK_PATHS = {
    "inhyp": ("x_blk_inhyp", "t_svc_inhyp", "b_blk_other"),
    "dom0": ("x_blk_dom0", "t_svc_dom0", "b_blk_other"),
    "hosted": ("x_blk_hosted", "t_svc_hosted", "b_blk_other"),
    "qemu": ("x_blk_qemu", "t_svc_qemu", "b_blk_qemu"),
    "vhost": ("x_blk_vhost", "t_svc_vhost", "b_blk_other"),
}


def disk_request(
    profile: Profile,
    path: str,
    drivers: str,
    costs: Costs,
    hardware: Hardware,
    *,
    size: float,
    device_s: float,
    depth: float,
) -> Request:
    """Return the cost of one request of `size` bytes to a device answering in `device_s` seconds.

    The added latency of a waited-for request grows with the device's own: a longer wait lets the
    host's CPU and the vCPU thread sleep deeper (FC20 reads and writes), up to `t_wake_cap`.
    """
    if drivers == "native":
        return NO_REQUEST
    if drivers == "pt":
        batch = min(depth, BATCH)
        return Request(operations={Op.INTERRUPT: 1 / batch, Op.EOI: 1 / batch})
    latency, service, byte = _disk_constants(profile, path)
    wait = max(costs["t_blk_min"], costs[latency] * min(device_s, costs["t_wake_cap"]))
    added = wait + size_beyond_page(size) * costs[byte]
    if path == "dom0":
        added += costs["t_dom0_sched"]
    emulation = costs["t_emul_disk"] if drivers == "emulated" else 0.0
    # Without a service constant the VMM is synchronous: its thread is held for the whole request.
    svc = costs[service] if service else device_s + costs["t_svc_sync"]
    if service == "t_svc_qemu":
        svc += costs["t_note_qemu"] / math.sqrt(max(depth, 1.0))
    return Request(
        operations=_disk_operations(drivers, path, costs, hardware, depth),
        backend_s=svc + emulation + costs["k_blk_overlap"] * size_beyond_page(size) * costs[byte],
        latency_s=added + emulation,
    )


def size_beyond_page(size: float) -> float:
    """Return the bytes beyond the 4 KiB the published latencies already contain."""
    return max(0.0, size - 4096)


def _disk_constants(profile: Profile, path: str) -> tuple[str, str, str]:
    if path == "qemu" and "disk_latency" in profile.userspace:
        own = profile.userspace
        return own["disk_latency"], own.get("disk_service", ""), own["disk_byte"]
    return DISK_PATHS[path]


def _disk_operations(
    drivers: str, path: str, costs: Costs, hardware: Hardware, depth: float
) -> Operations:
    if drivers == "pv":
        batch = min(max(depth, 1.0), BATCH)
        return {Op.KICK: 1 / batch, Op.INTERRUPT: 1 / batch, Op.EOI: 1 / batch}
    old = hardware.year < AHCI_YEAR
    registers = costs["n_ide_regs"] if old else costs["n_ahci_regs"]
    access = Op.PIO_USER if old else Op.MMIO_USER
    if path == "inhyp":
        access = Op.PIO_KERNEL if old else Op.MMIO_KERNEL
    if path == "hosted":
        # The VMM keeps most of the register file; starting a command needs the VMApp.
        return {Op.PORT_VMM: registers - 1, Op.WORLD_SWITCH: 1.0, Op.INTERRUPT: 1, Op.EOI: 1}
    return {access: registers, Op.INTERRUPT: 1.0, Op.EOI: 1.0}


# --- network --------------------------------------------------------------------------------------
ROUND_TRIP = {
    "native": "",
    "nat": "t_rr_nat",
    "inhyp": "t_rr_inhyp",
    "dom0": "t_rr_dom0",
    "hosted": "t_rr_hosted",
    "qemu": "t_rr_qemu",
    "vhost": "t_rr_vhost",
    "pt": "t_rr_pt",
}


def round_trip_s(path: str, costs: Costs) -> float:
    """Return the seconds a path adds to one request-response with an idle vCPU."""
    name = ROUND_TRIP[path]
    return costs[name] if name else 0.0


def segment(
    profile: Profile,
    path: str,
    drivers: str,
    costs: Costs,
    hardware: Hardware,
    *,
    size: float,
    transmit: bool,
    depth: float = BATCH,
    loopback: bool = False,
) -> Request:
    """Return the cost of one segment (or small packet) of `size` bytes, sent or received.

    `loopback` says that the native run went through no adapter, so that the guest's comes on top.
    """
    if path == "nat":
        return Request(guest_cycles=costs["c_nat_pkt"])
    if drivers == "native":
        return NO_REQUEST
    # Packets of independent peers meet in one notification less often than disk requests do.
    batch = min(math.sqrt(max(depth, 1.0)), BATCH / 2)
    interrupt = {Op.INTERRUPT: 1 / batch, Op.EOI: 1 / batch}
    adapter = costs["c_nic_pkt"] if loopback else 0.0
    if drivers == "pt":
        return Request(operations=interrupt, guest_cycles=adapter)
    backend = _net_backend_s(profile, path, costs, hardware, size)
    if path == "hosted" and drivers == "emulated" and hardware.year < AHCI_YEAR:
        backend = 0.0  # the host's part runs on the same CPU: Op.HOST_SEND
    latency = round_trip_s(path, costs) / 2
    if drivers == "pv":
        operations = {Op.KICK: 1 / batch, **interrupt}
    else:
        operations = _nic_operations(path, costs, hardware, transmit)
    return Request(
        operations=operations, backend_s=backend, latency_s=latency, guest_cycles=adapter
    )


def _net_backend_s(
    profile: Profile, path: str, costs: Costs, hardware: Hardware, size: float
) -> float:
    match path:
        case "dom0":
            cycles = costs["c_grant_pkt"] + costs["c_grant_byte"] * size
        case "vhost":
            cycles = costs["c_vhost_pkt"] + costs["c_vhost_byte"] * size
        case "inhyp":
            cycles = costs["c_ring_pkt"] + costs["c_grant_byte"] * size / 3
        case "qemu":
            byte_s = costs[profile.userspace.get("net_byte", "b_net_qemu")]
            packet = costs[profile.userspace.get("net_packet", "c_qemu_net_pkt")]
            return hardware.seconds(packet) + byte_s * size
        case _:
            cycles = costs["c_hosted_send"] + costs["c_hosted_byte"] * size
    return hardware.seconds(cycles)


def _nic_operations(path: str, costs: Costs, hardware: Hardware, transmit: bool) -> Operations:
    if path == "hosted" and hardware.year < AHCI_YEAR:
        return _lance(costs, transmit)
    registers = costs["n_nic_tx_regs"] if transmit else 0.5
    access = Op.MMIO_KERNEL if path == "inhyp" else Op.MMIO_USER
    if hardware.year < AHCI_YEAR:
        access = Op.PIO_KERNEL if path == "inhyp" else Op.PIO_USER
    if path == "hosted":
        access = Op.WORLD_SWITCH
    # Interrupt registers are shared by the packets of one coalesced interrupt.
    coalesced = 1 / 4
    return {
        access: registers + costs["n_nic_irq_regs"] * coalesced,
        Op.INTERRUPT: coalesced,
        Op.EOI: coalesced,
    }


def _lance(costs: Costs, transmit: bool) -> Operations:
    """Return the accesses of one packet of an emulated Lance under a hosted VMM (SUG01 table 1)."""
    scale = costs["k_hosted_tx"] if transmit else costs["k_hosted_rx"]
    return {
        Op.WORLD_SWITCH: scale * costs["n_lance_ws"],
        Op.PORT_VMM: scale * costs["n_lance_vmm"],
        Op.PORT_ADDRESS: scale * costs["n_lance_addr"],
        Op.IRET: scale * 1.7,
        Op.HOST_SEND: scale,
    }
