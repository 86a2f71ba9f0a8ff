"""The parts of a virtual machine that produce exits, from the vCPU to the device ports.

Owns, for each technique, which operations leave the guest, under which name, and what they cost
beyond the transition: the table of vm-costs (3.3) as data. `machine` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycontain.vm.sim.exits import (
    Assist,
    Callout,
    Event,
    ExitReason,
    Hypercall,
    Op,
    Operations,
    VmExit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pycontain.vm.sim.hardware import Hardware


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How one operation is handled.

    `kind` is the event's type, `reason` its name; `exits` world transitions happen per operation,
    then `work` (constant name -> factor, cycles) is done; `wait` names a constant in seconds that
    passes without using the CPU. `share` scales the whole (batched or skipped operations) and
    `share_constant` names a ratio that does so too.
    """

    kind: type[VmExit] | type[Hypercall] | type[Callout] | type[Assist]
    reason: str
    exits: float = 0.0
    work: Mapping[str, float] = field(default_factory=dict)
    wait: str = ""
    share: float = 1.0
    share_constant: str = ""


Rules = dict[Op, Rule]


@dataclass(frozen=True)
class Component:
    """One part of the machine and its rules."""

    name: str
    rules: Rules

    def events(self, operations: Operations) -> Iterator[Event]:
        """Yield the events the operations cause in this part; the others pass untouched."""
        for op, rule in self.rules.items():
            count = operations.get(op, 0.0) * rule.share
            if not count:
                continue
            if rule.kind is VmExit:
                yield VmExit(reason=ExitReason(rule.reason), op=op, count=count)
            elif rule.kind is Hypercall:
                yield Hypercall(name=rule.reason, op=op, count=count)
            elif rule.kind is Callout:
                yield Callout(name=rule.reason, op=op, count=count)
            else:
                yield Assist(name=rule.reason, op=op, count=count)


def _exit(reason: ExitReason, work: Mapping[str, float] = {}, **rest: object) -> Rule:
    return Rule(kind=VmExit, reason=reason, work=work, **{"exits": 1.0, **rest})  # type: ignore[arg-type]


def _hypercall(name: str, *names: str) -> Rule:
    return Rule(kind=Hypercall, reason=name, work=dict.fromkeys(names, 1.0))


def _callout(name: str, **work: float) -> Rule:
    return Rule(kind=Callout, reason=name, work=work)


def _assist(name: str, **work: float) -> Rule:
    return Rule(kind=Assist, reason=name, work=work)


R = ExitReason

# --- the vCPU ---------------------------------------------------------------------------------
HARDWARE_CPU: Rules = {
    Op.CPUID: _exit(R.CPUID),
    Op.MSR: _exit(R.MSR_WRITE),
    Op.HYPERCALL: _exit(R.VMCALL),
    # The bare hardware round trip, as processor comparisons publish it: no handler at all.
    Op.VM_EXIT: Rule(kind=VmExit, reason=R.VMCALL, work={"c_hw_exit": 1.0}),
    Op.HALT: _exit(R.HLT, wait="t_halt"),
}
TRAP_CPU: Rules = {
    **HARDWARE_CPU,
    Op.SYSCALL: _exit(R.EXCEPTION_NMI, exits=2.0),
    Op.EXCEPTION: _exit(R.EXCEPTION_NMI, {"c_inject": 1.0}),
    Op.IRET: _exit(R.EXCEPTION_NMI),
}


def pv_cpu(call: str, bounce: str) -> Rules:
    """Return the vCPU of a PV guest: `call` prices a hypercall, `bounce` a guest syscall."""
    return {
        Op.SYSCALL: _hypercall("syscall bounce", bounce),
        Op.EXCEPTION: _hypercall("exception reflection", "c_pvpf"),
        Op.IRET: _hypercall("iret", call),
        Op.CPUID: _hypercall("emulated cpuid", call),
        Op.MSR: _hypercall("platform_op", call),
        Op.HYPERCALL: _hypercall("hypercall", call),
        Op.HALT: Rule(kind=Hypercall, reason="sched_op block", work={call: 1.0}, wait="t_halt"),
    }


TRANSLATED_CPU: Rules = {
    Op.SYSCALL: _callout("translated syscall", c_bt_sys=1.0),
    Op.EXCEPTION: _callout("exception", c_bt_exc=1.0),
    Op.IRET: _callout("iret", c_bt_iret=1.0),
    Op.CPUID: _callout("cpuid", c_bt_msr=1.0),
    Op.MSR: _callout("msr", c_bt_msr=1.0),
    Op.HYPERCALL: _callout("backdoor port", c_bt_port=1.0),
    Op.HALT: Rule(kind=Callout, reason="hlt", work={"c_bt_sys": 1.0}, wait="t_halt"),
}

# --- the MMU ------------------------------------------------------------------------------------
NESTED_MMU: Rules = {
    Op.FIRST_TOUCH: _exit(R.EPT_VIOLATION, {"c_ept": 1.0}),
    Op.SHOOTDOWN: _exit(R.APIC_WRITE, {"c_ipi": 1.0}),
}
SHADOW_MMU: Rules = {
    Op.FAULT: _exit(R.EXCEPTION_NMI, {"c_inject": 1.0}),
    Op.PTE: _exit(R.EXCEPTION_NMI, {"c_sh_pte": 1.0}),
    Op.PTE_BATCH: _exit(R.EXCEPTION_NMI, {"c_sh_pte": 1.0}, share_constant="k_sh_batch"),
    Op.PTE_ZAP: _exit(R.EXCEPTION_NMI, {"c_sh_pte": 1.0}, share_constant="k_sh_batch"),
    Op.CR3: _exit(R.CR_ACCESS, {"c_sh_cr3": 1.0}),
    Op.REFILL: _exit(R.EXCEPTION_NMI, {"c_sh_fault": 1.0}),
    Op.INVLPG: _exit(R.INVLPG, {"c_invlpg": 1.0}),
    Op.SHOOTDOWN: _exit(R.APIC_WRITE, {"c_ipi": 1.0}),
    Op.FIRST_TOUCH: _exit(R.EXCEPTION_NMI, {"c_host_alloc": 1.0}),
}
TRANSLATED_MMU: Rules = {
    Op.FAULT: _callout("page fault", c_bt_pf=1.0),
    Op.PTE: _callout("traced page-table write", c_bt_pte=1.0),
    Op.PTE_BATCH: _callout("traced page-table writes", c_bt_pteb=1.0),
    Op.PTE_ZAP: _callout("traced page-table writes", c_bt_pteb=1.0),
    Op.CR3: _callout("shadow root switch", c_bt_cr3=1.0),
    Op.INVLPG: _callout("invlpg", c_bt_sys=1.0),
    Op.SHOOTDOWN: _callout("shootdown", c_bt_sys=2.0),
    Op.FIRST_TOUCH: _callout("host page", c_host_alloc=1.0),
}


def direct_mmu(call: str) -> Rules:
    """Return the MMU of a PV guest: it runs on its own tables, the hypervisor checks writes."""
    return {
        Op.FAULT: _hypercall("fault reflection", "c_pvpf"),
        Op.PTE: _hypercall("update_va_mapping", "c_pte_pv"),
        Op.PTE_BATCH: _hypercall("mmu_update (multicall)", "c_pteb_pv"),
        Op.PTE_ZAP: Rule(
            kind=Hypercall,
            reason="mmu_update (multicall)",
            work={"c_pteb_pv": 1.0},
            share_constant="k_pv_zap",
        ),
        Op.CR3: _hypercall("mmuext_op new_baseptr", "c_cr3_pv"),
        Op.INVLPG: _hypercall("mmuext_op invlpg", call),
        Op.SHOOTDOWN: _hypercall("mmuext_op tlb_flush_multi", call),
    }


# --- interrupt controller and timer --------------------------------------------------------------
EXITING_APIC: Rules = {
    Op.INTERRUPT: _exit(R.EXTERNAL_INTERRUPT, {"c_inject": 1.0}),
    Op.EOI: _exit(R.EOI_INDUCED, {"c_eoi_exit": 1.0}),
    Op.IPI: _exit(R.APIC_WRITE, {"c_ipi": 1.0}),
    Op.IRQCHIP: _exit(R.EPT_MISCONFIG, {"c_mmio_decode": 1.0}),
}
VIRTUAL_APIC: Rules = {
    **EXITING_APIC,
    Op.INTERRUPT: _assist("posted interrupt", c_posted=1.0),
    Op.EOI: _assist("virtual EOI", c_eoi_virtual=1.0),
}
DOM0_IRQCHIP: Rules = {Op.IRQCHIP: _exit(R.APIC_WRITE, {"c_irqchip_dom0": 1.0})}
PV_EOI_APIC: Rules = {**EXITING_APIC, Op.EOI: _assist("PV EOI", c_eoi_virtual=1.0)}
TRANSLATED_APIC: Rules = {
    Op.INTERRUPT: Rule(kind=Callout, reason="interrupt", work={"c_bt_pf": 0.2}),
    Op.EOI: _callout("eoi", c_bt_eoi=1.0),
    Op.IPI: _callout("ipi", c_bt_sys=2.0),
    Op.IRQCHIP: _callout("irq controller", c_bt_eoi=1.0),
}
EXITING_TIMER: Rules = {Op.TIMER: _exit(R.MSR_WRITE, {"c_timer": 1.0})}
PV_CLOCK_TIMER: Rules = {Op.TIMER: _exit(R.MSR_WRITE, {"c_timer": 1.0}, share=0.5)}
TRANSLATED_TIMER: Rules = {Op.TIMER: _callout("timer", c_bt_sys=1.0)}


def event_channels(call: str) -> Rules:
    """Return the interrupt controller of a PV guest: event channels, masked in shared memory."""
    return {
        Op.INTERRUPT: _hypercall("event upcall", "c_evt_upcall"),
        Op.IPI: _hypercall("event_channel_op send", call, "c_evt_send"),
        Op.IRQCHIP: _hypercall("physdev_op", call),
        Op.TIMER: _hypercall("set_timer_op", call),
    }


# --- device ports ---------------------------------------------------------------------------------
USER = {"c_usr": 1.0, "c_dev": 1.0}
HARDWARE_PORTS: Rules = {
    Op.PORT: _exit(R.IO_INSTRUCTION, {"c_pio_decode": 1.0}),
    Op.PIO_KERNEL: _exit(R.IO_INSTRUCTION, {"c_pio_decode": 1.0}),
    Op.PIO_USER: _exit(R.IO_INSTRUCTION, USER),
    Op.MMIO_KERNEL: _exit(R.EPT_MISCONFIG, {"c_mmio_decode": 1.0}),
    Op.MMIO_USER: _exit(R.EPT_VIOLATION, {**USER, "c_mmio_decode": 1.0}),
    Op.KICK: _exit(R.EPT_MISCONFIG, {"c_kick": 1.0, "c_wake": 1.0}),
    Op.IO_OUT: Rule(kind=VmExit, reason=R.EPT_MISCONFIG, work={"c_kick_out": 1.0}),
    Op.IO_IN: Rule(kind=VmExit, reason=R.EXTERNAL_INTERRUPT, work={"c_kin": 1.0}),
    Op.VM_SWITCH: Rule(kind=VmExit, reason=R.EXTERNAL_INTERRUPT, work={"c_vmsw": 1.0}),
    Op.WORLD_SWITCH: _exit(R.IO_INSTRUCTION, {"c_ws": 1.0}),
    Op.PORT_VMM: _exit(R.IO_INSTRUCTION, {"c_pio_decode": 1.0}),
    Op.PORT_ADDRESS: _exit(R.IO_INSTRUCTION, {"c_pio_decode": 1.0}),
    Op.HOST_SEND: Rule(kind=Callout, reason="host network send", work={"c_hosted_send": 1.0}),
}
DOM0_PORTS: Rules = {
    **HARDWARE_PORTS,
    # The device model is a process of dom0: its CPU has to switch domains first.
    Op.PIO_USER: _exit(R.IO_INSTRUCTION, {"c_vmsw_dom0": 1.0, **USER}),
    Op.MMIO_USER: _exit(R.EPT_VIOLATION, {"c_vmsw_dom0": 1.0, **USER, "c_mmio_decode": 1.0}),
    Op.IO_OUT: Rule(kind=VmExit, reason=R.VMCALL, work={"c_xout": 1.0}),
    Op.IO_IN: Rule(kind=VmExit, reason=R.EXTERNAL_INTERRUPT, work={"c_xin": 1.0}),
    Op.VM_SWITCH: Rule(kind=VmExit, reason=R.EXTERNAL_INTERRUPT, work={"c_vmsw_dom0": 1.0}),
}
TRANSLATED_PORTS: Rules = {
    Op.PORT: _callout("in or out", c_bt_port=1.0),
    Op.PIO_KERNEL: _callout("port in the VMM", c_bt_port=1.0),
    Op.PIO_USER: _callout("world switch", c_ws=1.0),
    Op.MMIO_KERNEL: _callout("MMIO in the VMM", c_bt_pf=1.0),
    Op.MMIO_USER: _callout("world switch", c_ws=1.0),
    Op.KICK: _callout("world switch", c_ws=1.0),
    Op.IO_OUT: _callout("world switch", c_ws=1.0),
    Op.IO_IN: _callout("world switch", c_ws=2.0),
    Op.VM_SWITCH: _callout("world switch", c_ws=2.0),
    Op.WORLD_SWITCH: _callout("world switch", c_ws=1.0),
    Op.PORT_VMM: _callout("port in the VMM", c_vmm_port=1.0),
    Op.PORT_ADDRESS: _callout("address port", c_addr_port=1.0),
    Op.HOST_SEND: _callout("host network send", c_hosted_send=1.0),
}


def pv_ports(call: str) -> Rules:
    """Return the ring notifications of a split driver."""
    ports = ("PORT", "PIO_KERNEL", "PIO_USER", "MMIO_KERNEL", "MMIO_USER")
    return {
        **{Op[name]: _hypercall("emulated port", call) for name in ports},
        Op.KICK: _hypercall("event_channel_op send", call, "c_evt_send"),
        Op.IO_OUT: _hypercall("event channel to dom0", "c_xout"),
        Op.IO_IN: _hypercall("event channel from dom0", "c_xin"),
        Op.VM_SWITCH: _hypercall("domain switch", "c_vmsw_dom0"),
    }


def components(technique: str, type_: str, hardware: Hardware) -> tuple[Component, ...]:
    """Return the parts of a machine of this technique (of profiles.TECHNIQUES) on this hardware."""
    match technique:
        case "OS" | "TCG":
            return ()
        case "PV" | "PV32":
            call, bounce = ("c_hc_pv", "c_sysb") if technique == "PV" else ("c_hc_pv32", "c_sysb32")
            parts = pv_cpu(call, bounce), direct_mmu(call), event_channels(call), pv_ports(call)
            return _named(("vcpu", "mmu", "event channels", "devices"), parts)
        case "BT":
            parts5 = TRANSLATED_CPU, TRANSLATED_MMU, TRANSLATED_APIC, TRANSLATED_TIMER
            return _named(_NAMES, (*parts5, TRANSLATED_PORTS))
        case _:
            return _named(_NAMES, _hardware_parts(technique, type_, hardware))


PV_EOI_YEAR = 2012
"""Linux 3.6 and its KVM: before it, a guest's EOI was an exit."""

_NAMES = ("vcpu", "mmu", "interrupt controller", "timer", "devices")


def _hardware_parts(technique: str, type_: str, hardware: Hardware) -> tuple[Rules, ...]:
    trapping, hybrid = technique == "TE", technique == "HYB"
    nested = technique == "HV2" or (hybrid and hardware.has("ept"))
    pv_eoi = hybrid and hardware.year >= PV_EOI_YEAR
    apic = VIRTUAL_APIC if hardware.has("apicv") else PV_EOI_APIC if pv_eoi else EXITING_APIC
    dom0 = type_ == "1+dom0"
    return (
        TRAP_CPU if trapping else HARDWARE_CPU,
        NESTED_MMU if nested else SHADOW_MMU,
        {**(EXITING_APIC if trapping else apic), **(DOM0_IRQCHIP if dom0 else {})},
        PV_CLOCK_TIMER if hybrid else EXITING_TIMER,
        DOM0_PORTS if dom0 else HARDWARE_PORTS,
    )


def _named(names: tuple[str, ...], parts: tuple[Rules, ...]) -> tuple[Component, ...]:
    return tuple(Component(name, rules) for name, rules in zip(names, parts, strict=True))
