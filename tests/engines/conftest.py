"""Engines with this checkout's runtime: each started by its test on scratch roots, ended by pid."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oci_driver import launcher, make_rootfs

IMAGE = "localhost/bb"

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def runtime_program() -> Path:
    """The path an engine's configuration would name."""
    return launcher()


@pytest.fixture(scope="session")
def busybox_tar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox as a tar archive, for `podman import` and its like."""
    directory = tmp_path_factory.mktemp("engine-image")
    make_rootfs(directory / "rootfs")
    archive = directory / "busybox.tar"
    subprocess.run(["tar", "-C", directory / "rootfs", "-cf", archive, "."], check=True)
    return archive


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a short name: engines put unix sockets there (108 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="pc-e-"))
    yield path
    _unmount(path)
    shutil.rmtree(path, ignore_errors=True)


def _unmount(path: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", mount], check=False)


@pytest.fixture
def daemon(scratch: Path) -> Iterator[Start]:
    """Start a daemon and wait for its socket; it is ended, by pid, with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(argv: list[object], socket: Path) -> subprocess.Popen[bytes]:
        path = scratch / f"{Path(str(argv[0])).name}.log"
        with path.open("wb") as log:
            process = subprocess.Popen([str(a) for a in argv], stdout=log, stderr=log)
        started.append(process)
        deadline = time.monotonic() + 60
        while not socket.exists():
            assert process.poll() is None, path.read_text()[-2000:]
            assert time.monotonic() < deadline, path.read_text()[-2000:]
            time.sleep(0.1)
        return process

    yield start
    for process in reversed(started):
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def need(*programs: str) -> None:
    """Skip by name where a program is not installed."""
    for program in programs:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
