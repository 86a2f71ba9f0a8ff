"""Nothing is left: after success, failure, many at once, or a kill at any moment."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support import Cli

pytestmark = pytest.mark.root


PARENT = f"/pycontain-test-{os.getpid()}"
"""Other tests run at the same time: our cgroups stand under a parent of their own."""
RUN = ("run", "--cgroup-parent", PARENT)


def cgroups() -> list[str]:
    """Return the cgroups under our parent, in every hierarchy."""
    found = []
    for top in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]:
        home = Path(f"{top}{PARENT}")
        if home.is_dir():
            found += [str(path) for path in home.iterdir() if path.is_dir()]
    return found


@pytest.fixture(autouse=True)
def parent_removed() -> Iterator[None]:
    yield
    for top in [Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").glob("*")]:
        home = Path(f"{top}{PARENT}")
        if home.is_dir():
            home.rmdir()


def leftovers(cli: Cli) -> list[str]:
    """Return every file under the roots that belongs to a container, and every mount there."""
    found = [
        line for line in Path("/proc/self/mounts").read_text().splitlines() if str(cli.data) in line
    ]
    for top in (
        cli.data / "containers",
        cli.data / "names",
        cli.state / "containers",
        cli.state / "locks",
    ):
        found += [str(path) for path in top.glob("*")] if top.exists() else []
    return found


def processes(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(str(path))
        except OSError:
            continue
    return found


def settle(cli: Cli) -> None:
    """Every command reconciles; give a monitor a moment to end first."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        cli("ps", "-a")
        if not leftovers(cli) and not cgroups():
            return
        time.sleep(0.05)
    assert not leftovers(cli)
    assert not cgroups()


def test_twenty_runs_leave_nothing(box: Cli, tmp_path: Path) -> None:
    for n in range(20):
        cidfile = tmp_path / str(n)
        box("run", "--rm", "--cidfile", cidfile, "--memory", "64m", "busybox", "true")
        assert not list(Path("/sys/fs/cgroup").glob(f"*/pycontain-{cidfile.read_text()}"))
        assert not list(Path("/sys/fs/cgroup").glob(f"pycontain-{cidfile.read_text()}"))
    assert not leftovers(box)


@pytest.mark.parametrize(
    "words",
    [
        ["busybox", "nosuch"],
        ["--workdir", "/etc/passwd", "busybox", "true"],
        ["--user", "nosuch", "busybox", "true"],
        ["--mount", "type=bind,src=/no/such,dst=/x", "busybox", "true"],
        ["-v", "/proc/version:/etc/passwd/x", "busybox", "true"],
        ["--cidfile", "/no/such/directory/file", "busybox", "true"],
        ["-v", "/anonymous", "--device", "/dev/nosuch", "busybox", "true"],
    ],
)
@pytest.mark.parametrize("how", [["--rm"], ["-d", "--rm"]])
def test_a_failed_start_leaves_nothing(box: Cli, words: list[str], how: list[str]) -> None:
    done = box(*RUN, *how, *words, status=None)
    assert done.returncode != 0
    assert done.stderr.count(b"\n") == 1
    assert not leftovers(box)
    assert not cgroups()
    volumes = box.data / "volumes"
    assert not volumes.exists() or not [n for n in os.listdir(volumes) if len(n) == 64]


def test_twelve_starts_at_once_all_run(box: Cli) -> None:
    with ThreadPoolExecutor(12) as pool:
        runs = [pool.submit(box, *RUN, "--rm", "busybox", "echo", str(n)) for n in range(12)]
        outputs = [run.result().stdout for run in runs]
    assert outputs == [f"{n}\n".encode() for n in range(12)]
    assert not leftovers(box)


def test_of_eight_creates_of_one_name_one_wins(box: Cli) -> None:
    with ThreadPoolExecutor(8) as pool:
        tries = [
            pool.submit(box, "create", "--name", "same", "busybox", "true", status=None)
            for _ in range(8)
        ]
        done = [attempt.result() for attempt in tries]
    assert sorted(d.returncode for d in done) == [0] + [125] * 7
    assert all(b"in use" in d.stderr for d in done if d.returncode)


def test_a_killed_foreground_command_is_cleared_up_by_the_next(box: Cli) -> None:
    process = box.start(*RUN, "--rm", "--name", "victim", "busybox", "sleep", "4321")
    end = time.monotonic() + 10
    while "Up" not in box.text("ps") and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.wait()
    settle(box)
    assert not processes("4321")
    box(*RUN, "--rm", "--name", "victim", "busybox", "true")


@pytest.mark.parametrize("moment", range(24))
def test_a_kill_at_any_moment_of_a_detached_start_leaks_nothing(box: Cli, moment: int) -> None:
    process = box.start(
        *RUN, "-d", "--name", "crash", "busybox", "sleep", "5432",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(moment * 0.003)
    process.kill()
    process.wait()
    time.sleep(0.02)
    box("ps", "-a")
    box("rm", "-f", "crash", status=None)
    box(*RUN, "-d", "--name", "crash", "busybox", "sleep", "5432", status=None)
    box("rm", "-f", "crash", status=None)
    settle(box)
    assert not processes("5432")


def openers(file: Path) -> list[int]:
    """Return the processes that have `file` open."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if any(os.path.samefile(fd, file) for fd in Path(f"/proc/{pid}/fd").iterdir()):
                found.append(int(pid))
    return found


def test_a_dead_monitor_takes_its_container_along(box: Cli) -> None:
    box(*RUN, "-d", "--name", "orphan", "busybox", "sleep", "6543")
    identity = box.text("ps", "-q", "--no-trunc").strip()
    keepers = openers(box.state / "locks" / identity)
    assert keepers
    for pid in keepers:
        os.kill(pid, 9)
    time.sleep(0.1)
    assert "Exited (137)" in box.text("ps", "-a")
    assert not processes("6543")
    box("rm", "orphan")
    settle(box)


def lose_the_state(cli: Cli, **changes: object) -> None:
    """Make the one container look as after a power cut: no end recorded, nothing on the tmpfs."""
    (home,) = (cli.data / "containers").iterdir()
    (home / "exit.json").unlink()
    record = json.loads((home / "record.json").read_text())
    (home / "record.json").write_text(json.dumps({**record, **changes}))


def test_a_container_whose_host_went_down_has_exited(box: Cli) -> None:
    box("run", "--name", "lost", "busybox", "true")
    lose_the_state(box)
    assert "Exited (255)" in box.text("ps", "-a")
    assert box.text("start", "-a", "lost") == ""
    assert "Exited (0)" in box.text("ps", "-a")


def test_a_removable_container_whose_host_went_down_is_removed(box: Cli) -> None:
    box("run", "--name", "lost", "busybox", "true")
    lose_the_state(box, auto_remove=True)
    assert box.text("ps", "-aq") == ""
    settle(box)


def test_a_directory_that_was_half_made_when_the_host_went_down_is_removed(box: Cli) -> None:
    (box.data / "containers" / ("ab" * 32) / "upper").mkdir(parents=True)
    assert box.text("ps", "-aq") == ""
    settle(box)
