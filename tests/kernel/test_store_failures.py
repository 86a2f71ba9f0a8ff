"""A data root or a state root that cannot be used: one line that says what, where and the cure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import CHECKOUT, Cli

pytestmark = pytest.mark.root

READS = [["images"], ["ps"], ["rm", "aa"], ["rmi", "aa"], ["inspect", "aa"], ["volume", "ls"],
         ["history", "aa"], ["run", "aa"], ["tag", "aa", "bb"]]  # fmt: skip
WRITES = [["load", "-q", "-i", "ARCHIVE"], ["volume", "create", "data"],
          ["import", "ARCHIVE", "name"]]  # fmt: skip
OTHER = "or choose another place with --root"


def told(done: subprocess.CompletedProcess[bytes]) -> str:
    line = done.stderr.decode()
    assert done.returncode == 125, (done.args, line)
    assert line.startswith("pycontain: ")
    assert line.count("\n") == 1, line
    assert "system call failed" not in line
    assert "internal error" not in line
    return line


def words(verb: list[str], archive: Path) -> list[str]:
    return [str(archive) if word == "ARCHIVE" else word for word in verb]


@pytest.mark.parametrize("verb", [*READS, *WRITES], ids=" ".join)
def test_a_file_in_the_place_of_the_data_root(
    tmp_path: Path, busybox_archive: Path, verb: list[str]
) -> None:
    (tmp_path / "file").write_text("")
    cli = Cli(tmp_path / "file", tmp_path / "state")
    line = told(cli(*words(verb, busybox_archive), status=None))
    assert f"{tmp_path}/file/" in line
    assert f"(ENOTDIR); {tmp_path}/file is not a directory: move it away, {OTHER}" in line


@pytest.mark.parametrize("verb", [*READS, *WRITES], ids=" ".join)
def test_a_loop_of_links_in_the_place_of_the_data_root(
    tmp_path: Path, busybox_archive: Path, verb: list[str]
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    cli = Cli(tmp_path / "loop", tmp_path / "state")
    line = told(cli(*words(verb, busybox_archive), status=None))
    assert f"(ELOOP); {tmp_path}/loop is a loop of symbolic links: remove it, {OTHER}" in line


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("verb", WRITES, ids=" ".join)
def test_a_read_only_file_system(tmp_path: Path, busybox_archive: Path, verb: list[str]) -> None:
    with mounted(tmp_path / "ro", "ro"):
        cli = Cli(tmp_path / "ro/data", tmp_path / "state")
        line = told(cli(*words(verb, busybox_archive), status=None))
        assert f"(EROFS); mount the file system of {tmp_path}/ro writable, {OTHER}" in line
        assert cli.text("images", "-q") == cli.text("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("options", "what"),
    [("size=100k", "space"), ("size=1200k", "space"), ("size=8m,nr_inodes=9", "inodes")],
)
def test_a_full_file_system(tmp_path: Path, busybox_archive: Path, options: str, what: str) -> None:
    with mounted(tmp_path / "full", options):
        cli = Cli(tmp_path / "full/data", tmp_path / "state")
        line = told(cli("load", "-q", "-i", busybox_archive, status=None))
        assert f"(ENOSPC); the file system of {tmp_path}/full has no {what} left" in line
        assert f"make room there (pycontain rm, rmi), {OTHER}" in line
        assert cli.text("images", "-q") == ""


@pytest.mark.parametrize(
    ("root", "verb"),
    [
        ("data", ["images"]),
        ("data", ["ps"]),
        ("data", ["rm", "-f", "aa", "bb"]),
        ("data", ["run", "aa"]),
        ("state", ["ps"]),
        ("state", ["run", "aa"]),
    ],
)
def test_a_root_of_somebody_else(tmp_path: Path, root: str, verb: list[str]) -> None:
    for above in tmp_path.parents[: len(tmp_path.parents) - 2]:
        above.chmod(above.stat().st_mode | 0o011)
    tmp_path.chmod(0o777)
    roots = {name: tmp_path / f"free-{name}" for name in ("data", "state")}
    roots[root] = tmp_path / root
    roots[root].mkdir(mode=0o700)
    (roots[root] / "locks").mkdir()
    cli = Cli(roots["data"], roots["state"])
    as_user = ["setpriv", "--reuid", "1234", "--regid", "1234", "--clear-groups"]
    done = subprocess.run([*as_user, *cli.argv(*verb)], capture_output=True, cwd=CHECKOUT)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 125
    assert len(lines) == (2 if verb[0] == "rm" else 1)
    option = "--root" if root == "data" else "--state"
    why = f"{roots[root]} belongs to user 0 (mode 700), this is user 1234: run as that user, "
    assert all(line.endswith(f"(EACCES); {why}or choose another place with {option}")
               for line in lines)  # fmt: skip
    assert os.listdir(roots[root]) == ["locks"]
