"""The rarely asked for: scheduler, I/O priority, CPU affinity, personality, memory policy.

Not on the hot path: imported when config.json has one of them. Source: runtime-spec config.md
"Linux Process", config-linux.md "Personality" and "Memory policy"; sched_setattr(2), ioprio_set(2).
"""

from __future__ import annotations

from pycontain.errors import InvalidError
from pycontain.syscalls import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import MemoryPolicy, Scheduler
    from pycontain.runtime.draft import Draft

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}
MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
_NODELESS = ("MPOL_DEFAULT", "MPOL_LOCAL")
MODE_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
_LARGEST = 8191


def write(draft: Draft) -> None:
    """Write whichever of them config.json asks for."""
    program, process = draft.program, draft.process
    linux = draft.spec.get("linux", {})
    personality = linux.get("personality")
    if personality:
        program.step("set personality", "linux.personality")
        domain = personality.get("domain", "LINUX")
        program.call("personality", _number(DOMAINS, domain, "linux.personality.domain"))
    policy = linux.get("memoryPolicy")
    if policy:
        program.step("set memory policy", "linux.memoryPolicy")
        _memory_policy(draft, policy)
    scheduler = process.get("scheduler")
    if scheduler:
        program.step("set scheduler", "process.scheduler")
        where = program.block(_sched_attr(scheduler))
        program.call("sched_setattr", 0, where, 0, target=scheduler.get("policy", ""))
    priority = process.get("ioPriority")
    if priority:
        program.step("set I/O priority", "process.ioPriority")
        word = priority.get("class", "")
        number = _number(IO_CLASSES, word, "process.ioPriority.class")
        value = number << 13 | priority.get("priority", 0)
        program.call("ioprio_set", c.IOPRIO_WHO_PROCESS, 0, value, target=word)
    affinity = process.get("execCPUAffinity") or {}
    cpus = affinity.get("final") or affinity.get("initial") or ""
    if cpus:
        program.step("set CPU affinity", "process.execCPUAffinity")
        _set_affinity(draft, cpus)


def initial_affinity(draft: Draft) -> None:
    """Write, for before the cgroup is joined: process.execCPUAffinity.initial."""
    affinity = draft.process.get("execCPUAffinity") or {}
    cpus = affinity.get("initial", "")
    if cpus:
        draft.program.step("set CPU affinity", "process.execCPUAffinity.initial")
        _set_affinity(draft, cpus)


def _set_affinity(draft: Draft, cpus: str) -> None:
    mask = bits(cpus, "process.execCPUAffinity")
    draft.program.call("sched_setaffinity", 0, len(mask), draft.program.block(mask), target=cpus)


def _number(table: dict[str, int], word: str, path: str) -> int:
    if word not in table:
        raise InvalidError(f"{path}: unknown value {word!r}")
    return table[word]


def _sched_attr(scheduler: Scheduler) -> bytes:
    """Return a struct sched_attr of 48 bytes."""
    flags = 0
    for word in scheduler.get("flags") or []:
        flags |= _number(SCHED_FLAGS, word, "process.scheduler.flags")
    policy = _number(POLICIES, scheduler.get("policy", ""), "process.scheduler.policy")
    return (
        (48).to_bytes(4, "little")
        + policy.to_bytes(4, "little")
        + flags.to_bytes(8, "little")
        + scheduler.get("nice", 0).to_bytes(4, "little", signed=True)
        + scheduler.get("priority", 0).to_bytes(4, "little", signed=True)
        + scheduler.get("runtime", 0).to_bytes(8, "little")
        + scheduler.get("deadline", 0).to_bytes(8, "little")
        + scheduler.get("period", 0).to_bytes(8, "little")
    )


def bits(text: str, path: str) -> bytes:
    """Return the bit mask of a list such as `0-3,7`, in whole 8-byte words."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and int(end) <= _LARGEST for end in ends):
            raise InvalidError(f"{path}: {text!r} is no list of numbers")
        for number in range(int(ends[0]), int(ends[1]) + 1):
            mask |= 1 << number
    return mask.to_bytes(max(8, -(-mask.bit_length() // 64) * 8), "little")


def _memory_policy(draft: Draft, policy: MemoryPolicy) -> None:
    mode = _number(MODES, policy.get("mode", ""), "linux.memoryPolicy.mode")
    for word in policy.get("flags") or []:
        mode |= _number(MODE_FLAGS, word, "linux.memoryPolicy.flags")
    program = draft.program
    nodes = policy.get("nodes", "")
    if not nodes:
        program.call("set_mempolicy", mode, None, 0, target=policy["mode"])
        return
    mask = bits(nodes, "linux.memoryPolicy.nodes: invalid memory policy nodes")
    if policy["mode"] in _NODELESS:
        count = int.from_bytes(mask, "little").bit_count()
        raise InvalidError(
            f"linux.memoryPolicy.nodes: {policy['mode']}: mode requires 0 nodes but got {count}"
        )
    # The kernel takes one bit less than it is told (set_mempolicy(2), BUGS).
    program.call(
        "set_mempolicy", mode, program.block(mask), len(mask) * 8 + 1, target=policy["mode"]
    )
