"""Killed at any moment of load or removal: the image is absent or whole, the rest cleaned up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hostile import directory, docker_archive, file, layer, symlink
from imagefiles import listing, mounted

from pycontain.engine import unpack
from pycontain.errors import NotFoundError
from pycontain.image.store import ImageStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root

LOAD = "import sys; from pycontain.engine import unpack; unpack.load(sys.argv[1], sys.argv[2])"
REMOVE = "import sys; from pycontain.engine import unpack; unpack.remove(sys.argv[1], 'crash:1')"
MOMENTS = 24


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    first = [directory("d")] + [file(f"d/f{n}", os.urandom(3000)) for n in range(150)]
    second = [file("d/.wh.f7"), file("large", os.urandom(4 << 20)), symlink("l", "d")]
    path = tmp_path_factory.mktemp("crash") / "image.tar"
    return docker_archive(path, [layer(first), layer(second)], tag="crash:1")


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(argv, stderr=subprocess.DEVNULL)


def duration(code: str, *arguments: object) -> float:
    began = time.monotonic()
    assert start(code, *arguments).wait(60) == 0
    return time.monotonic() - began


def leftovers(root: Path) -> list[str]:
    return [str(path) for path in root.rglob("*") if ".tmp-" in path.name]


def test_a_load_that_is_killed(archive: Path, tmp_path: Path) -> None:
    reference = tmp_path / "reference"
    whole = duration(LOAD, reference, archive)
    (image,) = unpack.load(str(reference), str(archive))
    with mounted(reference, image, tmp_path / "c") as merged:
        expected = listing(merged)
    seen = set()
    for moment in range(MOMENTS):
        root = tmp_path / f"root{moment}"
        process = start(LOAD, root, archive)
        time.sleep(whole * (0.25 + 0.75 * moment / MOMENTS))
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            image = ImageStore(str(root)).resolve("crash:1")
            seen.add("whole")
            with mounted(root, image, tmp_path / f"a{moment}") as merged:
                assert listing(merged) == expected
        except NotFoundError:
            seen.add("absent")
        (image,) = unpack.load(str(root), str(archive))
        with mounted(root, image, tmp_path / f"b{moment}") as merged:
            assert listing(merged) == expected
        assert leftovers(root) == []
        unpack.remove(str(root), "crash:1")
        assert list((root / "blobs/sha256").iterdir()) == []
        assert sorted(p.name for p in (root / "snapshots").iterdir()) == ["driver", "l"]
    assert "absent" in seen


def test_a_removal_that_is_killed(archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    unpack.load(str(root), str(archive))
    whole = duration(REMOVE, root)
    for moment in range(8):
        unpack.load(str(root), str(archive))
        process = start(REMOVE, root)
        time.sleep(whole * (0.4 + 0.6 * moment / 8))
        process.send_signal(signal.SIGKILL)
        process.wait()
        try:
            image = ImageStore(str(root)).resolve("crash:1")
            with mounted(root, image, tmp_path / f"c{moment}") as merged:
                assert (merged / "large").stat().st_size == 4 << 20
        except NotFoundError:
            pass
        unpack.collect(str(root))
        assert leftovers(root) == []
