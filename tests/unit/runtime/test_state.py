"""State files, ids and the status that is derived from the kernel."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycontain.errors import ConflictError, InvalidError, NotFoundError, UsageError
from pycontain.runtime import state as states


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def made(root: Path, id: str = "one", pid: int = 0) -> states.State:
    state = states.State(id, "/bundle", "/bundle/rootfs", "1.0.2")
    state.pid = pid
    state.start_time = states.process_start(pid) if pid else 0
    states.save(states.claim(str(root), id), state)
    return state


@pytest.mark.parametrize("id", ["a", "A.b_c-d+e", "0" * 64, "...", "x" * 1024])
def test_ids_of_runc_are_taken(id: str) -> None:
    assert states.check_id(id) == id


@pytest.mark.parametrize(
    "id",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a b",
        "a\nb",
        "a\x1b",
        "a\0b",
        "é",
        "x" * 1025,
        "a:b",
        "\u0661",
    ],
)
def test_other_ids_are_refused(id: str) -> None:
    with pytest.raises(UsageError):
        states.check_id(id)


def test_an_id_is_claimed_once(tmp_path: Path) -> None:
    states.claim(str(tmp_path), "one")
    with pytest.raises(ConflictError, match="already exists"):
        states.claim(str(tmp_path), "one")


def test_claiming_makes_the_run_root_private(tmp_path: Path) -> None:
    states.claim(str(tmp_path / "a" / "b"), "one")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    state = states.State("one", "/b\udcff", "/r", "1.2.0")
    state.annotations = {"a": "b"}
    state.cgroup = {"manager": "cgroupfs"}
    states.save(states.claim(str(tmp_path), "one"), state)
    loaded = states.load(str(tmp_path), "one")
    for name in states.State.__slots__:
        assert getattr(loaded, name) == getattr(state, name)


def test_saving_leaves_no_temporary_file(tmp_path: Path) -> None:
    made(tmp_path)
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["state.json"]


def test_an_unknown_id_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        states.load(str(tmp_path), "none")


def test_a_directory_without_state_is_half_made(tmp_path: Path) -> None:
    states.claim(str(tmp_path), "half")
    with pytest.raises(InvalidError, match="half made"):
        states.load(str(tmp_path), "half")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"id":"one"}', "\0"])
def test_a_broken_state_file_is_one_error(tmp_path: Path, text: str) -> None:
    home = Path(states.claim(str(tmp_path), "one"))
    (home / "state.json").write_text(text)
    with pytest.raises(InvalidError):
        states.load(str(tmp_path), "one")


def test_a_container_being_made_is_creating(tmp_path: Path) -> None:
    state = made(tmp_path)
    assert states.status(state, str(tmp_path / "one"), frozen=False) == states.CREATING


def test_a_container_whose_maker_died_is_stopped(tmp_path: Path) -> None:
    state = made(tmp_path)
    state.maker_start -= 1
    assert states.status(state, str(tmp_path / "one"), frozen=False) == states.STOPPED


def test_the_fifo_tells_created_from_running(tmp_path: Path, sleeper) -> None:
    state = made(tmp_path, pid=sleeper.pid)
    home = str(tmp_path / "one")
    assert states.status(state, home, frozen=False) == states.RUNNING
    os.mkfifo(home + states.FIFO)
    assert states.status(state, home, frozen=False) == states.CREATED


def test_a_frozen_container_is_paused(tmp_path: Path, sleeper) -> None:
    state = made(tmp_path, pid=sleeper.pid)
    assert states.status(state, str(tmp_path / "one"), frozen=True) == states.PAUSED


def test_a_zombie_is_stopped(tmp_path: Path, sleeper) -> None:
    state = made(tmp_path, pid=sleeper.pid)
    os.kill(sleeper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert states.status(state, str(tmp_path / "one"), frozen=False) == states.STOPPED


def test_a_reused_pid_is_stopped(tmp_path: Path, sleeper) -> None:
    state = made(tmp_path, pid=sleeper.pid)
    state.start_time += 1
    assert states.status(state, str(tmp_path / "one"), frozen=False) == states.STOPPED


def test_a_process_name_cannot_forge_its_status(tmp_path: Path) -> None:
    program = tmp_path / "x) Z 1 1"
    program.symlink_to(sys.executable)
    process = subprocess.Popen([str(program), "-c", "import time; time.sleep(60)"])
    try:
        deadline = time.monotonic() + 10
        while b"x) Z" not in Path(f"/proc/{process.pid}/comm").read_bytes():
            assert time.monotonic() < deadline
        letter, start = states.process_stat(process.pid)
        assert letter in "RSD"
        assert start == states.process_start(process.pid) > 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("verb", "status"),
    [("start", "running"), ("start", "stopped"), ("kill", "stopped"), ("delete", "running"),
     ("delete", "paused"), ("pause", "paused"), ("resume", "running"), ("exec", "stopped")],
)  # fmt: skip
def test_a_verb_in_the_wrong_status_is_refused(verb: str, status: str) -> None:
    with pytest.raises(ConflictError) as caught:
        states.allow(verb, "one", status)
    assert "one" in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "status"),
    [("start", "created"), ("kill", "created"), ("kill", "running"), ("kill", "paused"),
     ("delete", "stopped"), ("delete", "created"), ("pause", "running"), ("resume", "paused")],
)  # fmt: skip
def test_a_verb_in_the_right_status_is_allowed(verb: str, status: str) -> None:
    states.allow(verb, "one", status)


def test_the_document_holds_the_fields_of_the_specification(tmp_path: Path) -> None:
    state = made(tmp_path, pid=os.getpid())
    assert states.document(state, states.RUNNING) == {
        "ociVersion": "1.0.2",
        "id": "one",
        "status": "running",
        "pid": os.getpid(),
        "bundle": "/bundle",
    }
    assert states.document(state, states.STOPPED)["pid"] == 0


def test_the_listing_adds_runcs_fields(tmp_path: Path) -> None:
    listing = states.listing(made(tmp_path), states.STOPPED)
    assert listing["rootfs"] == "/bundle/rootfs"
    assert str(listing["created"]).startswith("20")
    assert str(listing["created"]).endswith("Z")


def test_times_are_rfc3339_in_utc() -> None:
    assert states.timestamp(0.25) == "1970-01-01T00:00:00.250000Z"


def test_only_directories_with_possible_names_are_listed(tmp_path: Path) -> None:
    for name in ("b", "a"):
        states.claim(str(tmp_path), name)
    (tmp_path / "file").write_text("")
    (tmp_path / "not an id").mkdir()
    assert states.ids(str(tmp_path)) == ["a", "b"]
    assert states.ids(str(tmp_path / "missing")) == []
