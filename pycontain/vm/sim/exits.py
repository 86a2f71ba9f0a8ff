"""What a guest asks of its hypervisor, as values: operations, VM exits, hypercalls, callouts.

Owns the vocabulary only. `guest` and `devices` say how many operations a workload causes,
`components` turn them into events, `machine` prices and counts the events.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Op(StrEnum):
    """A sensitive operation of the guest, before any technique has seen it."""

    SYSCALL = "syscall"
    FAULT = "fault"
    EXCEPTION = "exception"
    IRET = "iret"
    PTE = "pte"
    PTE_BATCH = "pte_batch"
    PTE_ZAP = "pte_zap"
    CR3 = "cr3"
    REFILL = "refill"
    INVLPG = "invlpg"
    SHOOTDOWN = "shootdown"
    FIRST_TOUCH = "first_touch"
    TIMER = "timer"
    INTERRUPT = "interrupt"
    EOI = "eoi"
    IPI = "ipi"
    MSR = "msr"
    CPUID = "cpuid"
    HALT = "halt"
    HYPERCALL = "hypercall"
    VM_EXIT = "vm_exit"
    IRQCHIP = "irqchip"
    PORT = "port"
    PIO_KERNEL = "pio_kernel"
    PIO_USER = "pio_user"
    MMIO_KERNEL = "mmio_kernel"
    MMIO_USER = "mmio_user"
    KICK = "kick"
    IO_OUT = "io_out"
    IO_IN = "io_in"
    VM_SWITCH = "vm_switch"
    WORLD_SWITCH = "world_switch"
    PORT_VMM = "port_vmm"
    PORT_ADDRESS = "port_address"
    HOST_SEND = "host_send"


class ExitReason(StrEnum):
    """Why the processor left the guest, in the words of `perf kvm stat`."""

    EXTERNAL_INTERRUPT = "EXTERNAL_INTERRUPT"
    EXCEPTION_NMI = "EXCEPTION_NMI"
    CPUID = "CPUID"
    HLT = "HLT"
    INVLPG = "INVLPG"
    VMCALL = "VMCALL"
    CR_ACCESS = "CR_ACCESS"
    IO_INSTRUCTION = "IO_INSTRUCTION"
    MSR_READ = "MSR_READ"
    MSR_WRITE = "MSR_WRITE"
    EPT_VIOLATION = "EPT_VIOLATION"
    EPT_MISCONFIG = "EPT_MISCONFIG"
    APIC_WRITE = "APIC_WRITE"
    EOI_INDUCED = "EOI_INDUCED"
    PREEMPTION_TIMER = "PREEMPTION_TIMER"
    PAUSE_INSTRUCTION = "PAUSE_INSTRUCTION"


@dataclass(frozen=True, kw_only=True, slots=True)
class VmExit:
    """`count` exits of one reason from hardware guest mode, caused by `op`."""

    reason: ExitReason
    op: Op
    count: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Hypercall:
    """`count` calls of a paravirtual guest into its hypervisor (or reflections by it)."""

    name: str
    op: Op
    count: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Callout:
    """`count` entries from translated or trapped guest code into a VMM without hardware help."""

    name: str
    op: Op
    count: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Assist:
    """`count` operations the hardware completes inside the guest, at a small cost."""

    name: str
    op: Op
    count: float


Event = VmExit | Hypercall | Callout | Assist
Operations = dict[Op, float]


def merged(*parts: Operations) -> Operations:
    """Return the sum of several operation counts, without the zeros."""
    total: Operations = {}
    for part in parts:
        for op, count in part.items():
            if count:
                total[op] = total.get(op, 0.0) + count
    return total
