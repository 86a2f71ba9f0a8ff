"""What a container's cgroup has used: stats and the OOM report.

The shape is that of `runc events --stats`; times are nanoseconds, sizes bytes. A controller that
is not joined leaves its part out.
"""

from __future__ import annotations

from pycontain.cgroup.files import number, pairs, read_or
from pycontain.cgroup.tree import procs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

TICK_NS = 10_000_000
"""cpuacct.stat counts in USER_HZ, 1/100 s on every Linux architecture in use."""


def collect(dirs: Mapping[str, str]) -> dict[str, object]:
    """Return the usage of a cgroup; `dirs` maps a v1 controller or "" (v2) to its directory."""
    found: dict[str, object] = {}
    unified = dirs.get("", "")
    if len(dirs) == 1 and unified:
        found["cpu"] = _cpu_v2(unified)
        found["memory"] = _memory_v2(unified)
        found["pids"] = _pids(unified, unified)
        found["blkio"] = _io_v2(unified)
    elif dirs:
        found["cpu"] = _cpu_v1(dirs)
        if "memory" in dirs:
            found["memory"] = _memory_v1(dirs["memory"])
        found["pids"] = _pids(dirs.get("pids", ""), next(iter(dirs.values())))
        found["blkio"] = _blkio_v1(dirs.get("blkio", ""))
    found["hugetlb"] = _hugetlb(dirs.get("hugetlb") or unified, v2="hugetlb" not in dirs)
    return found


def oom(dirs: Mapping[str, str]) -> tuple[bool, int, int]:
    """Return (struck, limit, peak); see Cgroup.oom."""
    if "memory" in dirs:
        home = dirs["memory"]
        killed = pairs(read_or(f"{home}/memory.oom_control")).get("oom_kill", 0)
        limit = number(read_or(f"{home}/memory.limit_in_bytes"))
        return killed > 0, limit or -1, number(read_or(f"{home}/memory.max_usage_in_bytes"))
    home = dirs.get("", "")
    if not home:
        return False, -1, 0
    killed = pairs(read_or(f"{home}/memory.events")).get("oom_kill", 0)
    # memory.peak came with Linux 5.19.
    peak = read_or(f"{home}/memory.peak") or read_or(f"{home}/memory.current")
    return killed > 0, number(read_or(f"{home}/memory.max", "max")), number(peak)


def _cpu_v1(dirs: Mapping[str, str]) -> dict[str, object]:
    account = dirs.get("cpuacct", "")
    split = pairs(read_or(f"{account}/cpuacct.stat"))
    throttled = pairs(read_or(f"{dirs.get('cpu', '')}/cpu.stat"))
    return {
        "usage": {
            "total": number(read_or(f"{account}/cpuacct.usage")),
            "percpu": [int(n) for n in read_or(f"{account}/cpuacct.usage_percpu").split()],
            "kernel": split.get("system", 0) * TICK_NS,
            "user": split.get("user", 0) * TICK_NS,
        },
        "throttling": {
            "periods": throttled.get("nr_periods", 0),
            "throttledPeriods": throttled.get("nr_throttled", 0),
            "throttledTime": throttled.get("throttled_time", 0),
        },
    }


def _cpu_v2(home: str) -> dict[str, object]:
    stat = pairs(read_or(f"{home}/cpu.stat"))
    return {
        "usage": {
            "total": stat.get("usage_usec", 0) * 1000,
            "kernel": stat.get("system_usec", 0) * 1000,
            "user": stat.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": stat.get("nr_periods", 0),
            "throttledPeriods": stat.get("nr_throttled", 0),
            "throttledTime": stat.get("throttled_usec", 0) * 1000,
        },
        **_pressure(f"{home}/cpu.pressure"),
    }


def _memory_v1(home: str) -> dict[str, object]:
    stat = pairs(read_or(f"{home}/memory.stat"))
    return {
        "usage": _entry(home, "memory"),
        "swap": _entry(home, "memory.memsw"),
        "cache": stat.get("total_cache", 0),
        "raw": stat,
    }


def _entry(home: str, prefix: str) -> dict[str, int]:
    return {
        "limit": number(read_or(f"{home}/{prefix}.limit_in_bytes")),
        "usage": number(read_or(f"{home}/{prefix}.usage_in_bytes")),
        "max": number(read_or(f"{home}/{prefix}.max_usage_in_bytes")),
        "failcnt": number(read_or(f"{home}/{prefix}.failcnt")),
    }


def _memory_v2(home: str) -> dict[str, object]:
    stat = pairs(read_or(f"{home}/memory.stat"))
    events = pairs(read_or(f"{home}/memory.events"))
    used = number(read_or(f"{home}/memory.current"))
    swap = number(read_or(f"{home}/memory.swap.current"))
    limit = number(read_or(f"{home}/memory.max", "max"))
    swap_limit = number(read_or(f"{home}/memory.swap.max", "max"))
    return {
        "usage": {
            "limit": limit,
            "usage": used,
            "max": number(read_or(f"{home}/memory.peak")),
            "failcnt": events.get("max", 0),
        },
        # OCI and v1 count memory plus swap.
        "swap": {
            "limit": -1 if limit < 0 or swap_limit < 0 else limit + swap_limit,
            "usage": used + swap,
            "max": 0,
            "failcnt": 0,
        },
        "cache": stat.get("file", 0),
        "raw": stat,
        **_pressure(f"{home}/memory.pressure"),
    }


def _pids(home: str, base: str) -> dict[str, int]:
    current = read_or(f"{home}/pids.current")
    return {
        "current": int(current) if current else len(procs(base)),
        "limit": number(read_or(f"{home}/pids.max", "max")),
    }


def _blkio_v1(home: str) -> dict[str, object]:
    names = (
        ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
        ("ioServicedRecursive", "io_serviced_recursive"),
    )
    found: dict[str, object] = {}
    for field, name in names if home else ():
        rows = read_or(f"{home}/blkio.bfq.{name}") or read_or(f"{home}/blkio.throttle.{name}")
        found[field] = [_row(*row) for row in map(str.split, rows.splitlines()) if len(row) == 3]
    return found


def _row(device: str, op: str, value: str) -> dict[str, object]:
    major, _, minor = device.partition(":")
    return {"major": int(major), "minor": int(minor), "op": op, "value": int(value)}


def _io_v2(home: str) -> dict[str, object]:
    sizes: list[dict[str, object]] = []
    counts: list[dict[str, object]] = []
    ops = {"rbytes": "Read", "wbytes": "Write", "rios": "Read", "wios": "Write"}
    for line in read_or(f"{home}/io.stat").splitlines():
        device, *words = line.split()
        for word in words:
            key, _, value = word.partition("=")
            if key in ops:
                (sizes if key.endswith("bytes") else counts).append(_row(device, ops[key], value))
    return {
        "ioServiceBytesRecursive": sizes,
        "ioServicedRecursive": counts,
        **_pressure(f"{home}/io.pressure"),
    }


def _hugetlb(home: str, *, v2: bool) -> dict[str, object]:
    import posix

    usage, peak, count = ("current", "", "events") if v2 else (
        "usage_in_bytes", "max_usage_in_bytes", "failcnt",
    )  # fmt: skip
    found: dict[str, object] = {}
    try:
        names = posix.listdir(home) if home else []
    except FileNotFoundError:
        return found
    for name in names:
        parts = name.split(".")
        if parts[0] == "hugetlb" and len(parts) == 3 and parts[2] == usage:
            prefix = f"{home}/hugetlb.{parts[1]}"
            fails = read_or(f"{prefix}.{count}")
            found[parts[1]] = {
                "usage": number(read_or(f"{home}/{name}")),
                "max": number(read_or(f"{prefix}.{peak}")) if peak else 0,
                "failcnt": pairs(fails).get("max", 0) if v2 else number(fails),
            }
    return found


def _pressure(path: str) -> dict[str, object]:
    """Return {"psi": {"some": {avg10 …, total}, "full": …}}, {} without PSI (total is in µs)."""
    rows: dict[str, object] = {}
    for line in read_or(path).splitlines():
        kind, *words = line.split()
        rows[kind] = {
            key: float(value) if "." in value else int(value)
            for key, _, value in (word.partition("=") for word in words)
        }
    return {"psi": rows} if rows else {}
