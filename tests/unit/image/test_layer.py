"""What becomes of a layer's entries: contained, and as the image specification says.

Runs as any user: entries belong to whoever runs the test, and overlay's attributes are
user.overlay.*.
"""

from __future__ import annotations

import os
import stat
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile import Entry, device, directory, file, hardlink, layer, symlink
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain import trees
from pycontain.errors import InvalidError
from pycontain.image import layer as layers
from pycontain.image.source import StreamSource

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stack:
    """Layers unpacked one above the other in `path`/0, 1, …, beside a canary directory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layers: list[Path] = []
        self.canary = path / "canary"
        self.canary.mkdir()
        (self.canary / "victim").write_text("canary\n")
        (self.canary / "vdir").mkdir()

    def add(self, *entries: Entry) -> Path:
        for info, _ in entries:
            info.uid = info.uid or os.getuid()
            info.gid = info.gid or os.getgid()
        return self.add_tar(layer(entries))

    def add_tar(self, content: bytes) -> Path:
        upper = self.path / str(len(self.layers))
        upper.mkdir()
        lowers = [str(lower) for lower in reversed(self.layers)]
        source = StreamSource(iter([content]), "layer")
        layers.unpack(source, str(upper), lowers, userxattr=True)
        self.layers.append(upper)
        return upper

    def untouched(self) -> bool:
        found = sorted(p.name for p in self.canary.iterdir())
        return found == ["vdir", "victim"] and (self.canary / "victim").read_text() == "canary\n"


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    yield Stack(tmp_path)
    for path in tmp_path.iterdir():
        trees.remove(str(path))


def tree(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*"))


def is_whiteout(path: Path) -> bool:
    info = path.lstat()
    return stat.S_ISCHR(info.st_mode) and info.st_rdev == 0


def is_opaque(path: Path) -> bool:
    return "user.overlay.opaque" in os.listxattr(path)


# ordinary contents


def test_mode_time_and_content_are_kept(stack: Stack) -> None:
    top = stack.add(
        directory("d", mode=0o2750, mtime=1000),
        file("d/suid", b"#!", mode=0o6755, mtime=2000),
        file("d/secret", b"s" * 5000, mode=0o000, mtime=3),
        symlink("link", "../x"),
    )
    assert stat.S_IMODE((top / "d").stat().st_mode) == 0o2750
    assert stat.S_IMODE((top / "d/suid").stat().st_mode) == 0o6755
    assert stat.S_IMODE((top / "d/secret").stat().st_mode) == 0
    assert [int(p.lstat().st_mtime) for p in (top / "d", top / "d/suid")] == [1000, 2000]
    assert (top / "link").readlink() == Path("../x")


def test_the_root_entry_sets_the_roots_mode(stack: Stack) -> None:
    assert stat.S_IMODE(stack.add(directory("./", mode=0o711)).stat().st_mode) == 0o711
    assert stat.S_IMODE(stack.add(file("x")).stat().st_mode) == 0o711


def test_a_missing_parent_is_made(stack: Stack) -> None:
    top = stack.add(file("a/b/c/f", b"x"))
    assert stat.S_IMODE((top / "a/b").stat().st_mode) == 0o755


def test_hard_links_share_one_inode(stack: Stack) -> None:
    top = stack.add(directory("d"), file("d/f", b"x"), hardlink("g", "d/f"), hardlink("d/h", "/g"))
    assert (top / "g").stat().st_ino == (top / "d/f").stat().st_ino == (top / "d/h").stat().st_ino


def test_a_hard_link_to_a_symlink_links_the_symlink(stack: Stack) -> None:
    top = stack.add(symlink("s", str(stack.canary / "victim")), hardlink("h", "s", mode=0o4777))
    assert (top / "h").is_symlink()
    assert (top / "h").lstat().st_ino == (top / "s").lstat().st_ino
    assert stat.S_IMODE((stack.canary / "victim").stat().st_mode) != 0o4777


def test_a_hard_link_into_a_lower_layer_copies_it_up(stack: Stack) -> None:
    stack.add(directory("d"), file("d/f", b"lower", mode=0o640, mtime=77))
    top = stack.add(hardlink("g", "d/f"))
    assert (top / "g").read_bytes() == b"lower"
    assert (top / "g").stat().st_ino == (top / "d/f").stat().st_ino
    assert (stat.S_IMODE((top / "g").stat().st_mode), int((top / "g").stat().st_mtime)) == (
        0o640,
        77,
    )


def test_a_fifo_is_made_and_a_later_entry_replaces_an_earlier_one(stack: Stack) -> None:
    top = stack.add(
        file("p", type=tarfile.FIFOTYPE),
        file("f", b"old"),
        file("f", b"new"),
        directory("d"),
        file("d/x"),
        file("d", b"now a file"),
        file("g"),
        directory("g"),
        file("g/y"),
    )
    assert stat.S_ISFIFO((top / "p").lstat().st_mode)
    assert (top / "f").read_bytes() == b"new"
    assert (top / "d").read_bytes() == b"now a file"
    assert tree(top) == ["d", "f", "g", "g/y", "p"]


def test_names_of_any_bytes_are_kept(stack: Stack) -> None:
    names = [b"new\nline", b"esc\x1b[31m", b"\xff\xfe", b"a\\b", b" "]
    top = stack.add(*(file(os.fsdecode(name)) for name in names))
    assert sorted(os.listdir(os.fsencode(top))) == sorted(names)


def test_a_sparse_file_stays_sparse(stack: Stack) -> None:
    import subprocess

    source = stack.path / "sparse"
    with source.open("wb") as out:
        out.write(b"a")
        out.seek(20_000_000)
        out.write(b"b")
        out.truncate(30_000_000)
    argv = ["tar", "-C", str(stack.path), "-cSf", "-", "sparse"]
    top = stack.add_tar(subprocess.run(argv, check=True, capture_output=True).stdout)
    assert (top / "sparse").read_bytes() == source.read_bytes()
    assert (top / "sparse").stat().st_blocks * 512 < 1_000_000


# lower layers


def test_usrmerge_a_path_through_a_lower_symlink_lands_at_its_target(stack: Stack) -> None:
    stack.add(directory("usr"), directory("usr/lib", mode=0o751), symlink("lib", "usr/lib"))
    top = stack.add(file("lib/x", b"x"))
    assert tree(top) == ["usr", "usr/lib", "usr/lib/x"]
    assert stat.S_IMODE((top / "usr/lib").stat().st_mode) == 0o751


def test_absolute_and_climbing_symlinks_resolve_inside(stack: Stack) -> None:
    stack.add(directory("a"), directory("a/b"), symlink("abs", "/a/b"), symlink("up", "../../../a"))
    top = stack.add(file("abs/x"), file("up/y"))
    assert tree(top) == ["a", "a/b", "a/b/x", "a/y"]


def test_a_symlink_of_a_hidden_layer_does_not_count(stack: Stack) -> None:
    stack.add(directory("t"), symlink("s", "t"))
    stack.add(file(".wh.s"), directory("t"))
    top = stack.add(file("s/f"))
    assert (top / "s/f").exists()
    assert not (top / "t").exists()
    # The directory must not merge with whatever lies under the whiteout.
    assert (top / "s").is_dir()


def test_a_whiteout_hides_only_what_a_lower_layer_has(stack: Stack) -> None:
    stack.add(directory("d"), file("d/gone"), file("d/stays"), directory("tree"), file("tree/x"))
    top = stack.add(file("d/.wh.gone"), file("d/.wh.never"), file(".wh.tree"))
    assert is_whiteout(top / "d/gone")
    assert is_whiteout(top / "tree")
    assert tree(top) == ["d", "d/gone", "tree"]


def test_a_whiteout_does_not_hide_its_own_layers_file(stack: Stack) -> None:
    stack.add(file("f", b"old"), directory("d"), file("d/old"))
    top = stack.add(file("f", b"new"), file(".wh.f"), directory("d"), file("d/new"), file(".wh.d"))
    assert (top / "f").read_bytes() == b"new"
    assert is_opaque(top / "d")
    assert tree(top) == ["d", "d/new", "f"]


def test_a_directory_after_its_whiteout_is_opaque(stack: Stack) -> None:
    stack.add(directory("d"), file("d/old"))
    top = stack.add(file(".wh.d"), directory("d"), file("d/new"))
    assert is_opaque(top / "d")
    implicit = stack.add(file(".wh.d"), file("d/newer"))
    assert is_opaque(implicit / "d")


def test_an_opaque_marker_hides_the_lower_directory(stack: Stack) -> None:
    stack.add(directory("d"), symlink("d/s", "../elsewhere"), directory("elsewhere"))
    top = stack.add(directory("d"), file("d/.wh..wh..opq"), file("d/s/f"))
    assert is_opaque(top / "d")
    assert (top / "d/s/f").is_file()
    # Opaqueness lasts: a third layer does not see the first one's link either.
    third = stack.add(file("d/s/g"))
    assert tree(third) == ["d", "d/s", "d/s/g"]


def test_an_opaque_root_hides_every_name(stack: Stack) -> None:
    # Overlay does not honour the attribute on the root of a layer.
    stack.add(directory("d"), file("d/old"), file("f"), directory("e"), file("e/old"))
    top = stack.add(directory("d"), file(".wh..wh..opq"), directory("e"), file("e/new"))
    assert is_whiteout(top / "f")
    assert is_opaque(top / "d")
    assert is_opaque(top / "e")
    assert not is_opaque(top)


def test_a_whiteout_in_no_directory_makes_none(stack: Stack) -> None:
    stack.add(file("f"))
    assert tree(stack.add(file("a/b/.wh.c"), file("x/.wh..wh..opq"))) == []


def test_aufs_bookkeeping_is_left_out(stack: Stack) -> None:
    assert tree(stack.add(directory(".wh..wh.plnk"), file(".wh..wh.aufs"), file("x"))) == ["x"]


def test_a_link_that_is_replaced_leads_elsewhere_from_then_on(stack: Stack) -> None:
    stack.add(directory("a"), directory("b"), symlink("s", "a"))
    top = stack.add(file("s/x"), symlink("s", "b"), file("s/y"))
    assert tree(top) == ["a", "a/x", "b", "b/y", "s"]


def test_what_an_opaque_directory_hid_stays_hidden(stack: Stack) -> None:
    stack.add(directory("d"), symlink("d/s", "../elsewhere"), directory("elsewhere"))
    stack.add(directory("d"), file("d/.wh..wh..opq"))
    top = stack.add(file("d/s/f"))
    assert tree(top) == ["d", "d/s", "d/s/f"]


def test_a_raw_whiteout_node_is_a_whiteout(stack: Stack) -> None:
    stack.add(file("f"))
    assert is_whiteout(stack.add(device("f", tarfile.CHRTYPE, 0, 0)) / "f")


def test_overlays_own_attributes_are_not_taken_over(stack: Stack) -> None:
    entry = directory("d")
    entry[0].pax_headers = {
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.mine": "kept",
    }
    top = stack.add(entry)
    assert os.listxattr(top / "d") == ["user.mine"]


# hostile


def hostile_cases(canary: str) -> dict[str, list[Entry]]:
    climb = "../" * 20 + canary.lstrip("/")
    return {
        "dot dot": [file(f"{climb}/pwned")],
        "dot dot inside": [directory("a"), file("a/../../pwned")],
        "absolute": [file(f"{canary}/pwned")],
        "through a symlink": [symlink("s", canary), file("s/pwned")],
        "through a relative symlink": [symlink("s", climb), file("s/pwned")],
        "through two symlinks": [symlink("a", canary), symlink("b", "a"), file("b/pwned")],
        "symlink then file of its name": [symlink("s", f"{canary}/victim"), file("s", b"pwned")],
        "hard link to the host": [hardlink("h", f"{canary}/victim"), file("h", b"pwned")],
        "hard link out": [hardlink("h", f"{climb}/victim"), file("h", b"pwned")],
        "hard link to a symlink": [
            symlink("s", f"{canary}/victim"),
            hardlink("h", "s", mode=0o4777),
            file("h", b"pwned"),
        ],
        "hard link through a symlink": [symlink("s", canary), hardlink("h", "s/victim")],
        "root is a symlink": [symlink("./", canary), file("pwned")],
        "root is a file": [file("./", type=tarfile.FIFOTYPE)],
        "whiteout through a symlink": [symlink("x", canary), file("x/.wh.victim")],
        "opaque through a symlink": [symlink("x", canary), file("x/.wh..wh..opq")],
        "whiteout of dot dot": [directory("d"), file("d/.wh...")],
        "whiteout of dot": [file(".wh..")],
        "whiteout of nothing": [file(".wh.")],
        "below a whiteout": [file(".wh.x/pwned")],
        "symlink becomes a directory": [
            symlink("s", canary),
            directory("s"),
            file("s/../x/pwned"),
        ],
        "directory becomes a symlink": [directory("s"), symlink("s", canary), file("s/pwned")],
        "hard link to a directory": [directory("d"), hardlink("h", "d")],
        "hard link to nothing": [hardlink("h", "none")],
        "hard link to itself": [file("h"), hardlink("h", "h")],
        "hard link to the root": [hardlink("h", ".")],
        "file as directory": [file("f"), file("f/x")],
        "loop": [symlink("a", "b"), symlink("b", "a"), file("a/x")],
        "long component": [file("n" * 256)],
        "long path": [file("/".join(["d" * 200] * 30))],
        "empty symlink": [symlink("s", "")],
        "chmod through a symlink": [symlink("d", f"{canary}/vdir"), directory("d", mode=0o777)],
    }


_NAMES = sorted(hostile_cases("/c"))


@pytest.mark.parametrize("name", _NAMES)
def test_a_hostile_layer_is_refused_or_contained(stack: Stack, name: str) -> None:
    before = (stack.canary / "victim").stat()
    try:
        stack.add(*hostile_cases(str(stack.canary))[name])
    except InvalidError as error:
        assert str(error).isprintable()
    assert stack.untouched()
    after = (stack.canary / "victim").stat()
    assert (after.st_mode, after.st_nlink, after.st_uid) == (
        before.st_mode,
        before.st_nlink,
        before.st_uid,
    )


REFUSED = [
    "dot dot",
    "dot dot inside",
    "hard link out",
    "root is a symlink",
    "whiteout of dot dot",
    "loop",
    "whiteout of nothing",
    "hard link to a directory",
    "hard link to nothing",
    "file as directory",
    "hard link to the host",
    "below a whiteout",
    "empty symlink",
    "long component",
    "hard link to itself",
]


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(stack: Stack, name: str) -> None:
    with pytest.raises(InvalidError):
        stack.add(*hostile_cases(str(stack.canary))[name])


@pytest.mark.parametrize("name", ["victim", "x"])
def test_a_hostile_layer_above_a_hostile_one(stack: Stack, name: str) -> None:
    stack.add(symlink("s", str(stack.canary)), symlink("f", str(stack.canary / "victim")))
    stack.add(file(f"s/{name}", b"pwned"), file("f", b"pwned"), file("s/.wh.victim"))
    assert stack.untouched()


PARTS = st.sampled_from(["a", "b", "s", "..", ".", "", ".wh.a", ".wh..wh..opq", "c"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)
KINDS = st.sampled_from(["file", "dir", "sym", "hard", "fifo", "climb"])


def build(kind: str, path: str, target: str, canary: str) -> Entry:
    match kind:
        case "dir":
            return directory(path)
        case "sym":
            return symlink(path, target or "x")
        case "climb":
            return symlink(path, "../" * 9 + canary.lstrip("/"))
        case "hard":
            return hardlink(path, target)
        case "fifo":
            return file(path, type=tarfile.FIFOTYPE)
    return file(path, b"content")


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(st.lists(st.lists(st.tuples(KINDS, PATHS, PATHS), max_size=8), min_size=1, max_size=3))
def test_no_sequence_of_entries_leads_out(
    tmp_path_factory: pytest.TempPathFactory, content: list[list[tuple[str, str, str]]]
) -> None:
    path = tmp_path_factory.mktemp("stack")
    try:
        stack = Stack(path)
        fds = len(os.listdir("/proc/self/fd"))
        for entries in content:
            try:
                stack.add(*(build(*entry, str(stack.canary)) for entry in entries))
            except InvalidError:
                break
        assert stack.untouched()
        assert sorted(p.name for p in path.iterdir() if not p.name.isdigit()) == ["canary"]
        assert len(os.listdir("/proc/self/fd")) == fds
    finally:
        trees.remove(str(path))
