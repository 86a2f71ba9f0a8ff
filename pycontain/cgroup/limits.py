"""OCI linux.resources as cgroup v2 files: a pure decision.

Owns the names, ranges and conversions of v2 (kernel Documentation/admin-guide/cgroup-v2.rst). The
mapping from OCI fields follows the runtime-spec's config-linux.md. Writing is `manager`'s, device
rules are a BPF program (runtime/device_bpf.py), v1 is `limits_v1`'s.
"""

from __future__ import annotations

from pycontain.errors import InvalidError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    from pycontain.oci.runtime import BlockIO, Cpu, Memory, Resources

    Writes: TypeAlias = "list[tuple[str, str]]"
    Has: TypeAlias = "Callable[[str], bool]"

CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc")
"""Controllers a container's cgroup gets when its parent has them."""

THROTTLES = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def limit_files(resources: Resources, has: Has = lambda name: True, quota: str = "max") -> Writes:
    """Return what to write, in order: (file, value); a file may come more than once.

    `has` says whether a file exists: io.bfq.weight is taken when the BFQ scheduler offers it and
    io.weight when not, and hugetlb reservations are limited where they can be. `quota` is the
    present first word of cpu.max, kept when only the period changes. Raises InvalidError for
    values that contradict each other and UnsupportedError for what v2 does not have.
    """
    writes: Writes = []
    _cpu(resources.get("cpu") or {}, quota, writes)
    _memory(resources.get("memory") or {}, has, writes)
    pids = resources.get("pids") or {}
    if "limit" in pids:
        writes.append(("pids.max", limit(pids["limit"])))
    _io(resources.get("blockIO") or {}, has, writes)
    _hugetlb(resources, has, writes)
    rdma(resources, writes)
    network = resources.get("network") or {}
    if network.get("classID") or network.get("priorities"):
        raise UnsupportedError(
            "linux.resources.network needs the cgroup v1 controllers net_cls and net_prio",
            hint="on cgroup v2 mark traffic with nftables (socket cgroupv2)",
        )
    writes.extend(unified_files(resources))
    return writes


def unified_files(resources: Resources) -> Writes:
    """Return the raw files of linux.resources.unified, names checked."""
    writes = []
    for name, value in (resources.get("unified") or {}).items():
        if not name or "/" in name or "\0" in name or name[0] == "." or "." not in name:
            raise InvalidError(
                f"linux.resources.unified: the specified key has not the form CONTROLLER.VALUE "
                f"`{name}`"
            )
        if name == "cgroup.procs" or name == "cgroup.threads" or name == "cgroup.subtree_control":
            raise InvalidError(f"linux.resources.unified: {name} is not a limit")
        writes.append((name, value))
    return writes


def notes(resources: Resources) -> list[str]:
    """Return in words what is asked for and deliberately not done."""
    memory = resources.get("memory") or {}
    if memory.get("kernel", -1) == -1:
        return []
    return ["memory.kernel is ignored: the kernel dropped separate kernel memory limits in 5.16"]


def limit(value: int) -> str:
    """Return a number as v2 writes it; -1 is no limit, 0 is a limit."""
    return "max" if value < 0 else str(value)


def cpu_weight(shares: int) -> int:
    """Convert cpu.shares 2..262144 to cpu.weight 1..10000, so that 1024 becomes 100.

    The quadratic through minimum, maximum and default that runc (opencontainers/cgroups 0.0.3)
    and crun 1.23 use: 10^((l² + 125 l) / 612 - 7/34) rounded up, l = log2(shares).
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    from math import ceil, log2

    log = log2(shares)
    return ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


def io_weight(weight: int) -> int:
    """Convert blkio weight 10..1000 to io.weight 1..10000 (linear, as runc and crun)."""
    return 1 + (weight - 10) * 9999 // 990


def _cpu(cpu: Cpu, present_quota: str, writes: Writes) -> None:
    if cpu.get("realtimeRuntime") or cpu.get("realtimePeriod"):
        raise UnsupportedError("cpu.realtimeRuntime and realtimePeriod exist on cgroup v1 only")
    shares = cpu.get("shares")
    idle_or_weight(cpu, ("cpu.weight", str(cpu_weight(shares))) if shares else None, writes)
    quota, period = cpu.get("quota"), cpu.get("period") or 0
    if quota is not None or period:
        value = present_quota if quota is None else str(quota) if quota > 0 else "max"
        writes.append(("cpu.max", f"{value} {period}" if period else value))
    if "burst" in cpu:
        writes.append(("cpu.max.burst", str(cpu["burst"])))
    cpuset(cpu, writes)


def idle_or_weight(cpu: Cpu, weight: tuple[str, str] | None, writes: Writes) -> None:
    """Add the files of cpu.idle and the weight: the kernel refuses an idle group any weight."""
    if weight and cpu.get("idle"):
        writes.append(weight)
    if "idle" in cpu:
        writes.append(("cpu.idle", str(cpu["idle"])))
    if weight and not cpu.get("idle"):
        writes.append(weight)


def cpuset(cpu: Cpu, writes: Writes) -> None:
    """Append cpuset.cpus and cpuset.mems, which v1 and v2 share."""
    if cpu.get("cpus"):
        writes.append(("cpuset.cpus", cpu["cpus"]))
    if cpu.get("mems"):
        writes.append(("cpuset.mems", cpu["mems"]))


def _memory(memory: Memory, has: Has, writes: Writes) -> None:
    if memory.get("swappiness") is not None:
        raise UnsupportedError(
            "memory.swappiness exists on cgroup v1 only", hint="set vm.swappiness on the host"
        )
    if memory.get("disableOOMKiller"):
        raise UnsupportedError("memory.disableOOMKiller exists on cgroup v1 only")
    if memory.get("kernelTCP", -1) != -1:
        raise UnsupportedError("memory.kernelTCP exists on cgroup v1 only")
    swap = swap_max(memory)
    # A kernel that does not count swap has no limit to take off.
    if swap and (swap != "max" or has("memory.swap.max")):
        writes.append(("memory.swap.max", swap))
    if "limit" in memory:
        writes.append(("memory.max", limit(memory["limit"])))
    if "reservation" in memory:
        writes.append(("memory.low", limit(memory["reservation"])))


def swap_max(memory: Memory) -> str:
    """Return memory.swap.max, "" when nothing is asked; OCI's swap counts memory plus swap.

    Memory without limit takes the limit of swap off too, as on v1, where it must.
    """
    total, ram = memory.get("swap"), memory.get("limit")
    if total is None:
        return "max" if ram == -1 else ""
    if total < 0 or ram == -1:
        return "max" if total <= 0 else str(total)
    if ram is None:
        raise InvalidError("memory.swap is memory plus swap: it needs memory.limit beside it")
    if total < ram:
        raise InvalidError(f"memory.swap {total} is memory plus swap, and less than limit {ram}")
    return str(total - ram)


def _io(block: BlockIO, has: Has, writes: Writes) -> None:
    if block.get("leafWeight") or any(d.get("leafWeight") for d in block.get("weightDevice") or []):
        raise UnsupportedError("blockIO.leafWeight exists on old cgroup v1 kernels only")
    bfq = has("io.bfq.weight")
    name = "io.bfq.weight" if bfq else "io.weight"
    if block.get("weight"):
        writes.append((name, str(block["weight"] if bfq else io_weight(block["weight"]))))
    for device in block.get("weightDevice") or []:
        if device.get("weight"):
            weight = device["weight"] if bfq else io_weight(device["weight"])
            writes.append((name, f"{device['major']}:{device['minor']} {weight}"))
    rates: dict[str, list[str]] = {}
    for field, key in THROTTLES:
        for throttle in throttles(block, field):
            # v1's 0, or no rate, takes a limit off, which v2 calls max.
            rate = throttle.get("rate") or "max"
            node = f"{throttle['major']}:{throttle['minor']}"
            rates.setdefault(node, []).append(f"{key}={rate}")
    writes.extend(("io.max", f"{node} {' '.join(words)}") for node, words in rates.items())


def throttles(block: BlockIO, field: str) -> list[Any]:
    """Return one of the four throttle lists."""
    found: Any = block.get(field)
    return found or []


def _hugetlb(resources: Resources, has: Has, writes: Writes) -> None:
    for page in resources.get("hugepageLimits") or []:
        name = f"hugetlb.{page_size(page['pageSize'])}"
        writes.append((f"{name}.max", str(page["limit"])))
        # Without the reservation limit an mmap beyond the limit succeeds and dies by SIGBUS.
        if has(f"{name}.rsvd.max"):
            writes.append((f"{name}.rsvd.max", str(page["limit"])))


def page_size(text: str) -> str:
    """Return a huge page size as the kernel's file names spell it; raises InvalidError."""
    if text[-2:] in ("KB", "MB", "GB") and text[:-2].isdigit():
        return text
    raise InvalidError(f"hugepageLimits: page size {text!r} is not like 64KB, 2MB or 1GB")


def rdma(resources: Resources, writes: Writes) -> None:
    """Add the writes of linux.resources.rdma: the same file in both versions."""
    for name, limits in (resources.get("rdma") or {}).items():
        if " " in name or "\n" in name:
            raise InvalidError(f"rdma: {name!r} is no device name")
        words = [name]
        if "hcaHandles" in limits:
            words.append(f"hca_handle={limits['hcaHandles']}")
        if "hcaObjects" in limits:
            words.append(f"hca_object={limits['hcaObjects']}")
        writes.append(("rdma.max", " ".join(words)))
