"""A dockerd of the test's own with our runtime as default, and docker to talk to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

# dockerd leaves firewall chains behind: it gets a network namespace of its own, with loopback up.
OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


class Docker:
    """`docker --host SOCKET`; a call returns standard output and checks the exit status."""

    def __init__(self, scratch: Path) -> None:
        self.argv = ["docker", "--host", f"unix://{scratch}/d.sock"]
        self.env = {**os.environ, "DOCKER_CONFIG": str(scratch / "config")}

    def __call__(self, *args: object, status: int | None = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [*self.argv, *map(str, args)],
            capture_output=True, text=True, timeout=90, check=False, input=stdin, env=self.env,
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if status != 0 else "")

    def run(self, *args: object, status: int | None = 0) -> str:
        return self("run", "--network", "none", *args, status=status)


@contextlib.contextmanager
def dockerd(scratch: Path, runtime: Path, network: list[str] = OWN_NETWORK) -> Iterator[Docker]:
    """Run dockerd in `scratch`, its command line after `network`'s; end it and its containers."""
    for program in ("dockerd", "docker", "containerd"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    data = scratch / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", data], check=True)
    # buildkit takes the first `runc` on dockerd's PATH.
    (scratch / "bin").mkdir()
    (scratch / "bin/runc").symlink_to(runtime)
    with (scratch / "dockerd.log").open("wb") as log:
        daemon = subprocess.Popen(
            [
                *network, "dockerd", "--data-root", data, "--exec-root", scratch / "exec",
                "--host", f"unix://{scratch}/d.sock", "--pidfile", scratch / "d.pid",
                "--exec-opt", "native.cgroupdriver=cgroupfs",
                "--default-ulimit", "nofile=1024:1024",
                "--add-runtime", f"pycontain={runtime}", "--default-runtime", "pycontain",
            ],
            stdout=log, stderr=log,
            env={**os.environ, "PATH": f"{scratch}/bin:{os.environ['PATH']}"},
        )  # fmt: skip
    docker = Docker(scratch)
    try:
        deadline = time.monotonic() + 60
        while subprocess.run([*docker.argv, "info"], capture_output=True, check=False).returncode:
            text = (scratch / "dockerd.log").read_text()[-3000:]
            assert daemon.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.3)
        yield docker
        ids = docker("ps", "-aq", status=None).split()
        if ids:
            docker("rm", "-f", *ids, status=None)
    finally:
        daemon.terminate()
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
        mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for mount in reversed(mounts):
            if mount.startswith(f"{scratch}/"):
                subprocess.run(["umount", "-l", mount], check=False)
