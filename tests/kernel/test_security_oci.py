"""Hostile bundles, states and arguments for the OCI command line: one line, nothing left."""

from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostcheck import Canary, links
from oci_driver import CONFIG, Bundle, Oci, make_rootfs
from support import BIN

pytestmark = pytest.mark.root

SECONDS = 20


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oci") / "rootfs"
    make_rootfs(path)
    return path


@pytest.fixture
def oci(rootfs: Path, tmp_path: Path) -> Iterator[Oci]:
    before = (Path("/proc/self/mountinfo").read_text().count("\n"), links(), _cgroups())
    oci = Oci(BIN / "pycontain-oci", tmp_path, rootfs)
    yield oci
    oci.clean()
    assert os.listdir(oci.state_root) == [] if oci.state_root.exists() else True
    deadline = time.monotonic() + 5
    while _cgroups() - before[2] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Path("/proc/self/mountinfo").read_text().count(str(tmp_path)) == 0
    assert links() == before[1]
    assert not {name for name in _cgroups() - before[2] if "hostile" in name}


@pytest.fixture
def bundle(oci: Oci) -> Bundle:
    return oci.bundle()


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    return Canary(tmp_path / "canary")


def _cgroups() -> set[str]:
    return {str(p) for p in Path("/sys/fs/cgroup").glob("*/*")} | {
        str(p) for p in Path("/sys/fs/cgroup").glob("*")
    }


def is_one_error(text: str) -> bool:
    """Return whether this is one line of error (warnings before it aside), and no bug."""
    errors = [line for line in text.strip().splitlines() if "level=warning" not in line]
    return len(errors) == 1 and "internal error" not in text


def one_line(oci: Oci, *words: object) -> str:
    """Run what must fail; return its one line."""
    message = oci.fails(*words, timeout=SECONDS)
    assert is_one_error(message), message
    return message


# config.json: every field with every kind of wrong value


def places(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value in a document."""
    if path:
        yield path
    if isinstance(tree, dict | list):
        items: Any = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from places(value, (*path, key))


def put(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of a document with one value replaced."""
    changed = copy.deepcopy(tree)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


FULL: dict[str, Any] = {
    **copy.deepcopy(CONFIG),
    "domainname": "d",
    "annotations": {"a": "b"},
    "hooks": {
        "createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=1"], "timeout": 5}]
    },
}
FULL["process"].update(
    {
        "terminal": False,
        "consoleSize": {"height": 24, "width": 80},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
        "oomScoreAdj": 100,
        "apparmorProfile": "",
        "selinuxLabel": "",
        "scheduler": {"policy": "SCHED_OTHER", "nice": 1},
        "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
    }
)
FULL["process"]["user"].update({"additionalGids": [5], "umask": 18})
FULL["linux"].update(
    {
        "devices": [{"path": "/dev/null2", "type": "c", "major": 1, "minor": 3, "fileMode": 438,
        "uid": 0, "gid": 0}],
        "sysctl": {"net.ipv4.ip_forward": "0"},
        "cgroupsPath": "/hostile-fuzz",
        "rootfsPropagation": "private",
        "mountLabel": "",
        "resources": {
            "devices": [{"allow": False, "access": "rwm"}],
            "memory": {"limit": 67108864, "swap": 67108864, "reservation": 33554432},
            "cpu": {"shares": 100, "quota": 50000, "period": 100000, "cpus": "0"},
            "pids": {"limit": 100},
            "blockIO": {"weight": 100},
            "unified": {},
        },
        "seccomp": {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                          "args": [{"index": 0, "value": 1, "valueTwo": 0, "op": "SCMP_CMP_EQ"}]}],
        },
        "uidMappings": [],
        "timeOffsets": {},
        "intelRdt": {},
        "personality": {"domain": "LINUX"},
    }
)  # fmt: skip
WRONG: list[Any] = [
    None, True, -1, 0, 1 << 31, 1 << 32, 1 << 64, 1.5, -1e308, "", "x", "a\0b", "\n\x1b[2J",
        "../" * 30,
    "x" * 100_000, [], [[]], ["x"] * 3000, {}, {"x": 1}, [None], "\u0661",
]  # fmt: skip


def test_every_field_with_values_it_cannot_have(oci: Oci, bundle: Bundle) -> None:
    """The validator alone, every field by every value: InvalidError or a Spec, never another."""
    from pycontain.errors import PycontainError
    from pycontain.runtime.validate import validate

    paths = [*places(FULL)]
    assert len(paths) > 120
    for path in paths:
        for value in WRONG:
            try:
                validate(put(FULL, path, value))
            except PycontainError as error:
                assert "\n" not in str(error)
                assert len(str(error)) < 30_000, path


def test_what_the_validator_lets_through_runs_or_is_refused(oci: Oci, bundle: Bundle) -> None:
    """A sample of changes that pass the validator, through the whole runtime."""
    from pycontain.errors import PycontainError
    from pycontain.runtime.validate import validate

    dull = {("annotations",), ("hooks",), ("ociVersion",)}
    passed = []
    for path in places(FULL):
        if path[:1] in dull or path[0] == "annotations":
            continue
        for value in WRONG:
            document = put(FULL, path, value)
            try:
                validate(copy.deepcopy(document))
            except PycontainError:
                continue
            passed.append((path, value, document))
    sample = random.Random(7).sample(passed, min(90, len(passed)))
    for path, value, document in sample:
        (bundle.path / "config.json").write_text(json.dumps(document))
        done = oci("run", "--bundle", bundle.path, "hostile", status=None, timeout=SECONDS)
        where = (path, str(value)[:50], done.status, done.err[:300])
        assert "internal error" not in done.err, where
        if done.status:
            assert not done.err or is_one_error(done.err), where
        oci("delete", "--force", "hostile", status=None)


REMOVED = [path for path in places(FULL) if len(path) <= 3]


def test_every_field_left_out(oci: Oci, bundle: Bundle) -> None:
    for path in REMOVED:
        document = copy.deepcopy(FULL)
        place: Any = document
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]
        if len(path) > 2 and isinstance(path[-1], int):
            continue
        (bundle.path / "config.json").write_text(json.dumps(document))
        done = oci("run", "--bundle", bundle.path, "hostile", status=None, timeout=SECONDS)
        assert "internal error" not in done.err, (path, done.err)
        assert not done.err or is_one_error(done.err), (path, done.err)
        if path in (
            ("process",),
            ("root",),
            ("process", "args"),
            ("process", "cwd"),
            ("root", "path"),
        ):
            assert done.status != 0, path
        oci("delete", "--force", "hostile", status=None)


# places in the bundle and on the command line


HOSTILE_IDS = [
    "", ".", "..", "../x", "a/b", "/abs", "a\nb", "a\x1b[2J", "a b", "x" * 1025, "a\u0661",
    "a%n", "*", "$(id)", "a;b", ".hidden/../..", "\\",
]  # fmt: skip


@pytest.mark.parametrize("verb", ["create", "run", "state", "start", "kill", "delete", "exec"])
def test_hostile_ids(oci: Oci, bundle: Bundle, verb: str) -> None:
    bundle.write()
    for identity in HOSTILE_IDS:
        words: list[object] = [verb]
        words += ["--bundle", bundle.path] if verb in ("create", "run") else []
        words += ["--", identity] + (["true"] if verb == "exec" else [])
        done = oci(*words, status=None, timeout=SECONDS)
        assert done.status != 0, identity
        assert is_one_error(done.err), (identity, done.err)
        assert "\x1b" not in done.err
        assert "internal error" not in done.err, (identity, done.err)
    assert not oci.state_root.exists() or os.listdir(oci.state_root) == []


def test_hostile_bundles(oci: Oci, bundle: Bundle, tmp_path: Path, canary: Canary) -> None:
    bundle.write()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for place in ("", "/no/such", tmp_path / "file", tmp_path / "loop", tmp_path / "fifo",
        "/dev/null",
                  "/proc/self/fd/99", "a\0b"[:1] + "\n", "/" + "x" * 5000):  # fmt: skip
        one_line(oci, "create", "--bundle", place, "hostile")
    config = bundle.path / "config.json"
    content = config.read_bytes()
    for kind in ("directory", "loop", "device", "huge"):
        config.unlink()
        if kind == "directory":
            config.mkdir()
        elif kind == "loop":
            config.symlink_to("config.json")
        elif kind == "device":
            os.mknod(config, 0o20666, os.makedev(1, 5))
        else:
            config.write_bytes(content + b" " * (64 << 20))
        one_line(oci, "create", "--bundle", bundle.path, "hostile")
        if kind == "directory":
            config.rmdir()
            config.touch()
    config.unlink()
    for target in (canary.path, "/", "/proc/self/root", "../../..", "loop"):
        bundle.rootfs.rename(tmp_path / "aside")
        bundle.rootfs.symlink_to(target)
        bundle.shell("echo x > /victim; rm -rf /vdir")
        bundle.process["args"] = ["/no/such/program"]
        bundle.write()
        done = oci("run", "--bundle", bundle.path, "hostile", status=None, timeout=SECONDS)
        assert done.status != 0
        assert is_one_error(done.err), done.err
        bundle.rootfs.unlink()
        (tmp_path / "aside").rename(bundle.rootfs)
    assert (canary.path / "victim").read_text() == "canary-content\n"


def destinations(canary: Canary) -> list[str]:
    return [
        f"/../../../{canary.path}/new", f"{canary.climb}/new", "/link/new", "/link/vdir",
            "/chain/new",
        "/dangling/new", "/loop/x", "relative", "", "/proc/self/root/new", "/proc/self/cwd/x",
        "/a/../../b", "/./x//y/.", "/\n", "/etc/passwd/x", "/" + "x" * 300, "/" + "x/" * 3000,
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["bind", "tmpfs", "file"])
def test_mount_destinations_stay_inside(
    oci: Oci, bundle: Bundle, tmp_path: Path, canary: Canary, kind: str
) -> None:
    (bundle.rootfs / "link").symlink_to(canary.path)
    (bundle.rootfs / "chain").symlink_to("link")
    (bundle.rootfs / "dangling").symlink_to(f"{canary.path}/absent/x")
    (bundle.rootfs / "loop").symlink_to("loop")
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "plain").write_text("x")
    mounts = list(bundle.config["mounts"])
    for place in destinations(canary):
        bundle.config["mounts"] = list(mounts)
        if kind == "tmpfs":
            bundle.mount(place, "tmpfs", "tmpfs")
        else:
            bundle.mount(
                place, "bind", str(source if kind == "bind" else tmp_path / "plain"), "rbind"
            )
        done = oci.run(bundle, "hostile", status=None, timeout=SECONDS)
        assert "internal error" not in done.err, (place[:40], done.err)
        if done.status:
            assert is_one_error(done.err), (place[:40], done.err)
        oci("delete", "--force", "hostile", status=None)
        assert canary.untouched(), place[:40]


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths", "devices", "cwd"])
def test_other_paths_stay_inside(oci: Oci, bundle: Bundle, canary: Canary, key: str) -> None:
    (bundle.rootfs / "link").symlink_to(canary.path)
    (bundle.rootfs / "loop").symlink_to("loop")
    for place in ("/link/victim", "/link/vdir", "/link/new", "/../../" + canary.climb, "/loop/x",
        "/",
                  "/proc/self/root/etc", "/proc/1/fd/3", "/dev/fd/3"):  # fmt: skip
        document = copy.deepcopy(bundle.config)
        if key == "cwd":
            document["process"]["cwd"] = place
        elif key == "devices":
            document["linux"]["devices"] = [{"path": place, "type": "c", "major": 1, "minor": 3}]
        else:
            document["linux"][key] = [place]
        document["process"]["args"] = ["sh", "-c", "pwd -P; cat victim ../victim 2>/dev/null; :"]
        (bundle.path / "config.json").write_text(json.dumps(document))
        done = oci("run", "--bundle", bundle.path, "hostile", status=None, timeout=SECONDS)
        assert "internal error" not in done.err, (place, done.err)
        assert "canary-content" not in done.out
        oci("delete", "--force", "hostile", status=None)
        assert canary.untouched(), place


def test_files_the_caller_names(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    """pid file, console socket, log: odd places fail the call and leave no container."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    bundle.write()
    create = ["create", "--bundle", bundle.path]
    for place in ("/no/such/pid", tmp_path / "directory", "/proc/pid", ""):
        done = oci(*create, "--pid-file", place, "hostile", status=None, timeout=SECONDS)
        if done.status:
            assert is_one_error(done.err), done.err
            oci.fails("state", "hostile")
        oci("delete", "--force", "hostile", status=None)
    bundle.process["terminal"] = True
    bundle.write()
    for place in (
        "/no/such/socket",
        tmp_path / "directory",
        tmp_path / "fifo",
        "/dev/null",
        "x" * 300,
    ):
        one_line(oci, *create, "--console-socket", place, "hostile")
        oci.fails("state", "hostile")
    for place in ("/no/such/log", tmp_path / "directory"):
        done = oci("--log", place, "state", "hostile", status=None, timeout=SECONDS)
        assert done.status != 0
        assert "Traceback" not in done.err


# hooks


@pytest.mark.parametrize(
    "stage", ["prestart", "createRuntime", "createContainer", "startContainer"]
)
@pytest.mark.parametrize(
    "how", ["missing", "directory", "not executable", "fails", "killed", "hangs"]
)
def test_hooks_that_fail_leave_nothing(
    oci: Oci, bundle: Bundle, tmp_path: Path, stage: str, how: str
) -> None:
    hook: dict[str, Any] = {
        "missing": {"path": "/no/such"},
        "directory": {"path": "/"},
        "not executable": {"path": "/etc/passwd"},
        "fails": {"path": "/bin/sh", "args": ["sh", "-c", "echo noise >&2; exit 3"]},
        "killed": {"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $$"]},
        "hangs": {"path": "/bin/sh", "args": ["sh", "-c", "sleep 300"], "timeout": 1},
    }[how]
    bundle.config["hooks"] = {stage: [hook]}
    bundle.write()
    began = time.monotonic()
    done = oci("run", "--bundle", bundle.path, "hostile", status=None, timeout=SECONDS)
    assert done.status != 0
    assert "internal error" not in done.err
    assert time.monotonic() - began < 15
    oci("delete", "--force", "hostile", status=None)
    oci.fails("state", "hostile")


# the state on disk


DAMAGES: dict[str, bytes] = {
    "empty": b"", "list": b"[]", "cut": b'{"id": "hos', "deep": b"[" * 100_000,
    "not UTF-8": b"\xff\xfe",
    "wrong types": b'{"id":1,"pid":"x","bundle":[],"status":{},"annotations":7}',
    "other pid": b'{"ociVersion":"1.0.2","id":"hostile","pid":1,"bundle":"/","status":"running"}',
    "huge pid": b'{"ociVersion":"1.0.2","id":"hostile","pid":99999999999999999999,"bundle":"/"}',
}  # fmt: skip


@pytest.mark.parametrize("name", [*DAMAGES, "fifo", "directory", "loop", "gone"])
def test_a_damaged_state(oci: Oci, bundle: Bundle, name: str) -> None:
    """Every verb fails with one line, `delete --force` clears up, others are listed still."""
    oci.running(bundle, "hostile")
    pid = oci.state("hostile")["pid"]
    (path,) = [p for p in (oci.state_root / "hostile").iterdir() if p.name == "state.json"]
    saved = path.read_bytes()
    path.unlink()
    if name in DAMAGES:
        path.write_bytes(DAMAGES[name])
    elif name == "fifo":
        os.mkfifo(path)
    elif name == "directory":
        path.mkdir()
    elif name == "loop":
        path.symlink_to("state.json")
    try:
        for words in (["state"], ["start"], ["kill"], ["exec"], ["pause"], ["resume"], ["ps"]):
            extra = ["true"] if words == ["exec"] else []
            done = oci(*words, "hostile", *extra, status=None, timeout=SECONDS)
            assert done.status != 0, words
            assert is_one_error(done.err), (words, done.err)
            assert "internal error" not in done.err, (words, done.err)
        oci("list", status=None, timeout=SECONDS)
        done = oci("delete", "--force", "hostile", status=None, timeout=SECONDS)
        assert "internal error" not in done.err, done.err
        assert Path(f"/proc/{os.getpid()}").exists()
        assert Path("/proc/1").exists()
    finally:
        if (oci.state_root / "hostile").is_dir():
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)
            path.write_bytes(saved)
            oci("delete", "--force", "hostile")
        elif Path(f"/proc/{pid}").exists():
            os.kill(pid, 9)


def test_a_killed_create_can_be_done_again(oci: Oci, bundle: Bundle) -> None:
    bundle.write()
    for moment in range(12):
        process = subprocess.Popen(
            oci.argv("create", "--bundle", bundle.path, "hostile"),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(0.01 * moment)
        process.kill()
        process.wait()
        oci("delete", "--force", "hostile", status=None, timeout=SECONDS)
        oci.create(bundle, "hostile", timeout=SECONDS)
        oci("delete", "--force", "hostile")
