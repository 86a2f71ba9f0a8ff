"""Archives that podman, skopeo, umoci and buildah wrote, and umoci's idea of what layers mean."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hostile import directory, file, hardlink, symlink
from imagefiles import listing, mounted, simple

from pycontain.engine import unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.image.store import Image

pytestmark = pytest.mark.root

FIRST = [
    directory("./"),
    directory("bin", mtime=5),
    file("bin/tool", b"#!x", mode=0o4755, uid=3, gid=4, mtime=6),
    directory("etc", mtime=7),
    file("etc/gone", mtime=7),
    file("etc/kept", b"k", mtime=8),
    symlink("lib", "usr/lib"),
    directory("usr", mtime=9),
    directory("usr/lib", mtime=9),
    file("usr/lib/a", b"a", mtime=9),
    hardlink("bin/tool2", "bin/tool"),
    directory("opaque", mtime=9),
    file("opaque/old", mtime=9),
]
SECOND = [
    file("etc/.wh.gone"),
    directory("opaque", mtime=10),
    file("opaque/.wh..wh..opq"),
    file("opaque/new", b"n", mtime=10),
    file("bin/tool", b"new", mode=0o755, mtime=11),
]


def tool(*argv: object, **how: object) -> bytes:
    """Run a tool to its end; skip the test where it is missing."""
    if not shutil.which(str(argv[0])):
        pytest.skip(f"needs {argv[0]}")
    done = subprocess.run(
        list(map(str, argv)), capture_output=True, timeout=120, check=False, **how
    )  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr.decode()
    return bytes(done.stdout)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return simple(FIRST, SECOND, name="source").directory(tmp_path / "layout")


@pytest.fixture
def expected(tmp_path: Path, layout: Path) -> dict[str, tuple[object, ...]]:
    root = tmp_path / "expected"
    (image,) = unpack.load(str(root), str(layout))
    return merged(root, image, tmp_path / "expected-c")


@pytest.fixture
def storage() -> Iterator[list[str]]:
    # Not below tmp_path: podman takes a run root of 50 characters at most.
    base = tempfile.mkdtemp(prefix="pc-podman-")
    options = [f"--root={base}/root", f"--runroot={base}/run", "--storage-driver=vfs"]
    yield options
    shutil.rmtree(base, ignore_errors=True)


def merged(root: Path, image: Image, container: Path) -> dict[str, tuple[object, ...]]:
    with mounted(root, image, container) as path:
        return listing(path)


def load(tmp_path: Path, source: Path) -> tuple[str, dict[str, tuple[object, ...]]]:
    root = tmp_path / "data"
    (image,) = unpack.load(str(root), str(source))
    return image.name, merged(root, image, tmp_path / "c")


@pytest.mark.parametrize(
    ("transport", "name"),
    [("docker-archive", "docker.io/library/app:1"), ("oci-archive", "app:1"), ("oci", "app:1")],
)
def test_what_skopeo_copies(
    tmp_path: Path, layout: Path, expected: object, transport: str, name: str
) -> None:
    out = tmp_path / "skopeo"
    tool("skopeo", "--insecure-policy", "copy", f"oci:{layout}:source", f"{transport}:{out}:{name}")
    assert load(tmp_path, out) == ("app:1", expected)


def test_what_skopeo_compresses_with_zstd(tmp_path: Path, layout: Path, expected: object) -> None:
    out = tmp_path / "zstd"
    options = ["--dest-compress-format", "zstd", "--dest-oci-accept-uncompressed-layers=false"]
    argv = [
        "skopeo",
        "--insecure-policy",
        "copy",
        *options,
        f"oci:{layout}:source",
        f"oci:{out}:app:1",
    ]
    tool(*argv)
    assert load(tmp_path, out) == ("app:1", expected)


@pytest.mark.parametrize("form", ["docker-archive", "oci-archive", "oci-dir"])
def test_what_podman_saves(
    tmp_path: Path, layout: Path, storage: list[str], expected: object, form: str
) -> None:
    out = tmp_path / "podman"
    tool("podman", *storage, "pull", "-q", f"oci:{layout}:source")
    identity = tool("podman", *storage, "images", "-q").decode().split()[0]
    tool("podman", *storage, "tag", identity, "localhost/app:1")
    tool("podman", *storage, "save", "-q", "--format", form, "-o", out, "localhost/app:1")
    assert load(tmp_path, out) == ("localhost/app:1", expected)


def test_what_buildah_pushes(tmp_path: Path, layout: Path, storage: list[str]) -> None:
    out = tmp_path / "buildah.tar"
    container = tool("buildah", *storage, "from", "--pull", f"oci:{layout}:source").decode().strip()
    (tmp_path / "added").write_text("by buildah")
    tool("buildah", *storage, "copy", container, tmp_path / "added", "/etc/added")
    tool("buildah", *storage, "config", "--env", "A=b", "--cmd", "/bin/tool", container)
    tool("buildah", *storage, "commit", "-q", container, f"oci-archive:{out}:app:1")
    name, found = load(tmp_path, out)
    assert name == "app:1"
    assert found["etc/added"][-1] == b"by buildah"
    assert "etc/gone" not in found
    assert found["lib"][-1] == "usr/lib"


def test_what_umoci_repacks_and_unpacks(tmp_path: Path, layout: Path, expected: object) -> None:
    bundle = tmp_path / "bundle"
    tool("umoci", "unpack", "--image", f"{layout}:source", bundle)
    assert listing(bundle / "rootfs") == expected
    (bundle / "rootfs/etc/kept").unlink()
    (bundle / "rootfs/usr/lib/b").write_bytes(b"b")
    tool("umoci", "repack", "--image", f"{layout}:changed", bundle)
    index = tool("umoci", "list", "--layout", layout).decode().split()
    assert sorted(index) == ["changed", "source"]
    root = tmp_path / "data"
    images = {i.name: i for i in unpack.load(str(root), str(layout))}
    found = merged(root, images["changed:latest"], tmp_path / "c")
    assert "etc/kept" not in found
    assert found["usr/lib/b"][-1] == b"b"


def test_what_docker_saves(tmp_path: Path, layout: Path, expected: object) -> None:
    if not os.path.exists("/var/run/docker.sock"):
        pytest.skip("needs a running dockerd")
    archive = tmp_path / "in.tar"
    tool(
        "skopeo",
        "--insecure-policy",
        "copy",
        f"oci:{layout}:source",
        f"docker-archive:{archive}:pycontain-test:1",
    )
    tool("docker", "load", "-i", archive)
    try:
        tool("docker", "save", "-o", tmp_path / "out.tar", "pycontain-test:1")
    finally:
        tool("docker", "rmi", "pycontain-test:1")
    assert load(tmp_path, tmp_path / "out.tar") == ("pycontain-test:1", expected)


def test_gnu_tar_of_a_real_directory_is_unpacked_as_it_was(tmp_path: Path) -> None:
    source = Path("/usr/share/zoneinfo")
    if not source.is_dir():
        source = Path("/etc")
    tar = tmp_path / "rootfs.tar"
    tool("tar", "-C", source, "--xattrs", "-cf", tar, ".")
    root = tmp_path / "data"
    image = unpack.import_rootfs(str(root), str(tar), "real")
    with mounted(root, image, tmp_path / "c") as path:
        assert listing(path) == listing(source)
