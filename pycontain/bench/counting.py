"""Counting what a workload does to the kernel: the second pass, never the one that is timed.

Owns the ladder of vm-costs 0.1 and which rung this host allows:

    tracepoints   perf events inherited by the whole tree; needs root (or CAP_PERFMON) and tracefs
    strace        system calls only, by a tracer any user may be; 130 times slower, so counts only
    rusage        what wait4 tells anyone: faults, context switches, block operations

The stopwatch (native/bench_launch.c) opens the events; this module says which, and turns counts
into a WorkloadTrace. A count a rung cannot see is None, never 0.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from pycontain.errors import UnsupportedError
from pycontain.vm.sim.trace import WorkloadTrace

if TYPE_CHECKING:
    from collections.abc import Callable

    from pycontain.bench.launch import Launch

TRACEPOINT = 2
SECTOR = 512

TASK_SWITCH_FLUSH = 0
REMOTE_FLUSH = 1

EVENTS: tuple[tuple[str, str, str], ...] = (
    ("syscalls", "raw_syscalls/sys_enter", ""),
    ("forks", "sched/sched_process_fork", ""),
    ("execs", "sched/sched_process_exec", ""),
    ("exits", "sched/sched_process_exit", ""),
    ("cr3_loads", "tlb/tlb_flush", f"reason=={TASK_SWITCH_FLUSH}"),
    ("shootdowns", "tlb/tlb_flush", f"reason=={REMOTE_FLUSH}"),
    ("ticks", "irq_vectors/local_timer_entry", ""),
    ("timer_programs", "timer/hrtimer_start", ""),
    ("ipis", "irq_vectors/reschedule_entry", ""),
    ("msr_accesses", "msr/write_msr", ""),
    ("page_allocs", "kmem/mm_page_alloc", ""),
    ("unmaps", "syscalls/sys_enter_munmap", ""),
    ("disk_reads", "block/block_rq_issue", 'rwbs~"R*"'),
    ("disk_writes", "block/block_rq_issue", 'rwbs~"*W*"'),
    # The kernel flushes from a worker of its own, so the calls that ask for it are counted.
    ("disk_flushes", "syscalls/sys_enter_fdatasync", ""),
    ("disk_flushes", "syscalls/sys_enter_fsync", ""),
    ("net_tx_packets", "net/net_dev_start_xmit", 'name!="lo"'),
    ("net_rx_packets", "net/netif_receive_skb", 'name!="lo"'),
)
"""Field of WorkloadTrace, tracepoint, filter."""

_READ_IDS = """
mount -t tracefs tracefs "$1" 2>/dev/null || exit 1
for name in $2; do printf '%s %s\\n' "$name" "$(cat "$1/events/$name/id" 2>/dev/null)"; done
"""


@cache
def tracepoint_ids() -> dict[str, int]:
    """Return the number of each tracepoint this host has; empty where they cannot be read.

    tracefs is mounted in a mount namespace of a short-lived process, so that this host's mount
    table stays as it is.
    """
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return {}
    names = sorted({name for _, name, _ in EVENTS})
    argv = ["unshare", "-m", "sh", "-c", _READ_IDS, "sh", "/sys/kernel/tracing", " ".join(names)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
    pairs = [line.split(" ", 1) for line in done.stdout.splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def events() -> tuple[tuple[str, str], ...]:
    """Return (field, perf event for the stopwatch) of everything this host can count."""
    ids = tracepoint_ids()
    found = []
    for field, name, condition in EVENTS:
        if name in ids:
            suffix = f":{condition}" if condition else ""
            found.append((field, f"{TRACEPOINT}:{ids[name]}{suffix}"))
    return tuple(found)


def trace_workload(
    run: Callable[[tuple[str, ...]], Launch],
    *,
    name: str,
    class_tags: tuple[str, ...],
    count_syscalls: Callable[[], int | None] = lambda: None,
    repetitions: int = 7,
) -> WorkloadTrace:
    """Run a workload untraced `repetitions` times, then once counted, and return its trace.

    `run(events)` runs it natively, counting the given perf events; where none can be opened,
    `count_syscalls()` may know the system calls. Times are those of the shortest
    untraced run.
    """
    timed = [run(()) for _ in range(repetitions)]
    # What disturbs a run only makes it longer, so the shortest is the one disturbed least.
    shortest = min(timed, key=lambda one: one.wall_s)
    switches = [one.voluntary_switches + one.involuntary_switches for one in timed]
    trace = replace(
        times_of(shortest, name, class_tags),
        minor_faults=min(one.minor_faults for one in timed),
        major_faults=min(one.major_faults for one in timed),
        ctx_switches=min(switches),
    )
    chosen = events()
    if not chosen:
        calls = count_syscalls()
        return trace if calls is None else replace(trace, rung="strace", syscalls=calls)
    counted = run(tuple(event for _, event in chosen))
    return with_counts(trace, [field for field, _ in chosen], counted.events)


def times_of(launch: Launch, name: str, class_tags: tuple[str, ...]) -> WorkloadTrace:
    """Return what an untraced run tells by itself."""
    return WorkloadTrace(
        t_user_s=launch.user_us / 1e6,
        t_sys_s=launch.system_us / 1e6,
        wall_s=launch.wall_s,
        max_rss_bytes=launch.max_rss_kib << 10,
        disk_read_bytes=launch.blocks_in * SECTOR,
        disk_write_bytes=launch.blocks_out * SECTOR,
        class_tags=class_tags,
        rung="rusage",
        name=name,
    )


def with_counts(trace: WorkloadTrace, fields: list[str], counts: tuple[int, ...]) -> WorkloadTrace:
    """Return the trace with the counts of the counted pass; -1 means the event did not open."""
    seen: dict[str, Any] = {}
    for field, count in zip(fields, counts, strict=True):
        if count >= 0:
            seen[field] = seen.get(field, 0) + count
    if "timer_programs" in seen and "ticks" in seen:
        # The periodic tick arms itself again through the same tracepoint.
        seen["timer_programs"] = max(seen["timer_programs"] - seen["ticks"], 0)
    return replace(trace, rung="tracepoints" if seen else "rusage", **seen)


def measure(image: str, argv: list[str], *, data_root: str = "") -> WorkloadTrace:
    """Run `argv` of an image of the store natively and return its trace."""
    from pycontain import paths
    from pycontain.bench.backends.native import Native
    from pycontain.bench.image import from_store
    from pycontain.bench.model import Workload
    from pycontain.bench.place import Place

    found = from_store(image, paths.data_root(data_root))
    native = Native()
    if reason := native.probe():
        raise UnsupportedError(f"cannot measure the workload: {reason}")
    workload = Workload(
        name=argv[0] if argv else image, argv=found.argv(tuple(argv)), cwd=found.cwd
    )
    with Place() as place:
        try:
            native.prepare(found, place)
            return trace_workload(
                lambda events: native.launch(workload, events),
                name=workload.name,
                class_tags=(),
                count_syscalls=lambda: native.count_syscalls(workload),
            )
        finally:
            native.close()
