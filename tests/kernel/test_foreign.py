"""A container handed to another OCI runtime, whose owner here is killed: nothing of it stays."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import Cli

from pycontain import trees

pytestmark = pytest.mark.root


@pytest.fixture(params=["runc", "crun"])
def runtime(request: pytest.FixtureRequest, box: Cli) -> str:
    name = str(request.param)
    if not shutil.which(name):
        pytest.skip(f"needs {name}")
    done = box("run", "--rm", "--runtime", name, "busybox", "true", status=None)
    if b"hybrid mode not supported" in done.stderr:
        pytest.skip(f"{name} refuses a hybrid cgroup hierarchy")
    return name


def started(box: Cli, runtime: str, *options: str) -> tuple[subprocess.Popen[bytes], str]:
    """Start a container that sleeps; return the command and a word its processes have."""
    word = f"3{time.monotonic_ns() % 10**8:08d}"
    script = f"echo ready; exec sleep {word}"
    words = ("run", "--runtime", runtime, "--name", "far", *options)
    owner = box.start(*words, "busybox", "sh", "-c", script, stdout=subprocess.PIPE)
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"ready\n"
    owner.stdout.close()
    return owner, word


def processes(word: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0" + word.encode() + b"\0":
                found.append(str(path))
        except OSError:
            continue
    return found


def left(box: Cli, runtime: str, word: str) -> list[str]:
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines()
              if str(box.data) in line]  # fmt: skip
    known = subprocess.run(
        [runtime, "--root", box.state / "foreign", "list", "--quiet"],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    return processes(word) + mounts + known.stdout.split()


def test_a_killed_owner_leaves_nothing_running(box: Cli, runtime: str) -> None:
    owner, word = started(box, runtime)
    owner.kill()
    owner.wait()
    assert processes(word)
    assert "Exited (137)" in box.text("ps", "-a")
    assert not left(box, runtime, word)
    box("rm", "far")
    assert box.text("ps", "-aq") == ""


def test_a_killed_owner_leaves_nothing_with_rm(box: Cli, runtime: str) -> None:
    owner, word = started(box, runtime, "--rm")
    owner.kill()
    owner.wait()
    assert box.text("ps", "-aq") == ""
    assert not left(box, runtime, word)
    assert not [*(box.data / "containers").iterdir()]


def test_a_runtime_that_is_gone_leaves_nothing_running(
    box: Cli, runtime: str, tmp_path: Path
) -> None:
    program = tmp_path / "runtime"
    program.write_text(f'#!/bin/sh\nexec {runtime} "$@"\n')
    program.chmod(0o755)
    owner, word = started(box, str(program))
    program.unlink()
    owner.kill()
    owner.wait()
    box("rm", "-f", "far")
    assert not processes(word)
    assert str(box.data) not in Path("/proc/mounts").read_text()


def test_a_damaged_record_is_removed_with_what_runs(box: Cli, runtime: str) -> None:
    owner, word = started(box, runtime)
    (record,) = (box.data / "containers").glob("*/record.json")
    record.write_text("{")
    box("rm", "-f", "far")
    owner.wait(20)
    assert not left(box, runtime, word)
    assert not [*(box.data / "containers").iterdir()]


def test_it_is_listed_stopped_and_removed_like_any_other(box: Cli, runtime: str) -> None:
    owner, word = started(box, runtime)
    assert "Up " in box.text("ps")
    assert b"is running" in box("rm", "far", status=125).stderr
    box("stop", "-t", "0", "far")
    assert owner.wait(20) == 128 + signal.SIGKILL
    assert "Exited (137)" in box.text("ps", "-a")
    box("rm", "far")
    owner, word = started(box, runtime)
    box("kill", "far")
    assert owner.wait(20) == 128 + signal.SIGKILL
    box("rm", "far")
    owner, word = started(box, runtime)
    box("rm", "-f", "far")
    owner.wait(20)
    assert not left(box, runtime, word)
    assert box.text("ps", "-aq") == ""


def test_a_start_after_it_is_by_our_own_runtime(box: Cli, runtime: str) -> None:
    box(
        "run",
        "--name",
        "far",
        "--runtime",
        runtime,
        "busybox",
        "sh",
        "-c",
        "echo x >> /f; wc -l /f",
    )
    assert box.text("start", "-a", "far") == "2 /f\n"
    box("rm", "far")


def test_a_tree_with_a_mount_in_it_is_not_emptied_through_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a/mounted").mkdir(parents=True)
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_text("x")
    subprocess.run(["mount", "--bind", source, tree / "a/mounted"], check=True)
    try:
        with pytest.raises(OSError, match="busy"):
            trees.remove(str(tree))
        assert (source / "kept").exists()
    finally:
        subprocess.run(["umount", tree / "a/mounted"], check=True)
