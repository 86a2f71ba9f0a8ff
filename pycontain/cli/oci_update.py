"""`pycontain-oci update`: resource limits from a LinuxResources object or from single options."""

from __future__ import annotations

from pycontain.cli.oci_options import whole_number
from pycontain.errors import UsageError
from pycontain.oci import codec
from pycontain.runtime import bundle, tolerate, validate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.oci.runtime import IntelRdt, Resources

_NUMBERS = {
    "blkio_weight": ("blockIO", "weight"),
    "cpu_period": ("cpu", "period"),
    "cpu_quota": ("cpu", "quota"),
    "cpu_burst": ("cpu", "burst"),
    "cpu_share": ("cpu", "shares"),
    "cpu_rt_period": ("cpu", "realtimePeriod"),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime"),
    "cpu_idle": ("cpu", "idle"),
    "pids_limit": ("pids", "limit"),
}
_SIZES = {
    "memory": ("memory", "limit"),
    "memory_reservation": ("memory", "reservation"),
    "memory_swap": ("memory", "swap"),
}
_TEXTS = {"cpuset_cpus": ("cpu", "cpus"), "cpuset_mems": ("cpu", "mems")}
_UNITS = {"b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


def resources(options: Any) -> Resources:
    """Return what the options ask for; raises UsageError and InvalidError."""
    if options.resources:
        return tolerate.without_zeros(_from_file(options.resources))
    found: dict[str, dict[str, object]] = {}
    for table, convert in ((_NUMBERS, whole_number), (_SIZES, size), (_TEXTS, _text)):
        for key, (group, field) in table.items():
            value = getattr(options, key)
            if value:
                found.setdefault(group, {})[field] = convert("--" + key.replace("_", "-"), value)
    if found.get("pids", {}).get("limit") == 0:
        # Asked for by name it is a limit; the least one there is.
        found["pids"]["limit"] = 1
    return tolerate.without_zeros(validate.validate_resources(found, "update"))


def resource_control(options: Any) -> IntelRdt:
    """Return the lines of linux.intelRdt that the options ask for; raises UsageError."""
    lines: IntelRdt = {}
    if options.l3_cache_schema:
        lines["l3CacheSchema"] = options.l3_cache_schema
    if options.mem_bw_schema:
        if not options.mem_bw_schema.startswith("MB:") or "\n" in options.mem_bw_schema:
            raise UsageError("--mem-bw-schema: must be one line that starts with MB:")
        lines["memBwSchema"] = options.mem_bw_schema
    return lines


def _text(option: str, value: str) -> str:
    return value


def size(option: str, text: str) -> int:
    """Return bytes for `64m`, `1.5g`, `-1`; raises UsageError."""
    lower = text.lower().removesuffix("b").removesuffix("i") or text
    unit = lower[-1:]
    number = lower[:-1] if unit in _UNITS else lower
    try:
        if unit in _UNITS and _is_decimal(number):
            return int(float(number) * (1 << _UNITS[unit]))
    except (ValueError, OverflowError):
        pass
    return whole_number(option, number if unit not in _UNITS else text)


def _is_decimal(text: str) -> bool:
    whole, _, fraction = text.partition(".")
    return text.isascii() and whole.isdigit() and (not fraction or fraction.isdigit())


def _from_file(path: str) -> Resources:
    data = bundle.read_all(0, "standard input") if path == "-" else bundle.read_document(path)
    return validate.validate_resources(codec.loads(data, "resources"), "resources")
