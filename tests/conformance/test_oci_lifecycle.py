"""The life of a container: create, start, state, kill, delete, and what is refused when."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from oci_driver import Bundle, Oci

pytestmark = pytest.mark.root

CRUN_TAKES_IT = pytest.mark.lacks(crun="takes it")


def test_a_container_goes_through_its_states(oci: Oci, bundle: Bundle) -> None:
    bundle.command("sleep", "100")
    oci.create(bundle, "one")
    assert oci.status() == "created"
    oci("start", "one")
    assert oci.status() == "running"
    oci("kill", "one", "KILL")
    oci.wait("one")
    oci("delete", "one")
    message = oci.fails("state", "one")
    assert "does not exist" in message or oci.name == "crun"


def test_state_holds_the_fields_of_the_specification(oci: Oci, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example": "value"}
    oci.running(bundle)
    state = oci.state()
    assert state["id"] == "one"
    assert state["status"] == "running"
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"]["org.example"] == "value"
    assert state["ociVersion"].startswith("1.")
    assert Path(f"/proc/{state['pid']}").exists()


def test_the_program_does_not_run_before_start(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("touch /ran")
    oci.create(bundle, "one")
    time.sleep(0.2)
    assert not (bundle.rootfs / "ran").exists()
    oci("start", "one")
    oci.wait("one")
    assert (bundle.rootfs / "ran").exists()


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_start_lets_an_ordinary_users_program_go_on(oci: Oci, bundle: Bundle, umask: int) -> None:
    bundle.process["user"] = {"uid": 1000, "gid": 1000}
    bundle.process["capabilities"] = {"bounding": []}
    bundle.command("sleep", "100")
    before = os.umask(umask)
    try:
        oci.create(bundle, "one")
    finally:
        os.umask(before)
    assert oci.status() == "created"
    oci("start", "one")
    assert oci.status() == "running"


def test_changes_of_the_bundle_after_create_have_no_effect(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("touch /first")
    oci.create(bundle, "one")
    bundle.shell("touch /second")
    bundle.write()
    oci("start", "one")
    oci.wait("one")
    assert (bundle.rootfs / "first").exists()
    assert not (bundle.rootfs / "second").exists()


def test_start_of_a_running_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci.fails("start", "one")
    assert oci.status() == "running"


def test_start_of_a_stopped_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    bundle.command("true")
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci.fails("start", "one")
    assert oci.status() == "stopped"


def test_delete_of_a_running_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci.fails("delete", "one")
    assert oci.status() == "running"


def test_delete_of_a_created_container_works(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    pid = oci.state()["pid"]
    oci("delete", "--force", "one")
    oci.fails("state", "one")
    assert not _lives(pid)


def test_delete_force_ends_a_running_container(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    pid = oci.state()["pid"]
    oci("delete", "--force", "one")
    oci.fails("state", "one")
    assert not _lives(pid)


@pytest.mark.lacks(runc="an option of crun")
def test_delete_by_regular_expression(oci: Oci) -> None:
    for name in ("web-1", "web-2", "db-1"):
        oci.running(oci.bundle(), name)
    oci("delete", "--force", "--regex", "^web")
    assert oci("list", "-q").out.split() == ["db-1"]


@pytest.mark.lacks(runc="an option of crun", crun="1.8 says nothing")
def test_a_bad_regular_expression_is_refused(oci: Oci) -> None:
    assert "regular expression" in oci.fails("delete", "--regex", "a(")


def test_delete_force_of_an_unknown_container_is_no_error(oci: Oci) -> None:
    oci("delete", "--force", "never-was")


@pytest.mark.parametrize("verb", ["state", "start", "delete", "pause", "resume", "ps"])
def test_an_unknown_container_is_an_error(oci: Oci, verb: str) -> None:
    oci.fails(verb, "never-was")


@pytest.mark.parametrize("verb", ["state", "start", "kill", "delete", "create", "run", "exec"])
def test_a_missing_id_is_an_error(oci: Oci, verb: str) -> None:
    oci.fails(verb)


def test_an_id_is_unique(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    other = oci.bundle()
    other.write()
    oci.fails("create", "--bundle", other.path, "one")
    assert oci.status() == "running"


@pytest.mark.parametrize(
    "id",
    [
        "",
        "..",
        "a/b",
        pytest.param("a b", marks=CRUN_TAKES_IT),
        pytest.param("a\nb", marks=CRUN_TAKES_IT),
    ],
)
def test_a_bad_id_is_refused(oci: Oci, bundle: Bundle, id: str) -> None:
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, id)


def test_a_deleted_id_can_be_used_again(oci: Oci, bundle: Bundle) -> None:
    for _ in range(2):
        oci.create(bundle, "one")
        oci("start", "one")
        oci.wait("one")
        oci("delete", "one")


@pytest.mark.parametrize(
    "name",
    ["TERM", "SIGTERM", "15", pytest.param("term", marks=pytest.mark.lacks(crun="sends none"))],
)
def test_kill_takes_names_and_numbers(oci: Oci, bundle: Bundle, name: str) -> None:
    bundle.shell("trap 'touch /caught; exit' TERM; touch /ready; while :; do sleep 0.05; done")
    oci.running(bundle)
    _wait_for(bundle.rootfs / "ready")
    oci("kill", "one", name)
    oci.wait("one")
    assert (bundle.rootfs / "caught").exists()


def test_kill_sends_sigterm_by_default(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("trap 'touch /caught; exit' TERM; touch /ready; while :; do sleep 0.05; done")
    oci.running(bundle)
    _wait_for(bundle.rootfs / "ready")
    oci("kill", "one")
    oci.wait("one")
    assert (bundle.rootfs / "caught").exists()


def test_kill_of_a_created_container_ends_it(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    oci("kill", "one", "KILL")
    oci.wait("one")


@pytest.mark.lacks(runc="calls the dying process running")
def test_delete_just_after_kill_works(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci("kill", "one", "KILL")
    oci("delete", "one")


def test_kill_of_a_stopped_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci.fails("kill", "one", "KILL")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("NOPE", marks=CRUN_TAKES_IT),
        pytest.param("SIG", marks=CRUN_TAKES_IT),
        "-1",
        "999",
    ],
)
def test_an_unknown_signal_is_refused(oci: Oci, bundle: Bundle, name: str) -> None:
    oci.running(bundle)
    oci.fails("kill", "one", name)
    assert oci.status() == "running"


def test_kill_of_one_process_leaves_the_exit_status_to_init(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("exit 7")
    assert oci.run(bundle, status=None).status == 7


def test_run_gives_the_status_of_the_program(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("kill -9 $$ & wait; exit 3")
    assert oci.run(bundle, status=None).status in (3, 137)


def test_run_deletes_the_container(oci: Oci, bundle: Bundle) -> None:
    oci.run(bundle)
    oci.fails("state", "one")


def test_run_detached_leaves_it_running(oci: Oci, bundle: Bundle) -> None:
    bundle.command("sleep", "100")
    bundle.write()
    oci("run", "--detach", "--bundle", bundle.path, "one")
    assert oci.status() == "running"


@pytest.mark.lacks(crun="keep is new")
def test_run_keep_leaves_it_stopped(oci: Oci, bundle: Bundle) -> None:
    bundle.write()
    oci("run", "--keep", "--bundle", bundle.path, "one")
    assert oci.status() == "stopped"
    oci("delete", "one")


def test_run_forwards_signals(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("trap 'exit 9' TERM; touch /ready; while :; do sleep 0.05; done")
    bundle.write()
    process = subprocess.Popen(oci.argv("run", "--bundle", bundle.path, "one"))
    _wait_for(bundle.rootfs / "ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 9


def test_the_pid_file_holds_digits_only(oci: Oci, bundle: Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    oci.create(bundle, "one", "--pid-file", pid_file)
    assert pid_file.read_text().isdigit()
    assert int(pid_file.read_text()) == oci.state()["pid"]


def test_a_pid_file_that_cannot_be_written_leaves_nothing(oci: Oci, bundle: Bundle) -> None:
    bundle.write()
    oci.fails("create", "--bundle", bundle.path, "--pid-file", "/no/such/dir/pid", "one")
    oci.fails("state", "one")


def test_the_bundle_defaults_to_the_current_directory(oci: Oci, bundle: Bundle) -> None:
    bundle.command("sleep", "100")
    bundle.write()
    oci("create", "one", cwd=bundle.path)
    assert oci.state()["bundle"] == str(bundle.path)


def test_pause_and_resume(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci("pause", "one")
    assert oci.status() == "paused"
    oci("resume", "one")
    assert oci.status() == "running"


def test_a_paused_container_can_be_deleted_by_force(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    oci("pause", "one")
    oci("delete", "--force", "one")
    oci.fails("state", "one")


def test_pause_of_a_stopped_container_is_refused(oci: Oci, bundle: Bundle) -> None:
    oci.create(bundle, "one")
    oci("start", "one")
    oci.wait("one")
    oci.fails("pause", "one")
    oci.fails("resume", "one")


def test_list_shows_every_container(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle, "one")
    oci.running(oci.bundle(), "two")
    assert sorted(oci("list", "-q").out.split()) == ["one", "two"]
    entries = json.loads(oci("list", "--format", "json").out)
    assert sorted(e["id"] for e in entries) == ["one", "two"]
    assert {e["status"] for e in entries} == {"running"}
    table = oci("list").out.splitlines()
    assert table[0].split()[:5] == [
        "ID" if oci.name != "crun" else "NAME",
        "PID",
        "STATUS",
        *table[0].split()[3:5],
    ]
    assert "running" in table[1]


def test_ps_lists_host_pids(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    assert json.loads(oci("ps", "--format", "json", "one").out) == [oci.state()["pid"]]
    # crun prints pids alone.
    assert "sleep" in oci("ps", "one").out or oci.name == "crun"


def test_a_zombie_init_is_stopped(oci: Oci, bundle: Bundle) -> None:
    oci.running(bundle)
    pid = oci.state()["pid"]
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert oci.status() == "stopped"
    oci("delete", "one")


@pytest.mark.parametrize("verb", ["pause", "resume", "kill", "delete", "state"])
def test_verbs_need_no_environment(oci: Oci, bundle: Bundle, verb: str) -> None:
    oci.running(bundle)
    if verb == "resume":
        oci("pause", "one")
    if verb == "delete":
        oci("kill", "one", "KILL")
        oci.wait("one")
    oci(verb, "one", env={})


def test_many_containers_leave_nothing(oci: Oci, bundle: Bundle) -> None:
    bundle.linux["cgroupsPath"] = path = f"/pycontain-many-{os.getpid()}"
    for _ in range(5):
        oci.create(bundle, "one")
        oci("start", "one")
        oci("delete", "--force", "one")
    assert oci("list", "-q").out == ""
    assert list(Path("/sys/fs/cgroup").glob(f"*{path}")) == []
    assert not oci.state_root.exists() or list(oci.state_root.iterdir()) == []


def test_two_creates_of_one_id_have_one_winner(oci: Oci, bundle: Bundle) -> None:
    bundle.command("sleep", "100")
    bundle.write()
    argv = oci.argv("create", "--bundle", bundle.path, "one")
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    both = [subprocess.Popen(argv, stderr=subprocess.DEVNULL, **quiet) for _ in range(4)]
    assert sorted(process.wait(30) == 0 for process in both) == [False, False, False, True]
    assert oci.status() == "created"


def test_start_after_pause_and_resume(oci: Oci, bundle: Bundle) -> None:
    bundle.shell("touch /ran")
    oci.create(bundle, "one")
    oci("pause", "one")
    oci("resume", "one")
    oci("start", "one")
    oci.wait("one")
    assert (bundle.rootfs / "ran").exists()
    oci("delete", "one")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _wait_for(path: Path, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


@pytest.mark.lacks(runc="1.2 on", crun="lists nothing")
def test_list_of_a_root_that_is_not_there_is_an_error(oci: Oci, tmp_path: Path) -> None:
    oci.state_root = tmp_path / "nowhere"
    assert str(oci.state_root) in oci.fails("list")


@pytest.mark.lacks(runc="1.2 on", crun="takes it for stopped")
def test_kill_reaches_processes_that_outlive_init(oci: Oci, bundle: Bundle) -> None:
    bundle.without_namespace("pid")
    oci.running(bundle)
    oci("exec", "--detach", "--pid-file", bundle.path / "pid", "one", "sleep", "100")
    os.kill(oci.state()["pid"], signal.SIGKILL)
    oci.wait("one")
    other = os.pidfd_open(int((bundle.path / "pid").read_text()))
    oci.fails("kill", "one", "TERM")
    oci("kill", "one", "KILL")
    assert select.select([other], [], [], 10)[0]
    os.close(other)
    os.waitpid(-1, os.WNOHANG)
    oci.fails("kill", "one", "KILL")


@pytest.mark.lacks(runc="1.2 on, without the annotation", crun="1.8 has the annotation alone")
@pytest.mark.parametrize("verb", ["create", "run", "exec", "annotation"])
def test_the_pidfd_goes_to_its_socket(oci: Oci, bundle: Bundle, tmp_path: Path, verb: str) -> None:
    bundle.command("sleep", "100")
    if verb == "exec":
        oci.running(bundle)
    path, file = str(tmp_path / "pidfd"), tmp_path / "pid"
    told = ("--pidfd-socket", path, "--pid-file", file)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        server.settimeout(10)
        if verb == "annotation":
            bundle.config["annotations"] = {"run.oci.pidfd_receiver": path}
            oci.create(bundle, "one", *told[2:])
        elif verb == "create":
            oci.create(bundle, "one", *told)
        elif verb == "run":
            bundle.write()
            oci("run", "--detach", "--bundle", bundle.path, *told, "one")
        else:
            oci("exec", "--detach", *told, "one", "sleep", "100")
        connection, _ = server.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 4096, 4)
    assert len(fds) == 1
    shown = Path(f"/proc/self/fdinfo/{fds[0]}").read_text().split()
    assert shown[shown.index("Pid:") + 1] == file.read_text()
    os.close(fds[0])


@pytest.mark.lacks(runc="1.2 on", crun="not in 1.8")
def test_a_pidfd_socket_that_nobody_holds_leaves_nothing(
    oci: Oci, bundle: Bundle, tmp_path: Path
) -> None:
    bundle.write()
    told = ("--pidfd-socket", tmp_path / "none")
    assert "pidfd socket" in oci.fails("create", "--bundle", bundle.path, *told, "one")
    oci.fails("state", "one")
