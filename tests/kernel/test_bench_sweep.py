"""What a comparison that was killed outright left behind goes with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycontain.bench.place import Place

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

BEGIN = """
import sys, time
from pycontain.bench.place import Place
with Place(sys.argv[1]) as place:
    place.copy("native", place.directory("image"))
    print(place.path, flush=True)
    time.sleep(60)
"""


def begun(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN, str(parent)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def mounts(parent: Path) -> int:
    return Path("/proc/self/mountinfo").read_text().count(f" {parent}/")


def test_a_killed_comparisons_mounts_and_files_go_with_the_next(tmp_path: Path) -> None:
    process, path = begun(tmp_path)
    assert mounts(tmp_path) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert mounts(tmp_path) == 1
    with Place(str(tmp_path)):
        assert not path.exists() and mounts(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_living_comparison_is_let_be(tmp_path: Path) -> None:
    process, path = begun(tmp_path)
    try:
        with Place(str(tmp_path)):
            assert path.is_dir() and mounts(tmp_path) == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    with Place(str(tmp_path)):
        pass
    assert mounts(tmp_path) == 0


def test_a_killed_comparisons_daemon_ends(tmp_path: Path) -> None:
    left = tmp_path / "pycontain-bench-dead"
    left.mkdir()
    daemon = left / "conmon"
    daemon.symlink_to("/bin/sleep")
    process = subprocess.Popen([str(daemon), "60"])
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process.pid}/comm").read_text() != "conmon\n":
        assert time.monotonic() < deadline
    with Place(str(tmp_path)):
        assert process.wait(10) == -signal.SIGKILL
