"""dockerd drives pycontain-oci: containers, builds, a network, a swarm service."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dockerd import Docker, dockerd

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def docker(runtime_program: Path, busybox_tar: Path) -> Iterator[Docker]:
    scratch = Path(tempfile.mkdtemp(prefix="pc-d-"))
    try:
        with dockerd(scratch, runtime_program) as docker:
            docker("import", busybox_tar, "bb")
            yield docker
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
