"""What fields of config.json demand of each other; the second half of `validate`.

Owns the rules that no field can be judged by alone: namespaces against hostname, mappings, sysctl
and paths, duplicates, seccomp actions against names, scheduler policies against parameters. Types
and single values are checked before, so these functions trust them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontain.oci.runtime import IntelRdt, Linux, Mount, Process, Scheduler, Spec

HOST_NAME_MAX = 64
"""sethostname(2)."""

_IPC_SYSCTLS = frozenset(
    "kernel." + name
    for name in (
        "msgmax",
        "msgmnb",
        "msgmni",
        "sem",
        "shmall",
        "shmmax",
        "shmmni",
        "shm_rmid_forced",
    )
)


class RuleError(Exception):
    """A rule is broken; `at` adds the place from the inside out."""

    def __init__(self, why: str, *path: str | int) -> None:
        super().__init__(why)
        self.why = why
        self.path: list[str | int] = list(reversed(path))

    def at(self, key: str | int) -> RuleError:
        self.path.append(key)
        return self

    def where(self) -> str:
        """Return the place as `linux.namespaces[2].type`."""
        text = ""
        for key in reversed(self.path):
            text += f"[{key}]" if isinstance(key, int) else f".{key}"
        return text.removeprefix(".")


def check(spec: Any) -> None:
    """Hold a Spec, whose types are right, to the rules between its fields; raises RuleError."""
    document: Spec = spec
    _version(document["ociVersion"])
    linux: Linux = document.get("linux", {})
    spaces = namespaces(linux)
    _within("process", check_process, document["process"])
    _names(document, spaces)
    for index, mount in enumerate(document.get("mounts", [])):
        _within(index, _mount, mount, key="mounts")
    for rule in (_mappings, _time, _sysctl, _paths, _devices, seccomp, _resources, _other):
        try:
            rule(linux, spaces)
        except RuleError as bad:
            raise bad.at("linux") from None


def namespaces(linux: Linux) -> dict[str, str]:
    """Return type -> path ("" = new) of the namespaces; a type named twice raises RuleError."""
    found: dict[str, str] = {}
    for index, space in enumerate(linux.get("namespaces", [])):
        if space["type"] in found:
            raise RuleError(
                f"namespace {space['type']!r} is named twice", "linux", "namespaces", index
            )
        found[space["type"]] = space.get("path", "")
    return found


def check_process(process: Any) -> None:
    """Hold a Process, whose types are right, to the rules between its fields; raises RuleError."""
    document: Process = process
    if not document["args"]:
        raise RuleError("must not be empty", "args")
    for index, entry in enumerate(document.get("env", [])):
        if entry.find("=") < 1:
            raise RuleError(f"{entry!r} is not NAME=VALUE", "env", index)
    _rlimits(document)
    if "scheduler" in document:
        _within("scheduler", _scheduler, document["scheduler"])
    affinity = document.get("execCPUAffinity", {})
    for key in ("initial", "final"):
        number_list(affinity.get(key, ""), "execCPUAffinity", key)  # type: ignore[arg-type]


def number_list(text: str, *where: str) -> None:
    """Hold `text` to the kernel's list format ("0-3,7"); "" is fine. RuleError at `where`."""
    if not text:
        return
    for part in text.strip().split(","):
        first, dash, last = part.strip().partition("-")
        last = last.partition(":")[0] if dash else first
        if not (first.isascii() and first.isdigit() and last.isascii() and last.isdigit()):
            raise RuleError(f"{text!r} is no list of numbers such as 0-3,7", *where)
        if int(first) > int(last):
            raise RuleError(f"range {part!r} runs backwards", *where)


def _within(where: str | int, rule: Callable[[Any], None], value: Any, key: str = "") -> None:
    try:
        rule(value)
    except RuleError as bad:
        bad.at(where)
        raise (bad.at(key) if key else bad) from None


def _version(text: str) -> None:
    core = text.partition("+")[0].partition("-")[0]
    parts = core.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise RuleError(f"{text!r} is no semantic version", "ociVersion")
    if parts[0] != "1":
        raise RuleError(f"{text!r} is not supported, only 1.x is", "ociVersion")


def _names(spec: Spec, spaces: dict[str, str]) -> None:
    for key in ("hostname", "domainname"):
        name = spec.get(key, "")
        if name and "uts" not in spaces:
            raise RuleError("needs a uts namespace of the container's own", key)
        if len(str(name).encode("utf-8", "surrogateescape")) > HOST_NAME_MAX:
            raise RuleError(f"is longer than {HOST_NAME_MAX} bytes", key)


def _rlimits(process: Process) -> None:
    seen = set()
    for index, limit in enumerate(process.get("rlimits", [])):
        if limit["type"] in seen:
            raise RuleError(f"{limit['type']} is named twice", "rlimits", index)
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise RuleError("soft is above hard", "rlimits", index)


def _scheduler(scheduler: Scheduler) -> None:
    policy = scheduler["policy"]
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise RuleError(f"is for SCHED_FIFO and SCHED_RR, not {policy}", "priority")
    for key in ("runtime", "deadline", "period"):
        if scheduler.get(key) and policy != "SCHED_DEADLINE":
            raise RuleError(f"is for SCHED_DEADLINE, not {policy}", key)


def _mount(mount: Mount) -> None:
    if not mount.get("uidMappings") and not mount.get("gidMappings"):
        return
    options = mount.get("options", [])
    if mount.get("type") != "bind" and "bind" not in options and "rbind" not in options:
        raise RuleError("id mappings are for bind mounts only")
    for key in ("uidMappings", "gidMappings"):
        if not mount.get(key):
            raise RuleError("is missing: both id mappings or neither", key)


def _mappings(linux: Linux, spaces: dict[str, str]) -> None:
    for key in ("uidMappings", "gidMappings"):
        if linux.get(key) and "user" not in spaces:
            raise RuleError("needs a user namespace", key)
        if not linux.get(key) and spaces.get("user") == "":
            raise RuleError("is missing: a new user namespace needs its id mappings", key)


def _time(linux: Linux, spaces: dict[str, str]) -> None:
    offsets = linux.get("timeOffsets")
    if not offsets:
        return
    if "time" not in spaces:
        raise RuleError("needs a time namespace", "timeOffsets")
    if spaces["time"]:
        raise RuleError("cannot change a time namespace that is joined by path", "timeOffsets")
    for clock in offsets:
        if clock not in ("monotonic", "boottime"):
            raise RuleError("unknown clock, must be monotonic or boottime", "timeOffsets", clock)


def _sysctl(linux: Linux, spaces: dict[str, str]) -> None:
    for key in linux.get("sysctl", {}):
        why = _sysctl_refusal(dotted(key), spaces)
        if why:
            raise RuleError(why, "sysctl", key)


def dotted(key: str) -> str:
    """Return a sysctl name in the form with dots; `net/ipv4/conf/eth0.1/x` is legal (sysctl(8))."""
    first = min((key.find(c) for c in "./" if c in key), default=-1)
    if first < 0 or key[first] == ".":
        return key
    return key.translate({ord("."): "/", ord("/"): "."})


def _sysctl_refusal(name: str, spaces: dict[str, str]) -> str:
    # In this form a "/" stands for a dot of the file's name: "/" and "//" would be "." and "..".
    if not all(part.strip("/") for part in name.split(".")):
        return "is no sysctl name"
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "" if "ipc" in spaces else "would change the host: needs an ipc namespace"
    if name.startswith("net."):
        return "" if "network" in spaces else "would change the host: needs a network namespace"
    if name == "kernel.domainname" and "uts" in spaces:
        return ""
    if name == "kernel.hostname" and "uts" in spaces:
        return "conflicts with hostname, use that field"
    if name.startswith("user.") and "user" in spaces:
        return ""
    return "is not in a separate kernel namespace"


def _paths(linux: Linux, spaces: dict[str, str]) -> None:
    for key in ("maskedPaths", "readonlyPaths"):
        paths: list[str] = linux.get(key, [])  # type: ignore[assignment]
        if paths and "mount" not in spaces:
            raise RuleError("needs a mount namespace", key)
        for index, path in enumerate(paths):
            if key == "maskedPaths" and not path.startswith("/"):
                raise RuleError(f"must be an absolute path, not {path!r}", key, index)


def _devices(linux: Linux, spaces: dict[str, str]) -> None:
    for index, device in enumerate(linux.get("devices", [])):
        if device["type"] == "p":
            continue
        for key in ("major", "minor"):
            if key not in device:
                raise RuleError("is missing", "devices", index, key)
            if device[key] < 0:
                raise RuleError("must not be negative", "devices", index, key)


def seccomp(linux: Linux, spaces: dict[str, str] | None = None) -> None:
    """Check what the fields of linux.seccomp demand of each other. Raises RuleError."""
    profile = linux.get("seccomp")
    if not profile:
        return
    if profile["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise RuleError("SCMP_ACT_NOTIFY cannot be the default", "seccomp", "defaultAction")
    notify = False
    for index, rule in enumerate(profile.get("syscalls", [])):
        if not rule["names"]:
            raise RuleError("must not be empty", "seccomp", "syscalls", index, "names")
        if rule["action"] == "SCMP_ACT_NOTIFY":
            notify = True
            if "write" in rule["names"]:
                raise RuleError(
                    "SCMP_ACT_NOTIFY cannot be used for the write syscall",
                    "seccomp",
                    "syscalls",
                    index,
                )
    if notify and not profile.get("listenerPath"):
        raise RuleError("is missing, SCMP_ACT_NOTIFY needs it", "seccomp", "listenerPath")
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise RuleError("is set without listenerPath", "seccomp", "listenerMetadata")


def _resources(linux: Linux, spaces: dict[str, str]) -> None:
    resources = linux.get("resources")
    if resources:
        _within("resources", check_resources, resources)


def check_resources(resources: Any) -> None:
    """Hold Resources, whose types are right, to their grammar; raises RuleError."""
    for index, rule in enumerate(resources.get("devices", [])):
        access = rule.get("access", "")
        # An "a" beside them says nothing; `tolerate` takes it out.
        if access.strip("rwma") or (access and not access.strip("a")):
            raise RuleError("may hold r, w and m only", "devices", index, "access")
    cpu = resources.get("cpu", {})
    for key in ("cpus", "mems"):
        number_list(cpu.get(key, ""), "cpu", key)
    weight = resources.get("blockIO", {}).get("weight", 0)
    if weight and not 10 <= weight <= 1000:
        raise RuleError(f"must be 10 to 1000, not {weight}", "blockIO", "weight")
    for index, page in enumerate(resources.get("hugepageLimits", [])):
        size = page["pageSize"]
        number = size[:-2]
        if size[-2:] not in ("KB", "MB", "GB") or not (number.isascii() and number.isdigit()):
            raise RuleError(
                f"{size!r} is no page size such as 2MB", "hugepageLimits", index, "pageSize"
            )
    for key in resources.get("unified", {}):
        if "/" in key:
            raise RuleError("must be a file name without /", "unified", key)


def _other(linux: Linux, spaces: dict[str, str]) -> None:
    _resource_control(linux.get("intelRdt", {}))
    if linux.get("personality", {}).get("flags"):
        raise RuleError("no flag is defined", "personality", "flags")
    policy = linux.get("memoryPolicy")
    if policy is not None and "mode" not in policy:
        raise RuleError("invalid memory policy mode: it is missing", "memoryPolicy", "mode")
    number_list((policy or {}).get("nodes", ""), "memoryPolicy", "nodes")
    if linux.get("netDevices") and "network" not in spaces:
        raise RuleError("needs a network namespace", "netDevices")


def _resource_control(wanted: IntelRdt) -> None:
    group = wanted.get("closID", "default")
    # "/" is the default class, the root of the file system.
    if group in ("", ".", "..") or "\n" in group or ("/" in group and group != "/"):
        raise RuleError(f"{group!r} is no group name", "intelRdt", "closID")
    bandwidth = wanted.get("memBwSchema", "")
    if bandwidth and (not bandwidth.startswith("MB:") or "\n" in bandwidth):
        raise RuleError("must be one line that starts with MB:", "intelRdt", "memBwSchema")
    for index, line in enumerate(wanted.get("schemata", [])):
        if "\n" in line:
            raise RuleError("must be one line", "intelRdt", "schemata", index)
