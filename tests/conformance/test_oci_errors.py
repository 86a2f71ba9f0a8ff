"""Broken and hostile bundles: one line, non-zero, nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

DOCUMENTS: dict[str, bytes] = {
    "empty": b"",
    "an array": b"[]",
    "truncated": b'{"ociVersion": "1.0.2", "process": {',
    "not JSON": b"hello",
    "not UTF-8": b'{"ociVersion": "\xff\xfe"}',
    "no process": b'{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}',
    "no root": b'{"ociVersion": "1.0.2", "process": {"args": ["true"], "cwd": "/"}}',
    "deep": b"[" * 100000,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_broken_document_is_refused(oci: Oci, bundle: Bundle, name: str) -> None:
    (bundle.path / "config.json").write_bytes(DOCUMENTS[name])
    _refused(oci, bundle)


def test_a_missing_config_is_refused(oci: Oci, bundle: Bundle) -> None:
    _refused(oci, bundle)


def test_a_missing_bundle_is_refused(oci: Oci) -> None:
    oci.fails("create", "--bundle", "/no/such/bundle", "one")


@pytest.mark.lacks(runc="opens it and waits", crun="opens it and waits")
def test_a_fifo_as_config_does_not_hang(oci: Oci, bundle: Bundle) -> None:
    import os

    os.mkfifo(bundle.path / "config.json")
    oci.fails("create", "--bundle", bundle.path, "one", timeout=10)


REFUSED: dict[str, tuple[str, Any]] = {
    "args empty": ("process.args", []),
    "args with NUL": ("process.args", ["true\0"]),
    "env with NUL": ("process.env", ["A=\0"]),
    "cwd relative": ("process.cwd", "tmp"),
    "cwd empty": ("process.cwd", ""),
    "uid as text": ("process.user.uid", "0"),
    "uid negative": ("process.user.uid", -1),
    "uid beyond 32 bits": ("process.user.uid", 1 << 32),
    "memory as text": ("linux.resources", {"memory": {"limit": "4294967296"}}),
    "unknown namespace": ("linux.namespaces", [{"type": "nope"}]),
    "namespace named twice": ("linux.namespaces", [{"type": "pid"}, {"type": "pid"}]),
    "unknown rlimit": ("process.rlimits", [{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]),
    "rootfs missing": ("root.path", "nowhere"),
    "rootfs is a file": ("root.path", "config.json"),
    "seccomp action": ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOPE"}),
    "seccomp architecture": (
        "linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"]},
    ),
    "host sysctl": ("linux.sysctl", {"vm.swappiness": "10"}),
    "propagation": ("linux.rootfsPropagation", "nope"),
    "namespace path missing": ("linux.namespaces", [{"type": "network", "path": "/no/such/ns"}]),
    "namespace of the wrong type": (
        "linux.namespaces",
        [{"type": "network", "path": "/proc/self/ns/uts"}, {"type": "mount"}],
    ),
    "mounts is an object": ("mounts", {}),
    "hook missing": ("hooks", {"createRuntime": [{"path": "/no/such/hook"}]}),
}  # fmt: skip

OWN: dict[str, tuple[str, Any]] = {
    "mapping without user namespace": (
        "linux.uidMappings", [{"containerID": 0, "hostID": 0, "size": 1}],
    ),
    "version of another major": ("ociVersion", "2.0.0"),
    "version that is none": ("ociVersion", "invalid"),
    "version missing": ("ociVersion", None),
    "rlimit named twice": (
        "process.rlimits", [{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}] * 2,
    ),
    "hook with a relative path": ("hooks", {"poststop": [{"path": "bin/true"}]}),
    "masked path relative": ("linux.maskedPaths", ["proc/kcore"]),
    "apparmor that is not there": ("process.apparmorProfile", "no-such-profile"),
}  # fmt: skip


def _set(bundle: Bundle, path: str, value: Any) -> None:
    place = bundle.config
    *parents, last = path.split(".")
    for key in parents:
        place = place[key]
    place[last] = value


TAKEN_BY_CRUN = {"args with NUL", "cwd relative", "uid as text", "memory as text", "propagation"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.lacks(crun="tolerates it"))
        if name in TAKEN_BY_CRUN
        else name
        for name in REFUSED
    ],
)
def test_a_bad_value_is_refused(oci: Oci, bundle: Bundle, name: str) -> None:
    _set(bundle, *REFUSED[name])
    bundle.write()
    _refused(oci, bundle)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.lacks(runc="tolerates it", crun="tolerates it")
def test_a_bad_value_runc_tolerates_is_refused(oci: Oci, bundle: Bundle, name: str) -> None:
    _set(bundle, *OWN[name])
    bundle.write()
    _refused(oci, bundle)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", {"a": 1}),
        ("annotations", {"org.example.unknown": ""}),
        ("linux.unknown", "x"),
        ("process.capabilities.bounding", ["CAP_KILL", "CAP_NOT_INVENTED_YET"]),
    ],
)
def test_what_is_unknown_is_tolerated(oci: Oci, bundle: Bundle, path: str, value: Any) -> None:
    _set(bundle, path, value)
    oci.run(bundle)


@pytest.mark.lacks(crun="other words")
def test_the_log_gets_one_json_object_per_line(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    bundle.command("no-such-program")
    bundle.write()
    argv = ["--log", log, "--log-format", "json", "create", "--bundle", bundle.path, "one"]
    assert oci.fails(*argv)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries
    last = entries[-1]
    assert last["level"] == "error"
    assert "executable file not found" in last["msg"]
    assert last["time"].startswith("20")


def test_an_unknown_verb_and_an_unknown_option_are_errors(oci: Oci) -> None:
    oci.fails("--no-such-option", "list")
    oci.fails("list", "--no-such-option")


def test_version_and_help(oci: Oci) -> None:
    version = oci("--version").out
    assert " version " in version.splitlines()[0]
    assert any(line.startswith("spec: 1.") for line in version.splitlines())
    assert "create" in oci("--help").out
    assert "--pid-file" in oci("create", "--help").out


def _refused(oci: Oci, bundle: Bundle) -> None:
    message = oci.fails("create", "--bundle", bundle.path, "one")
    assert len(message.strip().splitlines()) == 1 or oci.name != "own", message
    oci.fails("state", "one")
    assert oci("list", "-q").out == ""


@pytest.mark.parametrize("verb", ["create", "run"])
@pytest.mark.lacks(runc="other words", crun="other words")
def test_resource_control_needs_its_file_system(oci: Oci, bundle: Bundle, verb: str) -> None:
    if b" - resctrl " in Path("/proc/self/mountinfo").read_bytes():
        pytest.skip("resctrl is mounted here")
    bundle.linux["intelRdt"] = {"l3CacheSchema": "L3:0=f"}
    bundle.write()
    said = oci.fails(verb, "--bundle", bundle.path, "one")
    assert "linux.intelRdt" in said
    assert "mount -t resctrl resctrl /sys/fs/resctrl" in said
    oci.fails("state", "one")
    assert oci("list", "-q").out == ""


@pytest.mark.lacks(runc="other words", crun="other words")
def test_an_update_of_resource_control_needs_its_file_system(oci: Oci, bundle: Bundle) -> None:
    if b" - resctrl " in Path("/proc/self/mountinfo").read_bytes():
        pytest.skip("resctrl is mounted here")
    bundle.command("sleep", "100")
    bundle.write()
    oci("create", "--bundle", bundle.path, "one")
    said = oci.fails("update", "--mem-bw-schema", "MB:0=20", "one")
    assert "mount -t resctrl resctrl /sys/fs/resctrl" in said
    assert "--mem-bw-schema" in oci.fails("update", "--mem-bw-schema", "L3:0=f", "one")
    oci("delete", "--force", "one")


@pytest.mark.parametrize("where", ["proc", "sys"])
@pytest.mark.lacks(crun="other words")
def test_a_link_in_place_of_a_kernel_file_system_is_refused(
    oci: Oci, bundle: Bundle, where: str
) -> None:
    (bundle.rootfs / where).rmdir()
    (bundle.rootfs / where).symlink_to("/elsewhere")
    bundle.write()
    said = oci.fails("run", "--bundle", bundle.path, "one")
    assert "must be mounted on ordinary directory" in said


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("mkdir", "failed to connect with seccomp agent"),
        ("write", "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
    ],
)
@pytest.mark.lacks(crun="other words")
def test_a_seccomp_agent_that_cannot_serve(
    oci: Oci, bundle: Bundle, tmp_path: Path, call: str, message: str
) -> None:
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(tmp_path / "nobody"),
        "syscalls": [{"names": [call], "action": "SCMP_ACT_NOTIFY"}],
    }
    bundle.write()
    assert message in oci.fails("run", "--bundle", bundle.path, "one")


@pytest.mark.lacks(crun="other words")
def test_an_unknown_command_is_named(oci: Oci) -> None:
    assert "No help topic for 'nonsense'" in oci.fails("nonsense", "-h")


@pytest.mark.lacks(crun="other order")
def test_list_is_in_the_order_of_runc(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    (entry,) = json.loads(oci("list", "--format", "json").out)
    known = ("ociVersion", "id", "pid", "status", "bundle", "rootfs", "created")
    assert tuple(name for name in entry if name in known) == known
