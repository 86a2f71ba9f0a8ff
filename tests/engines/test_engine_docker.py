"""dockerd drives pycontain-oci: containers, builds, a network, a swarm service."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

# dockerd leaves firewall chains behind: it gets a network namespace of its own, with loopback up.
OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


class Docker:
    def __init__(self, scratch: Path) -> None:
        self.argv = ["docker", "--host", f"unix://{scratch}/d.sock"]
        self.scratch = scratch

    def __call__(self, *args: object, status: int | None = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [*self.argv, *map(str, args)],
            capture_output=True, text=True, timeout=90, check=False, input=stdin,
            env={**os.environ, "DOCKER_CONFIG": str(self.scratch / "config")},
        )  # fmt: skip
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if status != 0 else "")

    def run(self, *args: object, status: int | None = 0) -> str:
        return self("run", "--network", "none", *args, status=status)

    def until(self, wanted: object, *args: object, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while (found := self(*args, status=None).split()) != wanted:
            assert time.monotonic() < deadline, found
            time.sleep(0.3)


@pytest.fixture(scope="module")
def module_scratch() -> Iterator[Path]:
    import tempfile
    from pathlib import Path

    path = Path(tempfile.mkdtemp(prefix="pc-d-"))
    yield path
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{path}/"):
            subprocess.run(["umount", "-l", mount], check=False)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def docker(module_scratch: Path, runtime_program: Path, busybox_tar: Path) -> Iterator[Docker]:
    for program in ("dockerd", "docker", "containerd"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    scratch = module_scratch
    # buildkit takes the first `runc` on dockerd's PATH.
    (scratch / "bin").mkdir()
    (scratch / "bin/runc").symlink_to(runtime_program)
    log = os.open(scratch / "dockerd.log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
    daemon = subprocess.Popen(
        [
            *OWN_NETWORK, "dockerd",
            "--data-root", scratch / "data", "--exec-root", scratch / "exec",
            "--host", f"unix://{scratch}/d.sock", "--pidfile", scratch / "d.pid",
            "--exec-opt", "native.cgroupdriver=cgroupfs",
            "--default-ulimit", "nofile=1024:1024",
            "--add-runtime", f"pycontain={runtime_program}", "--default-runtime", "pycontain",
        ],
        stdout=log, stderr=log,
        env={**os.environ, "PATH": f"{scratch}/bin:{os.environ['PATH']}"},
    )  # fmt: skip
    os.close(log)
    docker = Docker(scratch)
    deadline = time.monotonic() + 60
    while subprocess.run([*docker.argv, "info"], capture_output=True, check=False).returncode:
        text = (scratch / "dockerd.log").read_text()[-3000:]
        assert daemon.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.3)
    docker("import", busybox_tar, "bb")
    yield docker
    ids = docker("ps", "-aq", status=None).split()
    if ids:
        docker("rm", "-f", *ids, status=None)
    daemon.terminate()
    try:
        daemon.wait(30)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def test_info_names_the_runtime(docker: Docker) -> None:
    info = json.loads(docker("info", "--format", "{{json .}}"))
    assert info["DefaultRuntime"] == "pycontain"
    assert info["Runtimes"]["pycontain"]["path"].endswith("pycontain-oci")


def test_run_prints_and_gives_the_status(docker: Docker) -> None:
    assert docker.run("--rm", "bb", "echo", "hello") == "hello\n"
    docker.run("--rm", "bb", "sh", "-c", "exit 7", status=7)


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_what_cannot_run_has_dockers_status(docker: Docker, command: str, status: int) -> None:
    docker.run("--rm", "bb", command, status=status)


def test_a_detached_container_lives_and_dies(docker: Docker) -> None:
    docker.run("-d", "--name", "one", "bb", "sh", "-c", "echo started; exec sleep 100")
    assert docker("exec", "one", "echo", "inside") == "inside\n"
    docker("exec", "one", "sh", "-c", "exit 3", status=3)
    # docker 20.10 answers 126, newer ones 127.
    assert "executable file not found" in docker("exec", "one", "no-such-program", status=None)
    assert docker("logs", "one") == "started\n"
    assert "sleep" in docker("top", "one")
    docker("pause", "one")
    assert docker("inspect", "--format", "{{.State.Status}}", "one").strip() == "paused"
    docker("unpause", "one")
    docker("update", "--memory", "64m", "--memory-swap", "64m", "one")
    docker("stats", "--no-stream", "one")
    docker("kill", "one")
    assert docker("wait", "one").strip() == "137"
    docker("rm", "one")


def test_stop_sends_the_signal_first(docker: Docker) -> None:
    script = "trap 'exit 4' TERM; while :; do sleep 0.1; done"
    docker.run("-d", "--name", "two", "bb", "sh", "-c", script)
    docker("stop", "two")
    assert docker("inspect", "--format", "{{.State.ExitCode}}", "two").strip() == "4"
    docker("start", "two")
    docker("rm", "-f", "two")


def test_limits_arrive(docker: Docker) -> None:
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    out = docker.run("--rm", "--memory", "64m", "bb", "sh", "-c", script + "; true")
    assert str(64 << 20) in out


def test_a_build_runs_its_commands(docker: Docker) -> None:
    docker(
        "build", "-t", "built", "-", stdin="FROM bb\nRUN echo built > /result\nCMD cat /result\n"
    )
    assert docker.run("--rm", "built") == "built\n"


def test_a_pair_talks_over_a_network(docker: Docker) -> None:
    docker("network", "create", "pair")
    serve = "echo reached | nc -l -p 80"
    docker("run", "-d", "--name", "server", "--network", "pair", "bb", "sh", "-c", serve)
    time.sleep(0.5)
    script = "nc server 80 < /dev/null"
    assert docker("run", "--rm", "--network", "pair", "bb", "sh", "-c", script) == "reached\n"
    docker("rm", "-f", "server")
    docker("network", "rm", "pair")


def test_a_service_survives_the_kill_of_one_task(docker: Docker) -> None:
    docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    try:
        docker(
            "service", "create", "--detach", "--name", "web", "--replicas", "3",
            "--restart-delay", "0s", "--network", "host", "bb", "sleep", "1000",
        )  # fmt: skip
        running = ("ps", "-q", "--filter", "name=web")
        deadline = time.monotonic() + 40
        while len(first := docker(*running).split()) != 3:
            assert time.monotonic() < deadline, docker("service", "ps", "--no-trunc", "web")
            time.sleep(0.3)
        docker("kill", first[0])
        deadline = time.monotonic() + 40
        while len(now := docker(*running).split()) != 3 or first[0] in now:
            assert time.monotonic() < deadline, docker("service", "ps", "--no-trunc", "web")
            time.sleep(0.3)
        docker("service", "rm", "web")
    finally:
        docker("swarm", "leave", "--force")
