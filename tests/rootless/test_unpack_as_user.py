"""Loading, mounting and removing as an ordinary user, with and without subordinate ids."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import subprocess
import tarfile
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hostile import device, directory, file, hardlink, layer
from imagefiles import Layout, named, simple

from pycontain.engine import unpack
from pycontain.errors import InvalidError, PycontainError
from pycontain.image import compression
from pycontain.image.store import ImageStore
from pycontain.rootfs import userns
from pycontain.rootfs.snapshotter import Snapshotter
from pycontain.syscalls import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GRANTED = 1
"""The user daemon, which exists everywhere and gets subordinate ids from `grant_ids`."""
MOUNT_POINTS = {"dev", "etc", "etc/hostname", "etc/hosts", "etc/resolv.conf", "proc", "sys"}
FIRST = [
    directory("d", mode=0o755, uid=5, gid=6),
    file("d/a", b"a", uid=1000, gid=1000, mode=0o4755),
    file("d/gone"),
    directory("o"),
    file("o/old"),
    hardlink("h", "d/a"),
    device("null", tarfile.CHRTYPE, 1, 3),
]
SECOND = [file("d/.wh.gone"), directory("o"), file("o/.wh..wh..opq"), file("o/new")]


def plain_user() -> int:
    """A user without subordinate ids: whoever runs the tests, or for root the user nobody."""
    return os.getuid() or 65534


def user_with_ids() -> int:
    """A user with subordinate ids; skips the test where there can be none."""
    if not shutil.which("newuidmap"):
        pytest.skip("needs newuidmap (package uidmap)")
    if os.getuid() == 0:
        if not Path("/etc/subuid").exists():
            pytest.skip("needs /etc/subuid, to lay another one over it")
        return GRANTED
    if userns.id_maps().count == 1:
        pytest.skip("needs subordinate ids for this user in /etc/subuid")
    return os.getuid()


def grant_ids() -> None:
    """Lay files over /etc/subuid and /etc/subgid that grant ids, for this process alone."""
    kernel.unshare(0x20000)
    kernel.mount(None, "/", None, 0x4000 | 0x40000)
    with tempfile.NamedTemporaryFile("w", delete=False) as granted:
        granted.write(f"{GRANTED}:500000:65536\n")
    os.chmod(granted.name, 0o644)
    for path in ("/etc/subuid", "/etc/subgid"):
        kernel.mount(granted.name, path, None, 0x1000)
    os.unlink(granted.name)


def as_user(uid: int, function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function as another user in a forked child: python may be out of its reach."""
    for module in ("isal.igzip_lib", "zlib", "lzma", "zstandard", "pwd", "tempfile"):
        try:
            __import__(module)
        except ImportError:
            continue
    assert compression.detect(b"") == ""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if os.getuid() == 0:
                if uid == GRANTED:
                    grant_ids()
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                # Dropping root made /proc/self unwritable (prctl(2), PR_SET_DUMPABLE).
                kernel.prctl(4, 1)
            result: tuple[str, object] = ("result", function(*arguments))
        except PycontainError as error:
            result = ("error", (type(error), error.message, error.hint))
        except BaseException:
            result = ("traceback", traceback.format_exc())
        os.write(writer, pickle.dumps(result))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file_:
        kind, value = pickle.load(file_)
    os.waitpid(pid, 0)
    if kind == "error":
        raise value[0](value[1], hint=value[2])
    assert kind == "result", value
    return value


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory an ordinary user can reach and write, whoever made the pytest ones."""
    path = Path(tempfile.mkdtemp(prefix="pc-rootless-"))
    path.chmod(0o777)
    yield path
    if os.getuid():
        # Some of it belongs to the user's subordinate ids.
        ids = ["unshare", "--map-root-user", "--map-auto"]
        subprocess.run([*ids, "rm", "-rf", path], check=False, capture_output=True)
    shutil.rmtree(path, ignore_errors=not path.exists())


def seen(root: str, container: str) -> dict[str, tuple[int, int, int]]:
    """Mount the image and list it; runs as root of the user namespace."""
    image = ImageStore(root).resolve("test")
    os.makedirs(f"{container}/merged")
    (mount,) = Snapshotter(root).prepare(container, image.chain_ids)
    kernel.unshare(0x20000)
    if mount["type"] == "overlay":
        data = ",".join(mount["options"])
        kernel.mount("overlay", f"{container}/merged", "overlay", 0, data)
    else:
        kernel.mount(mount["source"], f"{container}/merged", None, 0x1000)
    found = {}
    for path in sorted(Path(f"{container}/merged").rglob("*")):
        info = path.lstat()
        name = str(path.relative_to(f"{container}/merged"))
        found[name] = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
    (Path(container) / "merged/written").write_text("by the container")
    os.chown(f"{container}/merged/written", 0, 0)
    return found


def session(root: str, archive: str, container: str) -> tuple[Any, list[str], list[str]]:
    notices: list[str] = []
    (image,) = unpack.load(root, archive, notice=notices.append)
    assert image.name == "test:latest"
    found = userns.run(seen, root, container)
    snapshots = Snapshotter(root)
    snapshots.remove(container)
    left = os.listdir(container)
    unpack.remove(root, "test")
    left += [n for n in os.listdir(f"{root}/snapshots") if n not in ("l", "driver")]
    return found, notices, left


def test_without_subordinate_ids_everything_belongs_to_the_user(home: Path) -> None:
    if os.getuid() and userns.id_maps().count > 1:
        pytest.skip("needs a user without subordinate ids")
    archive = simple(FIRST, SECOND).archive(home / "a.tar")
    archive.chmod(0o644)
    arguments = (str(home / "data"), str(archive), str(home / "c"))
    found, notices, left = as_user(plain_user(), session, *arguments)
    assert sorted(set(found) - MOUNT_POINTS) == ["d", "d/a", "h", "o", "o/new"]
    assert {tuple(owner[1:]) for owner in found.values()} == {(0, 0)}
    assert found["d/a"][0] == 0o4755
    assert any("belong to root" in text for text in notices)
    assert any("device nodes" in text for text in notices)
    assert left == ["merged"]


def test_with_subordinate_ids_owners_are_kept(home: Path) -> None:
    archive = simple(FIRST, SECOND).archive(home / "a.tar")
    archive.chmod(0o644)
    arguments = (str(home / "data"), str(archive), str(home / "c"))
    found, _, left = as_user(user_with_ids(), session, *arguments)
    assert tuple(found["d/a"]) == (0o4755, 1000, 1000)
    assert tuple(found["d"]) == (0o755, 5, 6)
    assert left == ["merged"]


def test_an_owner_beyond_the_map_is_refused_in_words(home: Path) -> None:
    layout = Layout()
    layout.index(named(layout.image([layer([file("f", uid=3_000_000)])]), "test"))
    archive = layout.archive(home / "a.tar")
    archive.chmod(0o644)
    with pytest.raises(InvalidError, match="subuid"):
        as_user(user_with_ids(), unpack.load, str(home / "data"), str(archive))


def copied(root: str, archive: str, container: str) -> list[str]:
    unpack.load(root, archive)
    Path(f"{root}/snapshots/driver").write_text("copy: a test wants it")
    image = ImageStore(root).resolve("test")
    os.makedirs(container)
    (mount,) = Snapshotter(root).prepare(container, image.chain_ids)
    found = sorted(str(p.relative_to(mount["source"])) for p in Path(mount["source"]).rglob("*"))
    Snapshotter(root).remove(container)
    return [*found, *os.listdir(container)]


def test_the_plain_copy_works_without_root(home: Path) -> None:
    archive = simple(FIRST, SECOND).archive(home / "a.tar")
    archive.chmod(0o644)
    arguments = (str(home / "data"), str(archive), str(home / "c"))
    assert as_user(plain_user(), copied, *arguments) == ["d", "d/a", "h", "o", "o/new"]


def closed(directory_: str) -> None:
    os.makedirs(f"{directory_}/upper/work/deep")
    os.chmod(f"{directory_}/upper/work", 0)
    Snapshotter(directory_).remove(directory_)


def test_a_directory_nobody_may_enter_is_removed(home: Path) -> None:
    as_user(plain_user(), closed, str(home / "c"))
    assert list((home / "c").iterdir()) == []


def failing() -> None:
    raise InvalidError("one line", hint="a hint")


def test_an_error_in_the_namespace_is_raised_outside() -> None:
    with pytest.raises(InvalidError) as caught:
        as_user(plain_user(), userns.run, failing)
    assert (caught.value.message, caught.value.hint) == ("one line", "a hint")
