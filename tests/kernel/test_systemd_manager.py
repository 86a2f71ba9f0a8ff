"""The systemd cgroup manager where systemd runs on cgroup v2, next to runc.

tests/vm runs this file in a guest under a systemd of its own; a host with systemd runs it, too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from oci_driver import Bundle, Oci, launcher, make_rootfs
from support import Cli

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not Path("/run/systemd/system").exists(), reason="needs systemd as init process"
    ),
    pytest.mark.skipif(
        not Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="needs cgroup v2 alone"
    ),
]

UNIFIED = Path("/sys/fs/cgroup")
UID = 1000
LIMITS = {
    "memory": {"limit": 64 << 20, "reservation": 16 << 20, "swap": 96 << 20},
    "cpu": {"quota": 25000, "period": 100000, "cpus": "0"},
    "pids": {"limit": 20},
}


class Systemd(Oci):
    """A runtime that is told to use systemd."""

    def argv(self, *args: object) -> list[str]:
        words = super().argv(*args)
        return [words[0], "--systemd-cgroup", *words[1:]]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("busybox") / "rootfs"
    make_rootfs(path)
    return path


@pytest.fixture(params=["pycontain-oci", "runc"])
def oci(request: pytest.FixtureRequest, rootfs: Path, tmp_path: Path) -> Iterator[Systemd]:
    if request.param == "runc" and not shutil.which("runc"):
        pytest.skip("runc is not installed")
    program = launcher() if request.param == "pycontain-oci" else Path(str(shutil.which("runc")))
    oci = Systemd(program, tmp_path, rootfs)
    yield oci
    oci.clean()


@pytest.fixture
def bundle(oci: Systemd) -> Bundle:
    bundle = oci.bundle()
    bundle.linux["cgroupsPath"] = f"system.slice:pre:{bundle.path.parent.name[-9:]}"
    bundle.linux["namespaces"].append({"type": "cgroup"})
    bundle.linux["resources"] = dict(LIMITS)
    return bundle


def unit_of(bundle: Bundle) -> str:
    _, prefix, name = bundle.linux["cgroupsPath"].split(":")
    return f"{prefix}-{name}.scope"


def shown(unit: str, *names: str) -> list[str]:
    command = ["systemctl", "show", unit, *(f"--property={name}" for name in names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    return [lines[name] for name in names]


def gone(unit: str) -> bool:
    deadline = time.monotonic() + 20
    while shown(unit, "ActiveState") != ["inactive"]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return not (UNIFIED / "system.slice" / unit).exists()


def test_a_container_is_a_scope_with_its_limits(oci: Systemd, bundle: Bundle) -> None:
    bundle.config["annotations"] = {
        "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
        "org.systemd.property.Description": "'two words'",
    }
    unit = unit_of(bundle)
    oci.running(bundle, seconds=3000)
    cgroup = UNIFIED / "system.slice" / unit
    assert str(oci.state()["pid"]) in (cgroup / "cgroup.procs").read_text().split()
    names = ("ControlGroup", "Slice", "Delegate", "ActiveState", "TimeoutStopUSec", "Description")
    assert shown(unit, *names) == [
        f"/system.slice/{unit}", "system.slice", "yes", "active", "7s", "two words",
    ]  # fmt: skip
    names = ("MemoryMax", "MemoryLow", "MemorySwapMax", "CPUQuotaPerSecUSec", "TasksMax")
    assert shown(unit, *names, "AllowedCPUs") == [
        str(64 << 20), str(16 << 20), str(32 << 20), "250ms", "20", "0",
    ]  # fmt: skip
    for file, value in (
        ("memory.max", str(64 << 20)), ("memory.low", str(16 << 20)), ("cpu.max", "25000 100000"),
        ("pids.max", "20"), ("cpuset.cpus", "0"),
    ):  # fmt: skip
        assert (cgroup / file).read_text().strip() == value
    assert oci.exec("one", "cat", "/proc/self/cgroup").out.endswith("0::/\n")
    oci("delete", "--force", "one")
    assert gone(unit)


def test_what_systemd_reloads_it_leaves_as_it_was(oci: Systemd, bundle: Bundle) -> None:
    bundle.linux["resources"]["devices"] = [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rm"},
    ]
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind] = ["CAP_MKNOD"]
    unit = unit_of(bundle)
    oci.running(bundle, seconds=3000)
    new = str(80 << 20)
    oci("update", "--memory", new, "--memory-swap", new, "--pids-limit", 9, "one")
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    assert shown(unit, "MemoryMax", "MemorySwapMax", "TasksMax") == [new, "0", "9"]
    cgroup = UNIFIED / "system.slice" / unit
    assert (cgroup / "memory.max").read_text().strip() == new
    assert (cgroup / "pids.max").read_text().strip() == "9"
    script = "mknod /z c 1 5; mknod /k c 10 229; head -c 1 /z | wc -c; head -c 1 /k"
    done = oci.exec("one", "sh", "-c", script, status=None)
    assert (done.out.strip(), done.status) == ("1", 1), done
    assert "ermitted" in done.err
    oci("pause", "one")
    assert "frozen 1" in (cgroup / "cgroup.events").read_text()
    oci("resume", "one")
    oci("kill", "one", "KILL")
    oci.wait("one")
    oci("delete", "one")
    assert gone(unit)


def test_a_failed_create_leaves_no_unit(oci: Systemd, bundle: Bundle) -> None:
    bundle.command("no-such-program")
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "one")
    assert gone(unit_of(bundle))


def test_a_unit_that_exists_is_not_taken_over(oci: Systemd, bundle: Bundle) -> None:
    unit = unit_of(bundle)
    other = subprocess.Popen(["systemd-run", "--scope", f"--unit={unit}", "sleep", "3000"])
    try:
        while shown(unit, "ActiveState") != ["active"]:
            time.sleep(0.1)
        bundle.write()
        if oci.name == "runc":
            pytest.skip("runc joins it")
        assert unit in oci.fails("create", "--bundle", bundle.path, "one")
        assert shown(unit, "ActiveState") == ["active"]
        assert other.poll() is None
    finally:
        other.terminate()
        other.wait()


def test_run_takes_the_manager_and_removes_the_scope(busybox_archive: Path, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "data", tmp_path / "state")
    cli("load", "-i", busybox_archive, timeout=300)
    how = ("--cgroup-manager", "systemd", "--memory", "48m", "--pids-limit", "30")
    identity = (
        cli("run", "-d", *how, "busybox", "sleep", "3000", timeout=300).stdout.decode().strip()
    )
    unit = f"pycontain-{identity}.scope"
    try:
        assert shown(unit, "MemoryMax", "TasksMax") == [str(48 << 20), "30"]
    finally:
        cli.remove_all()
    assert gone(unit)


@pytest.mark.parametrize("options", [(), ("--cgroup-parent", "system.slice")])
def test_a_scope_whose_state_is_lost_is_ended(
    busybox_archive: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    cli = Cli(tmp_path / "data", tmp_path / "state")
    cli("load", "-i", busybox_archive, timeout=300)
    how = ("--rm", "--cgroup-manager", "systemd", *options)
    done = cli("run", "-d", *how, "busybox", "sleep", "3000", timeout=300)
    identity = done.stdout.decode().strip()
    state = tmp_path / "state/containers" / identity / "state.json"
    pid = json.loads(state.read_text())["pid"]
    # As after a kill of the one responsible between the start of the unit and the state.
    monitor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(monitor, signal.SIGKILL)
    while Path(f"/proc/{monitor}/fd/0").exists():
        time.sleep(0.05)
    state.unlink()
    assert cli("ps", "-aq", timeout=300).stdout == b""
    assert gone(f"pycontain-{identity}.scope")
    assert not [*(tmp_path / "data/containers").iterdir()]


@pytest.fixture
def user_manager() -> Iterator[list[str]]:
    """A systemd of an ordinary user's; the words that run a command below it."""
    home = Path(f"/run/user/{UID}")
    if home.exists():
        pytest.skip(f"user {UID} is logged in")
    home.mkdir(parents=True, mode=0o700)
    os.chown(home, UID, UID)
    set_home = f"--setenv=XDG_RUNTIME_DIR={home}"
    subprocess.run(
        [
            "systemd-run", "--quiet", "--unit=pycontain-user", f"--uid={UID}", f"--gid={UID}",
            set_home,
            "--property=Delegate=yes", "--property=Type=notify",
            "--property=DefaultDependencies=no", "--property=KillMode=mixed",
            "/lib/systemd/systemd", "--user",
        ],
        check=True,
    )  # fmt: skip
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    run = ["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect"]
    yield [*become, "env", "HOME=/tmp", f"XDG_RUNTIME_DIR={home}", *run, set_home]
    subprocess.run(["systemctl", "stop", "pycontain-user"], check=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.mark.parametrize("runtime", ["pycontain-oci", "runc"])
def test_an_ordinary_user_asks_the_own_systemd(
    user_manager: list[str], rootfs: Path, runtime: str
) -> None:
    program = launcher() if runtime == "pycontain-oci" else shutil.which("runc")
    place = Path(f"/run/user/{UID}/place")
    place.mkdir()
    bundle = Bundle(place, rootfs)
    bundle.linux["cgroupsPath"] = f"user.slice:{runtime}:own"
    bundle.linux["namespaces"] = [
        {"type": kind} for kind in ("pid", "ipc", "uts", "mount", "user", "cgroup")
    ]
    for ids in ("uidMappings", "gidMappings"):
        bundle.linux[ids] = [{"containerID": 0, "hostID": UID, "size": 1}]
    bundle.linux["resources"] = {"memory": {"limit": 40 << 20}, "pids": {"limit": 15}}
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if m["destination"] in ("/proc", "/dev")
    ]
    bundle.process["capabilities"] = {}
    bundle.shell("cat /proc/self/cgroup; exec sleep 3000")
    bundle.write()
    subprocess.run(["chown", "-R", f"{UID}:{UID}", place], check=True)
    verbs = [str(program), "--systemd-cgroup", "--root", f"/run/user/{UID}/state"]
    script = (
        f"{' '.join(verbs)} run -d --bundle {place} one > {place}/out 2>&1 || exit\n"
        f"cat /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup | cut -d/ -f1-3)/user.slice/"
        f"{runtime}-own.scope/memory.max\n"
        f"systemctl --user show {runtime}-own.scope --property=MemoryMax --property=TasksMax\n"
        f"{' '.join(verbs)} delete --force one\n"
        f"systemctl --user is-active {runtime}-own.scope\n"
    )
    done = subprocess.run(
        [*user_manager, "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    out = (place / "out").read_text()
    assert done.stdout.splitlines() == [
        str(40 << 20), f"MemoryMax={40 << 20}", "TasksMax=15", "inactive",
    ], (done, out)  # fmt: skip
    assert out.endswith("0::/\n")
