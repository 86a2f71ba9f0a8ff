"""The workload trace: what a program did on the host, as times and event counts.

Owns the one value handed from measuring (bench) or from a scenario file to the simulator. It
leaves counting to `bench.counting` and every interpretation to `vm.sim.guest`.

Times come from an untraced pass, counts from another one (a counted pass is slower). A count the
rung could not see is None, never 0: `filled` then estimates it and says which ones it estimated.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from pycontain.errors import InvalidError

RUNGS = ("tracepoints", "strace", "rusage", "scenario")
CLASS_TAGS = (
    "integer",
    "float",
    "copy",
    "memory",
    "random-access",
    "syscall",
    "process",
    "fault",
    "switch",
    "file",
    "network",
    "idle",
)
TICKS_PER_SECOND = 250
LIMIT = 1e18
"""More than any count or time can be; infinity and NaN fail the comparison too."""

_WORDS = ("class_tags", "rung", "name")


@dataclass(frozen=True, kw_only=True)
class WorkloadTrace:
    """One run of a workload on the host.

    Times are seconds, sizes bytes, the rest counts over the whole run and process tree.
    `t_user_s` + `t_sys_s` may exceed `wall_s` when the workload is parallel. `cr3_loads` are
    address-space switches (tracepoint tlb:tlb_flush, reason "task switch"), `shootdowns` remote
    TLB flushes. `class_tags` (of CLASS_TAGS, most important first) choose how emulation and
    two-dimensional page walks stretch user time. `concurrency` is how many requests or threads
    are in flight; `queue_depth` the same for the disk. `rung` is one of RUNGS.
    """

    t_user_s: float
    t_sys_s: float
    wall_s: float
    syscalls: float | None = None
    minor_faults: float | None = None
    major_faults: float | None = None
    ctx_switches: float | None = None
    forks: float | None = None
    execs: float | None = None
    exits: float | None = None
    cr3_loads: float | None = None
    shootdowns: float | None = None
    ticks: float | None = None
    timer_programs: float | None = None
    ipis: float | None = None
    msr_accesses: float | None = None
    cpuids: float | None = None
    page_allocs: float | None = None
    unmaps: float | None = None
    halts: float | None = None
    disk_reads: float | None = None
    disk_read_bytes: float | None = None
    disk_writes: float | None = None
    disk_write_bytes: float | None = None
    disk_flushes: float | None = None
    net_tx_packets: float | None = None
    net_tx_bytes: float | None = None
    net_rx_packets: float | None = None
    net_rx_bytes: float | None = None
    max_rss_bytes: float | None = None
    page_cache_bytes: float | None = None
    concurrency: int = 1
    queue_depth: int = 1
    class_tags: tuple[str, ...] = ()
    rung: str = "scenario"
    name: str = ""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _WORDS or (value is None and field.name in COUNTS):
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not 0 <= value < LIMIT:
                raise InvalidError(f"workload trace: {field.name} is {value}, not a count or time")
        for tag in self.class_tags:
            if tag not in CLASS_TAGS:
                raise InvalidError(f"workload trace: unknown class tag {tag}")
        if self.rung not in RUNGS:
            raise InvalidError(f"workload trace: unknown rung {self.rung}")
        if self.concurrency < 1 or self.queue_depth < 1:
            raise InvalidError("workload trace: concurrency and queue_depth start at 1")

    @property
    def cpu_s(self) -> float:
        """User and system seconds together."""
        return self.t_user_s + self.t_sys_s

    def to_json(self) -> dict[str, Any]:
        """Return the trace as JSON-ready values; `from_json` reads it back."""
        return {**asdict(self), "class_tags": list(self.class_tags)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> WorkloadTrace:
        """Read what `to_json` wrote; an unknown key or a wrong type is InvalidError."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InvalidError(f"workload trace: unknown key {unknown[0]}")
        arguments = {**values, "class_tags": tuple(values.get("class_tags", ()))}
        try:
            return cls(**arguments)
        except TypeError as error:
            raise InvalidError(f"workload trace: {error}") from error


def filled(trace: WorkloadTrace) -> tuple[WorkloadTrace, tuple[str, ...]]:
    """Return the trace with every None estimated, and the names of the estimated counts."""
    guesses = _guesses(trace)
    missing = tuple(name for name in guesses if getattr(trace, name) is None)
    return WorkloadTrace(**{**asdict(trace), **{name: guesses[name] for name in missing}}), missing


def scaled(trace: WorkloadTrace, names: tuple[str, ...], factor: float) -> WorkloadTrace:
    """Return a filled trace with the named counts multiplied by `factor`."""
    values = vars(trace)
    return WorkloadTrace(**{**values, **{name: values[name] * factor for name in names}})


def _guesses(trace: WorkloadTrace) -> dict[str, float]:
    """Estimate each count from the others, zero where none helps.

    A scenario names the counts that matter, so there the rest is zero and not guessed from time.
    """
    switches = trace.ctx_switches or 0
    forks = trace.forks or 0
    faults = trace.minor_faults or 0
    guesses: dict[str, float] = dict.fromkeys(COUNTS, 0)
    guesses["cr3_loads"] = switches
    guesses["ticks"] = round(TICKS_PER_SECOND * trace.cpu_s)
    guesses["exits"] = forks
    guesses["page_allocs"] = faults
    if trace.rung == "scenario":
        return guesses
    guesses["halts"] = round(switches / 2) if trace.wall_s > trace.cpu_s else 0
    # An average kernel entry of 1 µs bounds what a run could have done in its system time.
    guesses["syscalls"] = round(trace.t_sys_s * 1e6)
    return guesses


COUNTS = tuple(field.name for field in fields(WorkloadTrace) if field.type == "float | None")
"""The fields that count events."""
