"""Limits: options in, `linux.resources` out. Pure.

Docker's rules for what follows from what: swap is twice the memory unless said, `--cpus` is a
quota of the period, the process limit has a default. Zero is "no limit" where docker says so.
"""

from __future__ import annotations

from pycontain.errors import UsageError
from pycontain.spec import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.oci.runtime import DeviceRule, Resources
    from pycontain.spec.host import Host
    from pycontain.spec.options import RunOptions

LEAST_MEMORY = 6 << 20
"""Bytes; docker refuses less, a process could not start."""
BASE = "linux.resources."


def build(options: RunOptions, host: Host, origins: dict[str, str]) -> Resources:
    """Return the limits; `origins` learns where they come from. Raises UsageError."""
    parts: dict[str, Any] = {
        "memory": _memory(options),
        "cpu": _cpu(options, host),
        "blockIO": _block_io(options, host),
    }
    pids = _pids(options, host)
    if pids:
        parts["pids"] = {"limit": pids}
    found: dict[str, Any] = {name: part for name, part in parts.items() if part}
    if host.delegated:
        found["devices"] = device_rules(options, host)
        origins[BASE + "devices"] = "--privileged" if options.privileged else "default"
    origins[BASE + "pids.limit"] = options.given.get("pids_limit", "default")
    for dest, path in PLACES.items():
        if dest in options.given:
            origins[BASE + path] = options.given[dest]
    return found  # type: ignore[return-value]


PLACES = {
    "memory": "memory.limit",
    "memory_swap": "memory.swap",
    "memory_reservation": "memory.reservation",
    "memory_swappiness": "memory.swappiness",
    "oom_kill_disable": "memory.disableOOMKiller",
    "cpus": "cpu.quota",
    "cpu_quota": "cpu.quota",
    "cpu_period": "cpu.period",
    "cpu_shares": "cpu.shares",
    "cpuset_cpus": "cpu.cpus",
    "cpuset_mems": "cpu.mems",
    "blkio_weight": "blockIO.weight",
    "device_read_bps": "blockIO.throttleReadBpsDevice",
    "device_write_bps": "blockIO.throttleWriteBpsDevice",
    "device_read_iops": "blockIO.throttleReadIOPSDevice",
    "device_write_iops": "blockIO.throttleWriteIOPSDevice",
}
"""Where each limit stands under linux.resources."""


def _memory(options: RunOptions) -> dict[str, object]:
    memory, swap, soft = (
        options.memory or None,
        options.memory_swap or None,
        options.memory_reservation,
    )
    if memory is not None and memory < LEAST_MEMORY:
        raise UsageError(f"--memory {memory}: the least is 6m")
    if swap is not None and swap > 0 and memory is None:
        raise UsageError("--memory-swap needs --memory")
    if swap is not None and memory is not None and 0 < swap < memory:
        raise UsageError("--memory-swap is memory plus swap: it cannot be below --memory")
    if soft and memory is not None and soft > memory:
        raise UsageError("--memory-reservation cannot be above --memory")
    if options.memory_swappiness is not None and options.memory_swappiness > 100:
        raise UsageError("--memory-swappiness: expected 0 to 100")
    if memory is not None and swap is None:
        swap = 2 * memory
    values: dict[str, object] = {"limit": memory, "swap": swap, "reservation": soft or None}
    values["swappiness"] = options.memory_swappiness
    values["disableOOMKiller"] = options.oom_kill_disable or None
    return {name: value for name, value in values.items() if value is not None}


def _cpu(options: RunOptions, host: Host) -> dict[str, object]:
    quota, period = options.cpu_quota or None, options.cpu_period or None
    if options.cpus:
        if quota is not None or period is not None:
            raise UsageError("--cpus cannot be combined with --cpu-quota or --cpu-period")
        period = defaults.CPU_PERIOD_US
        quota = options.cpus * period // 10**9
        if quota < 1000:
            raise UsageError("--cpus: the least is 0.01")
        if 0 < host.cpus * 10**9 < options.cpus:
            raise UsageError(f"--cpus: this host has {host.cpus}, that is the most")
    if period is not None and not 1000 <= period <= 1000000:
        raise UsageError(f"--cpu-period {period}: expected 1000 to 1000000 microseconds")
    if quota is not None and quota != -1 and quota < 1000:
        raise UsageError(f"--cpu-quota {quota}: expected 1000 microseconds or more")
    shares = options.cpu_shares or None
    if shares is not None and not 2 <= shares <= 262144:
        raise UsageError(f"--cpu-shares {shares}: expected 2 to 262144")
    values = {"quota": quota, "period": period, "shares": shares}
    values |= {"cpus": options.cpuset_cpus or None, "mems": options.cpuset_mems or None}  # type: ignore[dict-item]
    return {name: value for name, value in values.items() if value is not None}


def _pids(options: RunOptions, host: Host) -> int:
    """Return the process limit, 0 for none."""
    if options.pids_limit is not None:
        return options.pids_limit if options.pids_limit > 0 else 0
    return defaults.PIDS_LIMIT if host.delegated else 0


def _block_io(options: RunOptions, host: Host) -> dict[str, object]:
    weight = options.blkio_weight or None
    if weight is not None and not 10 <= weight <= 1000:
        raise UsageError(f"--blkio-weight {weight}: expected 10 to 1000")
    found: dict[str, object] = {} if weight is None else {"weight": weight}
    rates = {
        "throttleReadBpsDevice": options.device_read_bps,
        "throttleWriteBpsDevice": options.device_write_bps,
        "throttleReadIOPSDevice": options.device_read_iops,
        "throttleWriteIOPSDevice": options.device_write_iops,
    }
    for name, rows in rates.items():
        if rows:
            found[name] = [{**_numbers(path, host), "rate": rate} for path, rate in rows]
    if options.blkio_weight_device:
        found["weightDevice"] = [
            {**_numbers(path, host), "weight": value} for path, value in options.blkio_weight_device
        ]
    return found


def _numbers(path: str, host: Host) -> dict[str, int]:
    major, minor = host.block_devices[path]
    return {"major": major, "minor": minor}


def device_rules(options: RunOptions, host: Host) -> list[DeviceRule]:
    """Return the device rules: the default ones, then one for each device and rule asked for."""
    if options.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules = list(defaults.DEVICE_RULES)
    for device, access in host.devices:
        rule: DeviceRule = {"allow": True, "type": device["type"], "access": access}
        rule["major"], rule["minor"] = device["major"], device["minor"]
        rules.append(rule)
    for kind, first, second, access in options.device_cgroup_rule:
        extra: DeviceRule = {"allow": True, "type": kind, "access": access}
        if first is not None:
            extra["major"] = first
        if second is not None:
            extra["minor"] = second
        rules.append(extra)
    return rules
