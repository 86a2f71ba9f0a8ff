"""config.json: each rule, with the place in the error."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.cli import oci_spec
from pycontain.errors import InvalidError
from pycontain.runtime.validate import validate, validate_process, validate_resources

MISSING = object()


def config() -> dict[str, Any]:
    return copy.deepcopy(oci_spec.default(rootless=False))  # type: ignore[arg-type]


def changed(path: str, value: object) -> dict[str, Any]:
    """A valid config.json with `path` set to `value`, or removed."""
    document: Any = config()
    place = document
    *parents, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    for key in parents:
        if isinstance(place, dict) and key not in place:
            place[key] = {}
        place = place[key]
    if value is MISSING:
        del place[last]
    elif isinstance(last, int) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return document


def test_the_default_is_valid() -> None:
    assert validate(config()) == config()
    validate(oci_spec.default(rootless=True))


UINT32 = 1 << 32
REFUSED: list[tuple[str, object, str]] = [
    ("ociVersion", MISSING, "ociVersion: is missing"),
    ("ociVersion", "invalid", "ociVersion: 'invalid' is no semantic version"),
    ("ociVersion", "2.0.0", "ociVersion: '2.0.0' is not supported"),
    ("ociVersion", "1.0", "ociVersion"),
    ("ociVersion", 1, "ociVersion: must be a string, not a number"),
    ("root", MISSING, "root: is missing"),
    ("root", [], "root: must be an object, not an array"),
    ("root.path", MISSING, "root.path: is missing"),
    ("root.path", "", "root.path: must not be empty"),
    ("root.path", "a\0b", "root.path: must not hold a NUL byte"),
    ("root.readonly", "true", "root.readonly: must be a boolean, not a string"),
    ("process", MISSING, "process: is missing"),
    ("process", None, "process: is missing"),
    ("process.args", MISSING, "process.args: is missing"),
    ("process.args", [], "process.args: must not be empty"),
    ("process.args", "sh", "process.args: must be an array, not a string"),
    ("process.args", ["sh", 1], "process.args[1]: must be a string, not a number"),
    ("process.args", ["a\0b"], "process.args[0]: must not hold a NUL byte"),
    ("process.cwd", MISSING, "process.cwd: is missing"),
    ("process.cwd", "", "process.cwd: must not be empty"),
    ("process.cwd", "tmp", "process.cwd: must be an absolute path"),
    ("process.cwd", "/a\0", "process.cwd: must not hold a NUL byte"),
    ("process.env", ["A=\0"], "process.env[0]: must not hold a NUL byte"),
    ("process.env", ["A"], "process.env[0]: 'A' is not NAME=VALUE"),
    ("process.env", ["=A"], "process.env[0]"),
    ("process.terminal", 1, "process.terminal: must be a boolean, not a number"),
    ("process.consoleSize", {"height": 70000, "width": 1}, "process.consoleSize.height"),
    ("process.user.uid", -1, "process.user.uid: must be 0 to 4294967294, not -1"),
    ("process.user.uid", UINT32 - 1, "process.user.uid"),
    ("process.user.uid", UINT32, "process.user.uid"),
    ("process.user.uid", "0", "process.user.uid: must be a whole number, not a string"),
    ("process.user.uid", 1.0, "process.user.uid: must be a whole number"),
    ("process.user.uid", True, "process.user.uid: must be a whole number, not a boolean"),
    ("process.user.gid", -1, "process.user.gid"),
    ("process.user.additionalGids", [0, -1], "process.user.additionalGids[1]"),
    ("process.user.umask", 0o10000, "process.user.umask"),
    ("process.capabilities.bounding", "CAP_KILL", "process.capabilities.bounding"),
    ("process.capabilities.ambient", [1], "process.capabilities.ambient[0]"),
    ("process.rlimits", [{"type": "RLIMIT_X", "soft": 1, "hard": 1}], "process.rlimits[0].type"),
    ("process.rlimits", [{"type": "RLIMIT_CPU", "soft": 1}], "process.rlimits[0].hard: is missing"),
    ("process.rlimits.1", {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1}, "named twice"),
    ("process.rlimits.0.soft", 2000, "process.rlimits[0]: soft is above hard"),
    ("process.rlimits.0.soft", 1 << 64, "process.rlimits[0].soft"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj: must be -1000 to 1000, not 1001"),
    ("process.scheduler", {}, "process.scheduler.policy: is missing"),
    ("process.scheduler", {"policy": "SCHED_X"}, "process.scheduler.policy: unknown value"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice"),
    ("process.scheduler", {"policy": "SCHED_BATCH", "priority": 1}, "process.scheduler.priority"),
    ("process.scheduler", {"policy": "SCHED_FIFO", "runtime": 1}, "process.scheduler.runtime"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_X"}, "process.ioPriority.class"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}, "ioPriority.priority"),
    ("process.execCPUAffinity", {"initial": "0-"}, "process.execCPUAffinity.initial"),
    ("process.execCPUAffinity", {"final": "3-1"}, "process.execCPUAffinity.final"),
    ("hostname", "x" * 65, "hostname: is longer than 64 bytes"),
    ("hostname", 1, "hostname: must be a string"),
    ("mounts", {}, "mounts: must be an array"),
    ("mounts.0", {"source": "x"}, "mounts[0].destination: is missing"),
    ("mounts.0.destination", "", "mounts[0].destination: must not be empty"),
    ("mounts.0.options", ["ro", None], "mounts[0].options[1]: must be a string, not null"),
    ("mounts.0.source", "a\0", "mounts[0].source: must not hold a NUL byte"),
    (
        "mounts.0.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}],
        "mounts[0]: id mappings are for bind mounts only",
    ),
    ("hooks.prestart", [{"args": []}], "hooks.prestart[0].path: is missing"),
    ("hooks.poststop", [{"path": "bin/true"}], "hooks.poststop[0].path: must be an absolute path"),
    ("hooks.poststart", [{"path": "/a", "timeout": 0}], "hooks.poststart[0].timeout"),
    ("hooks.createRuntime", [{"path": "/a", "env": ["\0"]}], "hooks.createRuntime[0].env[0]"),
    ("annotations", {"": "x"}, "annotations"),
    ("annotations", {"a": 1}, "annotations.a: must be a string, not a number"),
    ("linux.namespaces.0.type", "foo", "linux.namespaces[0].type: unknown value 'foo'"),
    ("linux.namespaces.0.path", "x", "linux.namespaces[0].path: must be an absolute path"),
    ("linux.namespaces.5", {"type": "pid"}, "linux.namespaces[5]: namespace 'pid' is named twice"),
    (
        "linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}],
        "linux.uidMappings: needs a user namespace",
    ),
    ("linux.gidMappings", [{"containerID": 0, "hostID": 0}], "linux.gidMappings[0].size"),
    ("linux.gidMappings", [{"containerID": 0, "hostID": 0, "size": 0}], "gidMappings[0].size"),
    ("linux.namespaces.5", {"type": "user"}, "linux.uidMappings: is missing"),
    ("linux.timeOffsets", {"monotonic": {"secs": 1}}, "linux.timeOffsets: needs a time namespace"),
    ("linux.devices", [{"path": "/dev/x", "type": "c"}], "linux.devices[0].major: is missing"),
    ("linux.devices", [{"path": "dev/x", "type": "p"}], "linux.devices[0].path"),
    ("linux.devices", [{"path": "/dev/x", "type": "z"}], "linux.devices[0].type"),
    ("linux.cgroupsPath", 1, "linux.cgroupsPath"),
    ("linux.rootfsPropagation", "sharp", "linux.rootfsPropagation: unknown value"),
    ("linux.sysctl", {"vm.swappiness": "1"}, "linux.sysctl.vm.swappiness: is not in a separate"),
    ("linux.sysctl", {"kernel.hostname": "x"}, "conflicts with hostname"),
    ("linux.sysctl", {"net.ipv4.ip_forward": 1}, "linux.sysctl.net.ipv4.ip_forward: must be a"),
    ("linux.sysctl", {"net/../vm/swappiness": "1"}, "linux.sysctl"),
    ("linux.maskedPaths", ["proc/kcore"], "linux.maskedPaths[0]: must be an absolute path"),
    ("linux.seccomp", {}, "linux.seccomp.defaultAction: is missing"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_X"}, "seccomp.defaultAction: unknown value"),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "cannot be the default"),
    (
        "linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]},
        "linux.seccomp.architectures[0]: unknown value",
    ),
    (
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"names": [], "action": "SCMP_ACT_ERRNO"}]},
        "linux.seccomp.syscalls[0].names: must not be empty",
    ),
    (
        "linux.seccomp",
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["x"], "action": "SCMP_ACT_NOTIFY"}],
        },
        "linux.seccomp.listenerPath: is missing",
    ),
    (
        "linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x"},
        "linux.seccomp.listenerMetadata: is set without listenerPath",
    ),
    (
        "linux.seccomp",
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [
                {
                    "names": ["x"],
                    "action": "SCMP_ACT_ERRNO",
                    "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        "linux.seccomp.syscalls[0].args[0].index",
    ),
    ("linux.resources.memory", {"limit": "4294967296"}, "linux.resources.memory.limit"),
    ("linux.resources.memory", {"swappiness": 101}, "linux.resources.memory.swappiness"),
    ("linux.resources.cpu", {"cpus": "a"}, "linux.resources.cpu.cpus: 'a' is no list of numbers"),
    ("linux.resources.cpu", {"shares": -1}, "linux.resources.cpu.shares"),
    ("linux.resources.pids", {"limit": 1.5}, "linux.resources.pids.limit"),
    ("linux.resources.blockIO", {"weight": 5}, "linux.resources.blockIO.weight"),
    ("linux.resources.hugepageLimits", [{"pageSize": "2", "limit": 1}], "[0].pageSize"),
    ("linux.resources.unified", {"a/b": "1"}, "linux.resources.unified.a/b"),
    ("linux.resources.devices", [{"allow": True, "access": "x"}], "resources.devices[0].access"),
    ("linux.intelRdt", {"closID": "a/b"}, "linux.intelRdt.closID: 'a/b' is no group name"),
    ("linux.intelRdt", {"closID": "/a"}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"closID": "//"}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"closID": "."}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"closID": ".."}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"closID": "a\nb"}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"closID": ""}, "linux.intelRdt.closID"),
    ("linux.intelRdt", {"memBwSchema": "L3:0=f"}, "linux.intelRdt.memBwSchema"),
    ("linux.intelRdt", {"memBwSchema": "MB:0=1\nL3:0=f"}, "linux.intelRdt.memBwSchema"),
    ("linux.intelRdt", {"schemata": ["MB:0=1", "a\nb"]}, "linux.intelRdt.schemata[1]"),
    ("linux.memoryPolicy", {"mode": "MPOL_X"}, "linux.memoryPolicy.mode"),
    ("linux.personality", {"domain": "BSD"}, "linux.personality.domain"),
    ("linux.personality", {"domain": "LINUX", "flags": ["X"]}, "linux.personality.flags"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "why"), REFUSED)
def test_what_is_refused_is_named(path: str, value: object, why: str) -> None:
    with pytest.raises(InvalidError) as caught:
        validate(changed(path, value))
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert why in message
    assert "\n" not in message


ACCEPTED: list[tuple[str, object]] = [
    ("unknown", {"a": [1, None]}),
    ("process.unknown", 1),
    ("annotations", {"org.example": ""}),
    ("process.user", {}),
    ("process.user.uid", UINT32 - 2),
    ("process.args", [""]),
    ("hostname", ""),
    ("mounts.0.destination", "relative/is/old"),
    ("linux.namespaces.0.path", ""),
    ("linux.namespaces.0.path", "/proc/1/ns/pid"),
    ("linux.sysctl", {"net.ipv4.ip_forward": "1", "kernel.msgmax": "1", "kernel.domainname": "x"}),
    ("linux.sysctl", {"net/ipv4/conf/eth0.1/rp_filter": "1", "fs.mqueue.msg_max": "1"}),
    ("linux.devices", [{"path": "/dev/x", "type": "p", "fileMode": 0o20660}]),
    ("linux.resources.blockIO", {"weight": 0}),
    ("linux.resources.memory", {"limit": -1, "swap": -1}),
    ("linux.resources.cpu", {"cpus": "0-1,3", "mems": ""}),
    ("linux.resources.hugepageLimits", [{"pageSize": "2MB", "limit": (1 << 64) - 1}]),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": None}),
    ("linux.rootfsPropagation", "rslave"),
    ("linux.intelRdt", {}),
    ("linux.intelRdt", {"closID": "/", "enableMonitoring": True}),
    ("linux.intelRdt", {"closID": "gold", "l3CacheSchema": "L3:0=f\nMB:0=9", "schemata": []}),
    ("linux.personality", {"domain": "LINUX32"}),
    ("process.scheduler", {"policy": "SCHED_FIFO", "priority": 10, "nice": -20}),
    ("solaris", {}),
]


@pytest.mark.parametrize(("path", "value"), ACCEPTED)
def test_what_the_specification_allows_is_accepted(path: str, value: object) -> None:
    validate(changed(path, value))


def test_a_null_is_an_absent_field() -> None:
    document = changed("hostname", None)
    document["linux"]["seccomp"] = None
    found = validate(document)
    assert "hostname" not in found
    assert "seccomp" not in found["linux"]


@pytest.mark.parametrize("field", ["hostname", "domainname"])
def test_a_name_needs_a_uts_namespace(field: str) -> None:
    document = changed(field, "x")
    document["linux"]["namespaces"] = [{"type": "mount"}]
    with pytest.raises(InvalidError, match="name: needs a uts namespace"):
        validate(document)


@pytest.mark.parametrize("document", [None, [], "x", 1, True, {}])
def test_what_is_no_config_is_refused(document: object) -> None:
    with pytest.raises(InvalidError):
        validate(document)


def test_a_process_document_names_itself() -> None:
    with pytest.raises(InvalidError, match=r"^p\.json: args: must not be empty"):
        validate_process({"args": [], "cwd": "/"}, "p.json")


def test_resources_alone_are_held_to_the_same_rules() -> None:
    assert validate_resources({"memory": {"limit": 5}}) == {"memory": {"limit": 5}}
    with pytest.raises(InvalidError, match=r"resources: cpu\.mems"):
        validate_resources({"cpu": {"mems": "x"}})


JUNK = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(
    st.integers(), max_size=2
) | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)  # fmt: skip


@given(st.data())
def test_junk_anywhere_is_accepted_or_one_error(data: st.DataObject) -> None:
    document: Any = config()
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        inner = place[key]
        if not (isinstance(inner, dict | list) and inner and data.draw(st.booleans())):
            break
        place = inner
    place[key] = data.draw(JUNK)
    try:
        validate(document)
    except InvalidError as error:
        assert "\n" not in str(error)


def test_the_error_names_no_traceback_for_deep_values() -> None:
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    with pytest.raises(InvalidError):
        validate({"ociVersion": "1.0.0", "process": deep, "root": {"path": json.dumps("x")}})
