"""`pycontain` as an ordinary user: root inside, nobody outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import BIN

NOBODY = 65534


class User:
    """The command as an ordinary user, with roots of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.prefix: list[str] = []
        if os.geteuid() == 0:
            ids = ["--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
            self.prefix = ["setpriv", *ids]

    def __call__(self, *argv: str, status: int | None = 0) -> subprocess.CompletedProcess[bytes]:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYCONTAIN_ROOT": str(self.home / "data"),
            "PYCONTAIN_STATE": str(self.home / "state"),
        }
        done = subprocess.run(
            [*self.prefix, str(BIN / "pycontain"), *argv], capture_output=True, env=env, timeout=60
        )
        assert b"Traceback" not in done.stderr, done.stderr
        if status is not None:
            assert done.returncode == status, (argv, done.stdout, done.stderr)
        return done


@pytest.fixture
def user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    busybox = shutil.which("busybox")
    if not busybox:
        pytest.skip("needs busybox")
    home = Path("/tmp") / f"pycontain-user-{os.getpid()}"
    home.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    user = User(home)
    done = user("import", "--from-host", "box", busybox, status=None)
    if done.returncode:
        shutil.rmtree(home)
        pytest.skip(f"this user cannot make an image: {done.stderr.decode().strip()}")
    yield user
    ids = user("ps", "-aq", status=None).stdout.decode().split()
    if ids:
        user("rm", "-f", *ids, status=None)
    shutil.rmtree(home)


def test_a_user_is_root_inside_and_itself_outside(user: User) -> None:
    text = user("run", "--rm", "box", "sh", "-c", "id -u; cat /proc/self/uid_map").stdout.split()
    assert text[0] == b"0"
    assert int(text[2]) != 0 or os.geteuid() == 0


def test_a_user_has_its_own_world(user: User) -> None:
    out = user("run", "--rm", "--hostname", "in", "box", "sh", "-c", "hostname; ps | wc -l").stdout
    assert out.split()[0] == b"in"
    assert int(out.split()[1]) <= 5


def test_a_limit_without_delegation_is_refused_with_a_cure(user: User) -> None:
    done = user("run", "--rm", "--memory", "64m", "box", "true", status=None)
    if done.returncode == 0:
        pytest.skip("cgroups are delegated to this user")
    assert done.returncode == 125
    assert b"delegate" in done.stderr


def test_exit_statuses_are_the_same_as_roots(user: User) -> None:
    user("run", "--rm", "box", "sh", "-c", "exit 7", status=7)
    user("run", "--rm", "box", "nosuch", status=127)
    user("run", "--rm", "box", "/etc/passwd", status=126)


def test_a_detached_container_of_a_user_is_stopped_and_removed(user: User) -> None:
    user("run", "-d", "--name", "back", "box", "sleep", "60")
    assert b"Up " in user("ps").stdout
    user("stop", "-t", "0", "back")
    user("rm", "back")
    assert user("ps", "-aq").stdout == b""


def test_a_container_of_lost_state_is_found_and_removed(user: User) -> None:
    script = "sleep 60 & exec sleep 61"
    user("run", "-d", "--name", "lost", "box", "sh", "-c", script)
    user("run", "-d", "--name", "kept", "box", "sleep", "60")
    lost = json.loads(user("inspect", "lost").stdout)[0]
    shutil.rmtree(user.home / "state/containers" / lost["Id"])
    user("rm", "-f", "lost")
    assert not Path(f"/proc/{lost['State']['Pid']}/exe").exists()
    assert user("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout == b"kept running\n"
    assert len([*(user.home / "state/locks").iterdir()]) == 1


def test_nothing_is_left_of_a_user_container(user: User) -> None:
    user("run", "--rm", "box", "sh", "-c", "mkdir -p /a/b; touch /a/b/c; chmod 0 /a")
    for name in ("data/containers", "data/names", "state/locks", "state/containers"):
        place = user.home / name
        assert not place.exists() or not list(place.iterdir())


def test_a_user_runs_a_further_command_in_its_container(user: User) -> None:
    user("run", "-d", "--name", "more", "box", "sleep", "60")
    assert user("exec", "more", "id", "-u").stdout == b"0\n"
    user("rm", "-f", "more")
