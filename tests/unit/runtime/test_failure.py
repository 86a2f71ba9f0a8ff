"""Why a program cannot be run, seen through its root."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pycontain.errors import CommandNotExecutableError, CommandNotFoundError, KernelError
from pycontain.runtime import elf, failure, home, hostmounts, idmap, scheduling
from pycontain.runtime.process import candidates
from pycontain.syscalls.executor import OpFailed
from pycontain.syscalls.ops import Op


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)


def examine(root: int, *args: str, **process: Any) -> Exception | None:
    return failure.examine(root, {"args": list(args), "env": ["PATH=/"], **process})


def test_a_link_to_the_host_is_looked_up_inside(root: int, tmp_path: Path) -> None:
    (tmp_path / "p").symlink_to("/bin/sh")
    finding = examine(root, "/p")
    assert isinstance(finding, CommandNotFoundError)


def test_a_fifo_is_not_waited_for(root: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p", 0o755)
    assert isinstance(examine(root, "/p"), CommandNotExecutableError)
    write(tmp_path / "s", b"#!/p\n")
    assert examine(root, "/s") is None


def test_a_broken_file_on_the_way_says_more_than_a_missing_one(root: int, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    write(tmp_path / "b/x", b"junk")
    finding = examine(root, "x", env=["PATH=/a:/b:/c"])
    assert isinstance(finding, CommandNotExecutableError)
    assert "/b/x" in str(finding)


def test_a_relative_name_starts_from_the_directory(root: int, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    write(tmp_path / "d/x", b"")
    assert "is empty" in str(examine(root, "./x", cwd="/d"))


@pytest.mark.parametrize("size", [4, 5, 16, 20, 63, 64, 100])
def test_a_short_elf_file_does_no_harm(size: int) -> None:
    with open("/proc/self/exe", "rb") as file:
        header = elf.Header(file.read(size))
    assert header.interpreter == ""


def test_the_loader_of_a_program_is_found() -> None:
    with open("/bin/ls", "rb") as file:
        header = elf.Header(file.read(4096))
    assert header.interpreter.startswith("/lib")
    assert header.runs_on(os.uname().machine)


def test_elf_with_endless_tables_is_bounded() -> None:
    head = bytearray(4096)
    head[:6] = b"\x7fELF\x02\x01"
    head[18] = 62
    head[32:40] = (2**63).to_bytes(8, "little")
    head[54:58] = b"\xff\xff\xff\xff"
    assert elf.Header(bytes(head)).interpreter == ""


def test_a_failed_op_names_step_place_object_call_and_errno() -> None:
    op = Op("mount", (), None, (), None, None, 0, "mount proc", "mounts[0]", "/proc")
    error = failure.explain(OpFailed(3, op, errno.EPERM), None)
    assert isinstance(error, KernelError)
    assert str(error).startswith("mount proc (mounts[0]): /proc: mount: Operation not permitted")
    assert "(EPERM)" in str(error)
    assert error.hint


def test_candidates() -> None:
    assert candidates({"args": ["x"], "env": ["PATH=/a/:/b"]}) == ["/a/x", "/b/x"]
    assert candidates({"args": ["./x"], "env": ["PATH=/a"]}) == ["./x"]
    assert candidates({"args": ["x"], "env": ["PATH="]}) == ["/x"]
    assert candidates({"args": [""], "env": ["PATH=/a"]}) == [""]
    assert len(candidates({"args": ["x"]})) == 6


def test_home_is_read_from_a_regular_file_inside(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    assert home.lookup(str(tmp_path), 5) == "/"
    (tmp_path / "etc/passwd").write_text("bad\nx:x:5:5:::\ny:x:5:5::/home/y:/bin/sh\n")
    assert home.lookup(str(tmp_path), 5) == "/home/y"
    (tmp_path / "etc/passwd").unlink()
    os.mkfifo(tmp_path / "etc/passwd")
    assert home.lookup(str(tmp_path), 5) == "/"


def test_the_mount_that_holds_a_path() -> None:
    table = b"\n".join(
        b"1 0 8:1 / %s rw - ext4 x rw" % point
        for point in (b"/", b"/var", b"/var/lib", b"/var/lib\\040x", b"/va")
    )
    assert hostmounts.holder(table, "/var/lib/c/root") == "/var/lib"
    assert hostmounts.holder(table, "/var/library") == "/var"
    assert hostmounts.holder(table, "/var/lib x/y") == "/var/lib x"
    assert hostmounts.holder(table, "/home") == "/"


def test_maps_and_masks() -> None:
    maps = [
        {"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 5, "size": 9},
    ]
    assert idmap.text(maps) == "0 1000 1\n1 5 9\n"  # type: ignore[arg-type]
    assert scheduling.bits("0-2,8", "x") == (0b100000111).to_bytes(8, "little")
    assert len(scheduling.bits("64", "x")) == 16
    for wrong in ("", "a", "-1", "1-", "99999", "\u0661"):
        with pytest.raises(Exception, match="no list of numbers"):
            scheduling.bits(wrong, "x")
