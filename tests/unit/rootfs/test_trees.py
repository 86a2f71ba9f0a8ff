"""Trees are removed at any depth without following a link; files appear whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pycontain import trees
from pycontain.errors import KernelError

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_followed(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary/victim").write_text("x")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "link").symlink_to(tmp_path / "canary")
    (tree / "sub/link").symlink_to("../../canary")
    trees.remove(str(tree))
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["canary", "victim"]
    link = tmp_path / "top"
    link.symlink_to(tmp_path / "canary")
    trees.remove(str(link))
    assert (tmp_path / "canary/victim").exists()


def test_deeper_than_a_path_may_be(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d" * 20, dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = len(os.listdir("/proc/self/fd"))
    trees.remove(str(tmp_path / ("d" * 20)))
    trees.remove(str(tmp_path / "f"))
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_missing_tree_is_no_error(tmp_path: Path) -> None:
    trees.remove(str(tmp_path / "none"))


def test_two_may_remove_one_tree(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(300):
        (tree / f"{number % 7}/{number}").mkdir(parents=True)
        (tree / f"{number % 7}/{number}/f").touch()
    pid = os.fork()
    if pid == 0:
        try:
            trees.remove(str(tree))
            os._exit(0)
        finally:
            os._exit(1)
    trees.remove(str(tree))
    assert os.waitpid(pid, 0)[1] == 0
    assert not tree.exists()


def test_names_of_any_bytes_go(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (b"\xff\xfe", b"new\nline", b"\xed\xa0\x80"):
        os.close(os.open(os.fsencode(tree) + b"/" + name, os.O_CREAT | os.O_WRONLY))
    trees.remove(str(tree))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    trees.write_atomic(str(path), b"old")
    (tmp_path / "dir").mkdir()
    with pytest.raises(IsADirectoryError):
        trees.write_atomic(str(tmp_path / "dir"), b"new")
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dir", "file"]


def test_a_fifo_a_device_and_a_large_file_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/null", str(tmp_path)):
        with pytest.raises(OSError, match="regular"):
            trees.read_file(path, 100)
    (tmp_path / "large").write_bytes(b"x" * 101)
    with pytest.raises(OSError, match="large"):
        trees.read_file(str(tmp_path / "large"), 100)
    assert len(trees.read_file(str(tmp_path / "large"), 101)) == 101


def test_directories_are_made_for_their_owner_and_those_there_stay(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    trees.make_directories(f"{tmp_path}/a/b")
    trees.make_directories(f"{tmp_path}/a/b/c", 0o755)
    assert [(tmp_path / path).stat().st_mode & 0o777 for path in (".", "a/b", "a/b/c")] == [
        0o755, 0o700, 0o755,
    ]  # fmt: skip


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(KernelError, match=r"make directory .*/file/a: mkdir: .*ENOTDIR"):
        trees.make_directories(f"{tmp_path}/file/a/b")
    with pytest.raises(KernelError, match=r"make directory .*/dangling/a: mkdir: .*ENOENT"):
        trees.make_directories(f"{tmp_path}/dangling/a/b")
