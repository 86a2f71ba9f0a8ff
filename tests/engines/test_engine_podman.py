"""podman and buildah drive pycontain-oci."""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

# This host lacks CAP_SYS_RESOURCE: podman must not raise limits.
LIMITS = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
IMAGE = "localhost/bb"


class Podman:
    def __init__(self, scratch: Path, runtime: Path) -> None:
        self.argv = [
            "podman", "--root", str(scratch / "root"), "--runroot", str(scratch / "run"),
            "--tmpdir", str(scratch / "tmp"), "--cgroup-manager", "cgroupfs",
            "--runtime", str(runtime), "--events-backend", "none",
        ]  # fmt: skip

    def __call__(self, *args: object, status: int | None = 0) -> str:
        done = subprocess.run(
            [*self.argv, *map(str, args)], capture_output=True, text=True, timeout=90, check=False
        )
        assert "Traceback" not in done.stderr
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if status else "")

    def run(self, *args: object, status: int | None = 0) -> str:
        return self("run", "--network", "none", *LIMITS, *args, status=status)


@pytest.fixture
def podman(scratch: Path, runtime_program: Path, busybox_tar: Path) -> Iterator[Podman]:
    if not shutil.which("podman"):
        pytest.skip("podman is not installed")
    podman = Podman(scratch, runtime_program)
    podman("import", "-q", busybox_tar, IMAGE)
    yield podman
    podman("rm", "--all", "--force", "--time", "0", status=None)
    podman("pod", "rm", "--all", "--force", status=None)


def test_run_prints_and_gives_the_status(podman: Podman) -> None:
    assert podman.run("--rm", IMAGE, "echo", "hello") == "hello\n"
    podman.run("--rm", IMAGE, "sh", "-c", "exit 7", status=7)


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_what_cannot_run_has_podmans_status(podman: Podman, command: str, status: int) -> None:
    podman.run("--rm", IMAGE, command, status=status)


def test_a_detached_container_lives_and_dies(podman: Podman) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sh", "-c", "echo started; exec sleep 100")
    assert podman("ps", "--format", "{{.Names}} {{.Status}}").startswith("one Up")
    assert podman("logs", "one") == "started\n"
    assert podman("exec", "one", "echo", "inside") == "inside\n"
    podman("exec", "one", "sh", "-c", "exit 3", status=3)
    podman("exec", "one", "no-such-program", status=127)
    podman("kill", "one")
    assert podman("wait", "one").strip() == "137"
    podman("rm", "one")


def test_stop_and_start_again(podman: Podman) -> None:
    podman.run(
        "-d", "--name", "one", IMAGE, "sh", "-c", "trap 'exit 4' TERM; while :; do sleep 0.1; done"
    )
    podman("stop", "one")
    assert podman("inspect", "--format", "{{.State.ExitCode}}", "one").strip() == "4"
    podman("start", "one")
    assert podman("inspect", "--format", "{{.State.Status}}", "one").strip() == "running"


def test_pause_and_unpause(podman: Podman) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sleep", "100")
    podman("pause", "one")
    assert podman("inspect", "--format", "{{.State.Status}}", "one").strip() == "paused"
    podman("unpause", "one")
    assert podman("inspect", "--format", "{{.State.Status}}", "one").strip() == "running"


def test_limits_arrive(podman: Podman) -> None:
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null"
    out = podman.run("--rm", "--memory", "64m", IMAGE, "sh", "-c", script + "; true")
    assert str(64 << 20) in out


def test_a_terminal(podman: Podman) -> None:
    argv = [*podman.argv, "run", "--rm", "-t", "--network", "none", *LIMITS, IMAGE, "tty"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "/dev/pts/0"


def test_a_pod_shares_its_namespaces(podman: Podman, runtime_program: Path) -> None:
    podman("pod", "create", "--name", "pod", "--infra=false", "--share", "none")
    podman.run("--rm", "--pod", "pod", IMAGE, "true")


def test_a_health_check(podman: Podman) -> None:
    podman.run("-d", "--name", "one", "--health-cmd", "test -e /healthy", IMAGE, "sleep", "100")
    podman("healthcheck", "run", "one", status=1)
    podman("exec", "one", "touch", "/healthy")
    podman("healthcheck", "run", "one")


def test_top_and_inspect(podman: Podman) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sleep", "100")
    assert "sleep" in podman("top", "one")
    assert podman("inspect", "--format", "{{.OCIRuntime}}", "one").strip().endswith("pycontain-oci")


def test_nothing_is_left_after_remove(podman: Podman) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sleep", "100")
    podman("rm", "--force", "--time", "0", "one")
    assert podman("ps", "--all", "--quiet") == ""


def test_buildah_builds_and_runs(podman: Podman, scratch: Path, runtime_program: Path) -> None:
    if not shutil.which("buildah"):
        pytest.skip("buildah is not installed")
    (scratch / "Containerfile").write_text(
        f"FROM {IMAGE}\nRUN echo built > /result\nCMD cat /result\n"
    )
    roots = ["--root", str(scratch / "root"), "--runroot", str(scratch / "run")]
    begun = time.monotonic()
    done = subprocess.run(
        [
            "buildah", *roots, "bud", "--runtime", str(runtime_program), "--isolation", "oci",
            "--network", "none", *LIMITS, "-t", "localhost/built", str(scratch),
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 60
    assert podman.run("--rm", "localhost/built") == "built\n"
