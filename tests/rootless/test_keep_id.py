"""`--userns keep-id`: an ordinary user with subordinate ids, under its own id inside."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import BIN, with_subordinate_ids

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to grant a user subordinate ids"
)

USER = "man"
"""Somebody /etc/passwd names, as newuidmap(1) wants it; with another group id than user id."""
UID, GID = pwd.getpwnam(USER)[2:4]


class User:
    """The command as a user to whom the rows of /etc/subuid and /etc/subgid grant ids."""

    def __init__(self, home: Path, rows: str) -> None:
        self.home = home
        self.rows = rows

    def __call__(self, *argv: str, status: int = 0) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYCONTAIN_ROOT": str(self.home / "data"),
            "PYCONTAIN_STATE": str(self.home / "state"),
        }
        user = ["setpriv", "--reuid", str(UID), "--regid", str(GID), "--clear-groups"]
        words = [*with_subordinate_ids(self.rows), *user, str(BIN / "pycontain"), *argv]
        done = subprocess.run(words, capture_output=True, env=env, timeout=60, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == status, (argv, done.stdout, done.stderr)
        return done.stdout + done.stderr


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path("/tmp") / f"pycontain-keep-id-{os.getpid()}"
    path.mkdir(mode=0o755)
    os.chown(path, UID, GID)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def user(home: Path) -> Iterator[User]:
    busybox = shutil.which("busybox")
    if not busybox or not shutil.which("newuidmap"):
        pytest.skip("needs busybox and newuidmap")
    user = User(home, f"{USER}:900000:65536\n")
    user("import", "--from-host", "box", busybox)
    yield user
    ids = user("ps", "-aq").split()
    if ids:
        user("rm", "-f", *ids)


def test_the_caller_has_its_own_id_inside(user: User) -> None:
    out = user("run", "--rm", "--userns", "keep-id", "box", "sh", "-c", "id -u; id -g; pwd")
    assert out.split() == [str(UID), str(GID), "/"]


def test_the_map_has_the_caller_in_its_place(user: User) -> None:
    out = user("run", "--rm", "--userns", "keep-id", "box", "cat", "/proc/self/uid_map")
    rows = [tuple(map(int, line.split())) for line in out.splitlines()]
    assert rows == [
        (0, 900000, UID),
        (UID, UID, 1),
        (UID + 1, 900000 + UID, 65536 - UID),
    ]


def test_the_images_files_belong_to_root(user: User) -> None:
    files = ["/", "/bin", "/bin/busybox", "/etc/hosts", "/etc/hostname"]
    out = user("run", "--rm", "--userns", "keep-id", "box", "stat", "-c", "%u:%g", *files)
    assert set(out.split()) == {"0:0"}


def test_a_file_in_a_bound_directory_belongs_to_the_caller(user: User, home: Path) -> None:
    (home / "share").mkdir()
    os.chown(home / "share", UID, GID)
    bind = f"{home}/share:/s"
    out = user("run", "--rm", "--userns", "keep-id", "-v", bind, "box",
               "sh", "-c", "touch /s/f; stat -c %u /s/f")  # fmt: skip
    assert out == f"{UID}\n"
    assert (home / "share/f").stat().st_uid == UID


def test_another_user_can_be_chosen(user: User) -> None:
    out = user("run", "--rm", "--userns", "keep-id", "--user", "0", "box",
               "sh", "-c", "id -u; touch /x; stat -c %u /x")  # fmt: skip
    assert out.split() == ["0", "0"]


def test_a_detached_one_takes_an_exec_and_leaves_nothing(user: User, home: Path) -> None:
    user("run", "-d", "--name", "back", "--userns", "keep-id", "box", "sleep", "60")
    assert user("exec", "back", "id", "-u") == f"{UID}\n"
    assert user("exec", "--user", "0", "back", "sh", "-c", "mkdir -p /a/b; touch /a/b/c; id -u")
    user("rm", "-f", "back")
    for name in ("data/containers", "data/names", "state/locks", "state/containers"):
        place = home / name
        assert not place.exists() or not list(place.iterdir())


def test_without_subordinate_ids_it_is_refused(user: User) -> None:
    user.rows = "someone:900000:65536\n"
    out = user("run", "--rm", "--userns", "keep-id", "box", "true", status=125)
    assert "/etc/subuid" in out


@pytest.mark.parametrize("mode", ["auto", "1:2:3", "nomap", "nonsense"])
def test_what_a_user_cannot_have_is_refused(user: User, mode: str) -> None:
    out = user("run", "--rm", "--userns", mode, "box", "true", status=125)
    assert "--userns" in out
    assert out.count("\n") == 1


@pytest.mark.parametrize("mode", ["host", "private"])
def test_otherwise_the_caller_is_root(user: User, mode: str) -> None:
    assert user("run", "--rm", "--userns", mode, "box", "id", "-u") == "0\n"
