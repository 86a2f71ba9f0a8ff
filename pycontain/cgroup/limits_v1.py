"""OCI linux.resources as cgroup v1 files: a pure decision, the counterpart of `limits`.

File names as in the kernel's Documentation/admin-guide/cgroup-v1/. The first word of a file name,
up to the dot, is the controller it belongs to.
"""

from __future__ import annotations

from pycontain.cgroup.limits import cpuset, idle_or_weight, page_size, rdma, throttles
from pycontain.errors import InvalidError, UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.cgroup.limits import Has, Writes
    from pycontain.oci.runtime import BlockIO, Cpu, DeviceRule, Memory, Resources

THROTTLES = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def limit_files(resources: Resources, has: Has = lambda name: True) -> Writes:
    """Return what to write, in order: (file, value); a file may come more than once.

    `has` says whether a file exists: the weight files carry BFQ's name on kernels since 5.0, and
    huge page reservations have limits since 5.7. Raises InvalidError and UnsupportedError.
    """
    writes: Writes = [device_file(rule) for rule in resources.get("devices") or []]
    _cpu(resources.get("cpu") or {}, writes)
    _memory(resources.get("memory") or {}, writes)
    pids = resources.get("pids") or {}
    if "limit" in pids:
        writes.append(("pids.max", str(pids["limit"]) if pids["limit"] >= 0 else "max"))
    _blkio(resources.get("blockIO") or {}, has, writes)
    for page in resources.get("hugepageLimits") or []:
        name = f"hugetlb.{page_size(page['pageSize'])}"
        writes.append((f"{name}.limit_in_bytes", str(page["limit"])))
        if has(f"{name}.rsvd.limit_in_bytes"):
            writes.append((f"{name}.rsvd.limit_in_bytes", str(page["limit"])))
    rdma(resources, writes)
    network = resources.get("network") or {}
    if network.get("classID"):
        writes.append(("net_cls.classid", str(network["classID"])))
    for priority in network.get("priorities") or []:
        writes.append(("net_prio.ifpriomap", f"{priority['name']} {priority['priority']}"))
    return writes


def device_file(rule: DeviceRule) -> tuple[str, str]:
    """Return one device rule; a missing type or number is any (runtime-spec config-linux.md)."""
    kind = rule.get("type") or "a"
    access = rule.get("access") or "rwm"
    if kind not in ("a", "b", "c") or access.strip("rwm"):
        raise InvalidError(f"device rule: type {kind!r} access {access!r}")
    numbers = [rule.get("major", -1), rule.get("minor", -1)]
    major, minor = ("*" if n is None or n < 0 else str(n) for n in numbers)
    # The kernel ignores numbers and access of "a": it stands for every device.
    value = "a" if kind == "a" else f"{kind} {major}:{minor} {access}"
    return ("devices.allow" if rule.get("allow") else "devices.deny"), value


def _cpu(cpu: Cpu, writes: Writes) -> None:
    shares = cpu.get("shares")
    weight = ("cpu.shares", str(min(max(shares, 2), 262144))) if shares else None
    idle_or_weight(cpu, weight, writes)
    if cpu.get("period"):
        writes.append(("cpu.cfs_period_us", str(cpu["period"])))
    if "quota" in cpu:
        writes.append(("cpu.cfs_quota_us", str(cpu["quota"] if cpu["quota"] > 0 else -1)))
    if "burst" in cpu:
        writes.append(("cpu.cfs_burst_us", str(cpu["burst"])))
    if cpu.get("realtimePeriod"):
        writes.append(("cpu.rt_period_us", str(cpu["realtimePeriod"])))
    if cpu.get("realtimeRuntime"):
        writes.append(("cpu.rt_runtime_us", str(cpu["realtimeRuntime"])))
    cpuset(cpu, writes)


def _memory(memory: Memory, writes: Writes) -> None:
    total, ram = memory.get("swap"), memory.get("limit")
    if total is not None and total >= 0 and ram is not None and (ram < 0 < total or total < ram):
        raise InvalidError(f"memory.swap {total} is memory plus swap, and less than limit {ram}")
    # Raising needs memsw first, lowering needs it last: the writer comes back to an EINVAL.
    if ram is not None:
        writes.append(("memory.limit_in_bytes", str(ram)))
    if total is not None and not (total == 0 and ram == -1):
        writes.append(("memory.memsw.limit_in_bytes", str(total)))
    elif ram == -1:
        writes.append(("memory.memsw.limit_in_bytes", "-1"))
    if "reservation" in memory:
        writes.append(("memory.soft_limit_in_bytes", str(memory["reservation"])))
    if memory.get("kernelTCP", -1) != -1:
        writes.append(("memory.kmem.tcp.limit_in_bytes", str(memory["kernelTCP"])))
    if memory.get("swappiness") is not None:
        writes.append(("memory.swappiness", str(memory["swappiness"])))
    if "disableOOMKiller" in memory:
        writes.append(("memory.oom_control", "1" if memory["disableOOMKiller"] else "0"))


def _blkio(block: BlockIO, has: Has, writes: Writes) -> None:
    if not block:
        return
    prefix = "blkio." if has("blkio.weight") else "blkio.bfq."
    leaf = block.get("leafWeight") or any(
        device.get("leafWeight") for device in block.get("weightDevice") or []
    )
    if leaf and not has("blkio.leaf_weight"):
        raise UnsupportedError("blockIO.leafWeight went away with the CFQ scheduler in Linux 5.0")
    if block.get("weight"):
        writes.append((f"{prefix}weight", str(block["weight"])))
    if block.get("leafWeight"):
        writes.append(("blkio.leaf_weight", str(block["leafWeight"])))
    for device in block.get("weightDevice") or []:
        node = f"{device['major']}:{device['minor']}"
        if device.get("weight"):
            writes.append((f"{prefix}weight_device", f"{node} {device['weight']}"))
        if device.get("leafWeight"):
            writes.append(("blkio.leaf_weight_device", f"{node} {device['leafWeight']}"))
    for field, file in THROTTLES:
        for limit in throttles(block, field):
            writes.append((file, f"{limit['major']}:{limit['minor']} {limit.get('rate', 0)}"))
