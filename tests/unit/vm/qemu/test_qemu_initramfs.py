"""The newc writer, read back by the format's description and by cpio(1) where it is installed."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.vm.qemu.initramfs import CpioWriter, tree_bytes, walk


def entries(data: bytes) -> dict[str, tuple[dict[str, int], bytes]]:
    """Read an archive: name -> (header fields, content)."""
    names = [
        "ino",
        "mode",
        "uid",
        "gid",
        "nlink",
        "mtime",
        "filesize",
        "maj",
        "min",
        "rmaj",
        "rmin",
        "namesize",
        "check",
    ]
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        head = data[at + 6 : at + 110]
        fields = {name: int(head[8 * n : 8 * n + 8], 16) for n, name in enumerate(names)}
        start = at + 110
        name = data[start : start + fields["namesize"] - 1].decode()
        body = -(-(start + fields["namesize"]) // 4) * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields, data[body : body + fields["filesize"]])
        at = -(-(body + fields["filesize"]) // 4) * 4


def archive(root) -> bytes:
    out = io.BytesIO()
    writer = CpioWriter(out)
    writer.tree(root)
    writer.close()
    return out.getvalue()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"x" * 1001)
    (root / "bin/tool").chmod(0o4755)
    os.link(root / "bin/tool", root / "bin/same")
    (root / "link").symlink_to("/etc/passwd")
    os.mkfifo(root / "pipe")
    return root


def test_files_links_and_modes_survive(root):
    found = entries(archive(root))
    assert found["link"][1] == b"/etc/passwd"
    assert stat.S_ISLNK(found["link"][0]["mode"])
    assert stat.S_IMODE(found["bin/tool"][0]["mode"]) == 0o4755
    assert stat.S_ISFIFO(found["pipe"][0]["mode"])


def test_hard_links_share_an_inode_and_are_stored_once(root):
    found = entries(archive(root))
    same, tool = found["bin/same"], found["bin/tool"]
    assert same[0]["ino"] == tool[0]["ino"]
    assert sorted((len(same[1]), len(tool[1]))) == [0, 1001]
    assert same[0]["nlink"] > 1


def test_the_same_tree_gives_the_same_bytes(root):
    assert archive(root) == archive(root)


def test_a_copied_tree_gives_the_same_bytes(root, tmp_path):
    subprocess.run(["cp", "-a", root, tmp_path / "copy"], check=True)
    assert archive(root) == archive(tmp_path / "copy")


def test_parents_come_first(root):
    names = [name for name, _ in walk(root)]
    assert names.index("bin") < names.index("bin/tool")
    assert "link" in names and not any(name.startswith("link/") for name in names)


def test_a_socket_is_left_out(root, monkeypatch):
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        assert "sock" not in entries(archive(root))


def test_a_device_node_needs_no_privilege():
    out = io.BytesIO()
    writer = CpioWriter(out)
    writer.character_device("dev/console", 5, 1)
    writer.close()
    fields, _ = entries(out.getvalue())["dev/console"]
    assert (fields["rmaj"], fields["rmin"]) == (5, 1)
    assert stat.S_ISCHR(fields["mode"])


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=8))
def test_every_length_is_padded_right(contents):
    out = io.BytesIO()
    writer = CpioWriter(out)
    for number, content in enumerate(contents):
        writer.file("n" * (number + 1), content)
    writer.close()
    found = entries(out.getvalue())
    assert [found["n" * (number + 1)][1] for number in range(len(contents))] == contents
    assert len(out.getvalue()) % 4 == 0


def test_cpio_reads_it(root, tmp_path):
    if shutil.which("cpio") is None:
        pytest.skip("needs cpio")
    done = subprocess.run(
        ["cpio", "-t", "--quiet"], input=archive(root), capture_output=True, check=True
    )
    assert set(done.stdout.decode().split()) == {name for name, _ in walk(root)}


def test_the_size_of_a_tree_is_that_of_its_files(root):
    assert tree_bytes(root) == 2002
