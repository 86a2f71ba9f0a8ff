"""podman without root drives pycontain-oci: as root of a user namespace, without cgroups."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

IMAGE = "localhost/bb"
USER = "man"
"""Somebody /etc/passwd names, as newuidmap(1) wants it."""
UID, GID = pwd.getpwnam(USER)[2:4]
LAY = 'for file in /etc/subuid /etc/subgid; do mount --bind "$0" $file; done; exec setpriv "$@"'


class Podman:
    """podman as the user, in a mount namespace where /etc/subuid grants it ids."""

    def __init__(self, scratch: Path, runtime: Path) -> None:
        self.scratch = scratch
        self.rows = scratch / "rows"
        self.rows.write_text(f"{USER}:900000:65536\n")
        self.options = [
            "--root", scratch / "root", "--runroot", scratch / "run", "--storage-driver", "vfs",
            "--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", runtime,
        ]  # fmt: skip

    def user(self, *argv: object) -> subprocess.CompletedProcess[str]:
        """Run a command as the user."""
        lay = ["unshare", "--mount", "sh", "-euc", LAY, self.rows]
        words = [*lay, "--reuid", UID, "--regid", GID, "--clear-groups", *argv]
        env = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self.scratch),
            "XDG_RUNTIME_DIR": str(self.scratch),
        }
        return subprocess.run(
            list(map(str, words)), capture_output=True, text=True, timeout=90, check=False,
            env=env, cwd="/",
        )  # fmt: skip

    def __call__(self, *args: object, status: int = 0) -> str:
        done = self.user("podman", *self.options, *args)
        assert "Traceback" not in done.stderr
        assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout

    def run(self, *args: object, status: int = 0) -> str:
        return self("run", "--network", "none", *args, status=status)


@pytest.fixture
def podman(scratch: Path, runtime_program: Path, busybox_tar: Path) -> Iterator[Podman]:
    for program in ("podman", "newuidmap"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    archive = scratch / "busybox.tar"
    archive.write_bytes(busybox_tar.read_bytes())
    for path in (scratch, archive):
        os.chown(path, UID, GID)
    podman = Podman(scratch, runtime_program)
    if podman.user(runtime_program, "--version").returncode:
        pytest.skip("needs a pycontain-oci that an ordinary user may run")
    podman("import", "-q", archive, IMAGE)
    yield podman
    podman("rm", "--all", "--force", "--time", "0")
    podman("system", "migrate")  # ends the process that keeps the user namespace


def test_run_prints_and_gives_the_status(podman: Podman) -> None:
    assert podman.run("--rm", IMAGE, "id", "-u") == "0\n"
    podman.run("--rm", IMAGE, "sh", "-c", "exit 7", status=7)
    podman.run("--rm", IMAGE, "no-such-program", status=127)


def test_a_detached_container_lives_and_dies(podman: Podman, scratch: Path) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sleep", "100")
    assert podman("exec", "one", "sh", "-c", "echo $$; cat /proc/1/cmdline").startswith("2\nsleep")
    podman("exec", "one", "sh", "-c", "exit 3", status=3)
    assert len(list((scratch / "pycontain-oci").iterdir())) == 1
    podman("kill", "one")
    assert podman("wait", "one").strip() == "137"
    podman("start", "one")
    podman("rm", "--force", "--time", "0", "one")
    assert list((scratch / "pycontain-oci").iterdir()) == []


def test_a_pid_namespace_is_shared(podman: Podman) -> None:
    podman.run("-d", "--name", "one", IMAGE, "sleep", "100")
    words = ["--pid", "container:one", IMAGE, "cat", "/proc/1/cmdline"]
    assert podman.run("--rm", *words).startswith("sleep")


def test_ones_own_id_is_kept(podman: Podman) -> None:
    podman.run("-d", "--name", "one", "--userns", "keep-id", IMAGE, "sleep", "100")
    assert podman("exec", "one", "id", "-u") == f"{UID}\n"
    assert podman("exec", "--user", "0", "one", "id", "-u") == "0\n"


def test_a_privileged_container_has_the_hosts_devices(podman: Podman) -> None:
    script = "echo x >/dev/null; stat -c %t:%T /dev/null /dev/full"
    assert podman.run("--rm", "--privileged", IMAGE, "sh", "-c", script).split() == ["1:3", "1:7"]
