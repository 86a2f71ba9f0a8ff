"""Our documents against the specification's JSON schema: what we write, know and refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from oci_schema import Schema

from pycontain.cli import commands, fast, oci_spec
from pycontain.errors import InvalidError
from pycontain.oci.runtime import Features, Spec, State
from pycontain.runtime import state as states
from pycontain.runtime.capabilities import known
from pycontain.runtime.validate import validate
from pycontain.spec import builder
from pycontain.spec.host import Host, Identity
from pycontain.spec.options import RunOptions


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema("config-schema.json")


RUNS = [
    "",
    "-m 64m --memory-swap -1 --memory-reservation 32m --memory-swappiness 0 --oom-kill-disable",
    "--cpus 0.5 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit -1",
    "--cpu-shares 100 --cpu-quota 50000 --cpu-period 100000",
    "--ulimit nofile=10:20 --oom-score-adj 5 --shm-size 1m --umask 0027",
    "--hostname h --domainname d -u 5:6 --group-add 7 -w /tmp -e A=b --annotation a=b",
    "-v /tmp:/a:ro --mount type=bind,src=/tmp,dst=/b --tmpfs /t:size=1m --read-only --init",
    "--device-cgroup-rule 'c 10:200 rwm' --privileged",
    "--pid host --ipc host --uts host --network host --cgroupns host",
    "--cap-add ALL --cap-drop CHOWN --sysctl net.core.somaxconn=5",
    "--security-opt seccomp=unconfined --security-opt no-new-privileges=false -it",
]


@pytest.mark.parametrize("words", RUNS)
def test_the_config_of_run_is_valid(schema: Schema, words: str) -> None:
    import shlex

    argv = ["run", *shlex.split(words), "box", "true"]
    parsed = fast.parse(argv, commands.GLOBAL, commands.command_named)
    assert parsed is not None
    wanted = {name: v for name, v in parsed.values.items() if name in RunOptions.__annotations__}
    facts = Host("a" * 64, "/rootfs", Identity(0, 0, [], "/root", ""))
    facts.capabilities = known()
    facts.namespaces = {
        name: "/proc/1/ns/x" if wanted.get(name) == "host" else ""
        for name in ("mount", "pid", "ipc", "uts", "network", "cgroup")
    }
    spec, _ = builder.build(RunOptions(wanted), {"Cmd": ["true"]}, [], facts)
    assert schema.faults(json.loads(json.dumps(spec))) == []


@pytest.mark.parametrize("rootless", [False, True])
def test_the_config_of_spec_is_valid(schema: Schema, rootless: bool) -> None:
    assert schema.faults(oci_spec.default(rootless=rootless)) == []


@pytest.mark.parametrize("status", ["creating", "created", "running", "stopped"])
def test_the_state_is_valid(status: str) -> None:
    state = states.State("one", "/bundle", "/bundle/rootfs", "1.3.0")
    state.annotations = {"a": "b"}
    state.pid = 7
    for document in (states.document(state, status), states.listing(state, status)):
        assert Schema("state-schema.json").faults(document) == []


# Of other systems.
FOREIGN = {"solaris", "windows", "vm", "zos"}


def missing(schema: Schema, node: Any, hint: Any, place: str = "", resolver: Any = None) -> Any:
    """Yield the fields of the schema that the types lack."""
    resolver = resolver or schema.resolver
    while "$ref" in node:
        found = resolver.lookup(node["$ref"])
        node, resolver = found.contents, found.resolver
    if get_origin(hint) is list:
        yield from missing(schema, node["items"], get_args(hint)[0], place + "[]", resolver)
    for choice in node.get("anyOf", []):
        yield from missing(schema, choice, hint, place, resolver)
    if hasattr(hint, "__required_keys__"):
        types = get_type_hints(hint)
        for name, inner in node.get("properties", {}).items():
            if name in types:
                yield from missing(schema, inner, types[name], f"{place}.{name}", resolver)
            elif place or name not in FOREIGN:
                yield f"{place}.{name}"


def test_the_types_have_every_field_of_the_schema(schema: Schema) -> None:
    # Deprecated, and a command line of Windows.
    assert set(missing(schema, schema.root, Spec)) <= {".process.commandLine"}
    state = Schema("state-schema.json")
    assert list(missing(state, state.root, State)) == []
    assert "linux" in get_type_hints(Features)


_MAPPING = [{"containerID": 0, "hostID": 1000, "size": 10}]
_THROTTLE = [{"major": 8, "minor": 0, "rate": 5}]
FULL: dict[str, Any] = {
    **oci_spec.default(rootless=False),
    "domainname": "example",
    "annotations": {"a": "b"},
    "hooks": {
        stage: [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 5}]
        for stage in ("prestart", "createRuntime", "createContainer", "startContainer", "poststop")
    },
}
FULL["process"] |= {
    "consoleSize": {"height": 5, "width": 6},
    "terminal": True,
    "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]},
    "oomScoreAdj": 5,
    "rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}],
}
FULL["linux"] |= {
    "namespaces": [
        {"type": name} for name in ("pid", "network", "ipc", "uts", "mount", "user", "cgroup")
    ],
    "uidMappings": _MAPPING,
    "gidMappings": _MAPPING,
    "devices": [
        {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}
    ],
    "cgroupsPath": "/one",
    "rootfsPropagation": "private",
    "sysctl": {"net.core.somaxconn": "5"},
    "personality": {"domain": "LINUX", "flags": []},
    "seccomp": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [
            {
                "names": ["read"],
                "action": "SCMP_ACT_ALLOW",
                "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_EQ"}],
            }
        ],
    },
    "resources": {
        "devices": [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}],
        "memory": {"limit": 1 << 30, "swap": 1 << 31, "swappiness": 5, "disableOOMKiller": True},
        "cpu": {"shares": 5, "quota": 6, "period": 7, "cpus": "0", "mems": "0", "idle": 0},
        "pids": {"limit": 5},
        "blockIO": {
            "weight": 10,
            "leafWeight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 10}],
            "throttleReadBpsDevice": _THROTTLE,
            "throttleWriteIOPSDevice": _THROTTLE,
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 5}],
        "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 5}]},
        "rdma": {"mlx5": {"hcaHandles": 5, "hcaObjects": 6}},
        "unified": {"memory.high": "5"},
    },
}
JUNK = [
    True, 0, 1, -1, -3, 1 << 16, 1 << 32, 1 << 63, 1 << 64, -(1 << 63) - 1, 0.5, "", "x", "/x", "5",
    [], ["x"], [5], {}, {"x": 5}, {"x": "y"},
]  # fmt: skip


def test_a_config_with_every_field_is_valid(schema: Schema) -> None:
    assert schema.faults(FULL) == []
    validate(copy.deepcopy(FULL))


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value of a document."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def accepted(path: tuple[str | int, ...], value: Any) -> dict[str, Any] | None:
    """Return the full document with `value` at `path`, None when it is refused."""
    document: Any = copy.deepcopy(FULL)
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    try:
        validate(copy.deepcopy(document))
    except InvalidError:
        return None
    return document  # type: ignore[no-any-return]


LENIENT = {
    "linux.rootfsPropagation": "empty is absent, and the recursive rprivate is what runc writes",
    "linux.devices.0.fileMode": "the schema leaves no room for set-id bits",
    "linux.resources.pids": "an object without limit limits nothing",
    "linux.resources.devices.0": "a rule that does not say allow denies, as in Go's zero value",
}
"""Places where engines' documents are taken although the schema refuses them."""


def test_what_the_schema_refuses_is_refused(schema: Schema) -> None:
    found = set()
    for path in places(FULL):
        for value in JUNK:
            document = accepted(path, value)
            if document and schema.faults(document):
                found.add(".".join(map(str, path)))
    assert found == set(LENIENT)
