"""What config.json may hold: every type, every value, and what fields demand of each other.

Pure: looks at the document only. What the host lacks is found in `runtime/features.py`. Errors are
InvalidError and name the place: `config.json: process.args: must not be empty`. Fields the
specification does not know are tolerated (it demands that); a null stands for an absent field, as
Go's encoders write it, and is removed. Source: opencontainers/runtime-spec 1.3 and its schema.
"""

from __future__ import annotations

from pycontain.errors import InvalidError
from pycontain.runtime import relations
from pycontain.runtime.relations import RuleError
from pycontain.runtime.rules import (
    absolute,
    absolute_or_empty,
    array,
    boolean,
    filled,
    integer,
    mapping,
    one_of,
    record,
    text,
    texts,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pycontain.oci.runtime import Process, Resources, Seccomp, Spec
    from pycontain.runtime.rules import Rule

ID_MAX = 4294967294
"""(uid_t) -1 is no user: it means "leave as it is" in setresuid(2)."""
UINT16 = (1 << 16) - 1
UINT32 = (1 << 32) - 1
UINT64 = (1 << 64) - 1
INT64 = (1 << 63) - 1


def validate(document: object, what: str = "config.json") -> Spec:
    """Return `document` as a Spec, nulls removed; `what` names it. Raises InvalidError."""
    _apply(what, _SPEC, document)
    _apply(what, relations.check, document)
    return document  # type: ignore[return-value]


def validate_process(document: object, what: str = "process.json") -> Process:
    """Return `document` (what `exec --process` reads) as a Process. Raises InvalidError."""
    _apply(what, _PROCESS, document)
    _apply(what, relations.check_process, document)
    return document  # type: ignore[return-value]


def validate_resources(document: object, what: str = "resources") -> Resources:
    """Return `document` (what `update --resources` reads) as Resources. Raises InvalidError."""
    _apply(what, _RESOURCES, document)
    _apply(what, relations.check_resources, document)
    return document  # type: ignore[return-value]


def validate_seccomp(document: object, what: str) -> Seccomp:
    """Return `document` (a profile in a file) as linux.seccomp. Raises InvalidError."""
    _apply(what, _SECCOMP, document)
    _apply(what, _seccomp_relations, document)
    return document  # type: ignore[return-value]


def _seccomp_relations(profile: Any) -> None:
    relations.seccomp({"seccomp": profile})


def _apply(what: str, rule: Rule, document: object) -> None:
    try:
        rule(document)
    except RuleError as bad:
        where = bad.where()
        raise InvalidError(
            f"{what}: {where}: {bad.why}" if where else f"{what}: {bad.why}"
        ) from None


_uint16 = integer(0, UINT16)
_uint32 = integer(0, UINT32)
_uint64 = integer(0, UINT64)
_int64 = integer(-INT64 - 1, INT64)
_id = integer(0, ID_MAX)

_RLIMITS = (
    "AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC",
    "RSS", "RTPRIO", "RTTIME", "SIGPENDING", "STACK",
)  # fmt: skip

_PROCESS = record(
    {
        "terminal": boolean,
        "consoleSize": record({"height": _uint16, "width": _uint16}, "height", "width"),
        "user": record(
            {
                "uid": _id,
                "gid": _id,
                "umask": integer(0, 0o7777),
                "additionalGids": array(_id),
                "username": text,
            }
        ),
        "args": texts,
        "env": texts,
        "cwd": absolute,
        "capabilities": record(
            dict.fromkeys(
                ("bounding", "effective", "inheritable", "permitted", "ambient"), texts
            )
        ),
        "rlimits": array(
            record(
                {
                    "type": one_of(*["RLIMIT_" + name for name in _RLIMITS]),
                    "soft": _uint64,
                    "hard": _uint64,
                },
                "type",
                "soft",
                "hard",
            )
        ),
        "noNewPrivileges": boolean,
        "apparmorProfile": text,
        "selinuxLabel": text,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": record(
            {
                "policy": one_of(
                    "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO",
                    "SCHED_IDLE", "SCHED_DEADLINE",
                ),
                "nice": integer(-20, 19),
                "priority": integer(0, 99),
                "flags": array(
                    one_of(
                        "SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN",
                        "SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS",
                        "SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX",
                    )
                ),
                "runtime": _uint64,
                "deadline": _uint64,
                "period": _uint64,
            },
            "policy",
        ),
        "ioPriority": record(
            {
                "class": one_of("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE"),
                "priority": integer(0, 7),
            },
            "class",
        ),
        "execCPUAffinity": record({"initial": text, "final": text}),
    },
    "cwd",
    "args",
)  # fmt: skip

_MAPPINGS = array(
    record(
        {"containerID": _id, "hostID": _id, "size": integer(1, UINT32)},
        "containerID",
        "hostID",
        "size",
    )
)

_MOUNT = record(
    {
        "destination": filled,
        "type": text,
        "source": text,
        "options": texts,
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
    },
    "destination",
)

_HOOKS = array(
    record(
        {"path": absolute, "args": texts, "env": texts, "timeout": integer(1, INT64)},
        "path",
    )
)

_THROTTLE = array(record({"major": _int64, "minor": _int64, "rate": _uint64}, "major", "minor"))

_RESOURCES = record(
    {
        "devices": array(
            record(
                {
                    "allow": boolean,
                    "type": one_of("a", "b", "c", "u", "p", ""),
                    "major": _int64,
                    "minor": _int64,
                    "access": text,
                }
            )
        ),
        "memory": record(
            {
                **dict.fromkeys(("limit", "reservation", "swap", "kernel", "kernelTCP"), _int64),
                "swappiness": integer(0, 100),
                **dict.fromkeys(("disableOOMKiller", "useHierarchy", "checkBeforeUpdate"), boolean),
            }
        ),
        "cpu": record(
            {
                **dict.fromkeys(("shares", "period", "burst", "realtimePeriod"), _uint64),
                **dict.fromkeys(("quota", "realtimeRuntime"), _int64),
                "cpus": text,
                "mems": text,
                "idle": integer(0, 1),
            }
        ),
        "pids": record({"limit": _int64}),
        "blockIO": record(
            {
                "weight": _uint16,
                "leafWeight": _uint16,
                "weightDevice": array(
                    record(
                        {
                            "major": _int64,
                            "minor": _int64,
                            "weight": _uint16,
                            "leafWeight": _uint16,
                        },
                        "major",
                        "minor",
                    )
                ),
                "throttleReadBpsDevice": _THROTTLE,
                "throttleWriteBpsDevice": _THROTTLE,
                "throttleReadIOPSDevice": _THROTTLE,
                "throttleWriteIOPSDevice": _THROTTLE,
            }
        ),
        "hugepageLimits": array(
            record({"pageSize": filled, "limit": _uint64}, "pageSize", "limit")
        ),
        "network": record(
            {
                "classID": _uint32,
                "priorities": array(
                    record({"name": filled, "priority": _uint32}, "name", "priority")
                ),
            }
        ),
        "rdma": mapping(record({"hcaHandles": _uint32, "hcaObjects": _uint32})),
        "unified": mapping(text),
    }
)

ACTIONS = ["SCMP_ACT_" + name for name in (
    "KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY",
)]  # fmt: skip
ARCHITECTURES = ["SCMP_ARCH_" + name for name in (
    "X86", "X86_64", "X32", "ARM", "AARCH64", "MIPS", "MIPS64", "MIPS64N32", "MIPSEL", "MIPSEL64",
    "MIPSEL64N32", "PPC", "PPC64", "PPC64LE", "S390", "S390X", "PARISC", "PARISC64", "RISCV64",
    "LOONGARCH64", "M68K", "SH", "SHEB", "NATIVE",
)]  # fmt: skip
OPERATORS = ["SCMP_CMP_" + name for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")]
MEMORY_MODES = ["MPOL_" + name for name in (
    "DEFAULT", "BIND", "INTERLEAVE", "WEIGHTED_INTERLEAVE", "PREFERRED", "PREFERRED_MANY", "LOCAL",
)]  # fmt: skip
MEMORY_FLAGS = ["MPOL_F_" + name for name in ("NUMA_BALANCING", "RELATIVE_NODES", "STATIC_NODES")]
SECCOMP_FLAGS = ["SECCOMP_FILTER_FLAG_" + name for name in (
    "TSYNC", "LOG", "SPEC_ALLOW", "WAIT_KILLABLE_RECV",
)]  # fmt: skip

_SECCOMP = record(
    {
        "defaultAction": one_of(*ACTIONS),
        "defaultErrnoRet": integer(0, 4095),
        "architectures": array(one_of(*ARCHITECTURES)),
        "flags": array(one_of(*SECCOMP_FLAGS)),
        "listenerPath": text,
        "listenerMetadata": text,
        "syscalls": array(
            record(
                {
                    "names": texts,
                    "action": one_of(*ACTIONS),
                    "errnoRet": integer(0, 4095),
                    "args": array(
                        record(
                            {
                                "index": integer(0, 5),
                                "value": _uint64,
                                "valueTwo": _uint64,
                                "op": one_of(*OPERATORS),
                            },
                            "index",
                            "op",
                        )
                    ),
                },
                "names",
                "action",
            )
        ),
    },
    "defaultAction",
)

_PROPAGATIONS = ("shared", "slave", "private", "unbindable")

_LINUX = record(
    {
        "namespaces": array(
            record(
                {
                    "type": one_of(
                        "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"
                    ),
                    "path": absolute_or_empty,
                },
                "type",
            )
        ),
        "uidMappings": _MAPPINGS,
        "gidMappings": _MAPPINGS,
        "timeOffsets": mapping(record({"secs": _int64, "nanosecs": integer(0, 999999999)})),
        "devices": array(
            record(
                {
                    "path": absolute,
                    "type": one_of("c", "b", "u", "p"),
                    "major": _int64,
                    "minor": _int64,
                    "fileMode": _uint32,
                    "uid": _id,
                    "gid": _id,
                },
                "path",
                "type",
            )
        ),
        "netDevices": mapping(record({"name": text})),
        "cgroupsPath": text,
        "resources": _RESOURCES,
        "rootfsPropagation": one_of("", *_PROPAGATIONS, *["r" + word for word in _PROPAGATIONS]),
        "seccomp": _SECCOMP,
        "sysctl": mapping(text),
        "maskedPaths": texts,
        "readonlyPaths": texts,
        "mountLabel": text,
        "intelRdt": record(
            {
                **dict.fromkeys(("closID", "l3CacheSchema", "memBwSchema"), text),
                "schemata": texts,
                **dict.fromkeys(("enableMonitoring", "enableCMT", "enableMBM"), boolean),
            }
        ),
        "memoryPolicy": record(
            {
                "mode": one_of(*MEMORY_MODES, wrong="invalid memory policy mode"),
                "nodes": text,
                "flags": array(one_of(*MEMORY_FLAGS, wrong="invalid memory policy flag")),
            }
        ),
        "personality": record({"domain": one_of("LINUX", "LINUX32"), "flags": texts}, "domain"),
    }
)  # fmt: skip

_SPEC = record(
    {
        "ociVersion": filled,
        "root": record({"path": filled, "readonly": boolean}, "path"),
        "process": _PROCESS,
        "hostname": text,
        "domainname": text,
        "mounts": array(_MOUNT),
        "hooks": record(
            dict.fromkeys(
                (
                    "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
                    "poststop",
                ),
                _HOOKS,
            )
        ),
        "annotations": mapping(text),
        "linux": _LINUX,
    },
    "ociVersion",
    "root",
    "process",
)  # fmt: skip
