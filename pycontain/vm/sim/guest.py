"""The guest kernel: which sensitive operations a workload's events become.

Owns the equations of the guest model. It knows no technique; `devices` adds what drivers do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pycontain.vm.sim.exits import Op, Operations

if TYPE_CHECKING:
    from pycontain.vm.sim.constants import Costs
    from pycontain.vm.sim.trace import WorkloadTrace

PAGE = 4096


def operations(trace: WorkloadTrace, costs: Costs, *, fresh_bytes: float = 0.0) -> Operations:
    """Return the operations of a filled trace.

    `fresh_bytes` is guest memory the host has not backed yet: each page of it costs one first
    touch. A root switch refills part of the working set, which only shadow paging notices. A tick
    programs the timer, arrives as an interrupt and ends with an EOI.
    """
    faults = _count(trace.minor_faults) + _count(trace.major_faults)
    ticks = _count(trace.ticks) + _count(trace.timer_programs)
    interrupts = ticks + _count(trace.ipis)
    cr3 = _count(trace.cr3_loads) * (costs["p_mm"] if trace.rung == "rusage" else 1.0)
    return {
        Op.SYSCALL: _count(trace.syscalls),
        Op.FAULT: faults,
        Op.PTE: faults,
        Op.PTE_BATCH: _batched(trace, costs),
        Op.PTE_ZAP: _zapped(trace, costs),
        Op.CR3: cr3,
        Op.REFILL: cr3 * costs["n_refill"],
        Op.SHOOTDOWN: _count(trace.shootdowns),
        Op.FIRST_TOUCH: fresh_bytes / PAGE,
        Op.TIMER: ticks,
        Op.INTERRUPT: interrupts,
        Op.EOI: interrupts,
        Op.IPI: _count(trace.ipis),
        Op.MSR: _count(trace.msr_accesses),
        Op.CPUID: _count(trace.cpuids),
        Op.HALT: _count(trace.halts),
    }


def _batched(trace: WorkloadTrace, costs: Costs) -> float:
    """Return page-table entries written in batches: fork copies, exec moves, munmap clears."""
    return (
        _count(trace.forks) * costs["p_fork_ptes"]
        + _count(trace.execs) * costs["p_exec_ptes"]
        + _count(trace.unmaps) * costs["p_map_ptes"]
    )


def _zapped(trace: WorkloadTrace, costs: Costs) -> float:
    """Return entries cleared with their address space: exec drops one, exit another."""
    return (_count(trace.execs) + _count(trace.exits)) * costs["p_exit_ptes"]


def fresh_bytes(trace: WorkloadTrace, memory_bytes: float) -> float:
    """Return the memory a run in a just booted guest touches for the first time."""
    allocated = _count(trace.page_allocs) * PAGE
    touched = _count(trace.max_rss_bytes) + _count(trace.page_cache_bytes)
    return min(memory_bytes, touched if touched else allocated)


def _count(value: float | None) -> float:
    return float(value or 0)
