"""Image archives for tests of the store, and a loaded image's merged view."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hostile import Entry, directory, file, layer

from pycontain.rootfs.snapshotter import Snapshotter
from pycontain.syscalls import kernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pycontain.image.store import Image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Layout:
    """An OCI layout being made: add blobs, then write it as a directory or an archive."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(self, media_type: str, content: bytes) -> dict[str, Any]:
        name = digest(content)
        self.files["blobs/" + name.replace(":", "/")] = content
        return {"mediaType": media_type, "digest": name, "size": len(content)}

    def add_json(self, media_type: str, document: object) -> dict[str, Any]:
        return self.add(media_type, json.dumps(document).encode())

    def image(self, layers: list[bytes], config: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add an image with gzip layers; return its manifest's descriptor."""
        document = image_config([digest(content) for content in layers], config)
        described = [self.add(LAYER + "+gzip", gzip.compress(c, 1, mtime=0)) for c in layers]
        settings = self.add_json(CONFIG, document)
        return self.manifest(settings, described)

    def manifest(self, settings: dict[str, Any], layers: list[dict[str, Any]]) -> dict[str, Any]:
        document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": settings, "layers": layers}
        return self.add_json(MANIFEST, document)

    def index(self, *manifests: dict[str, Any], **fields: Any) -> None:
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(manifests), **fields}
        self.files["index.json"] = json.dumps(document).encode()

    def archive(self, path: Path) -> Path:
        path.write_bytes(layer([file(name, content) for name, content in self.files.items()]))
        return path

    def directory(self, path: Path) -> Path:
        for name, content in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path


def image_config(diff_ids: list[str], config: dict[str, Any] | None = None) -> dict[str, Any]:
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    return {
        "architecture": machine,
        "os": "linux",
        "config": config or {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }


def named(descriptor: dict[str, Any], name: str) -> dict[str, Any]:
    return {**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}}


def simple(*layers: list[Entry], name: str = "test:latest") -> Layout:
    """Return a layout of one image whose layers hold these entries."""
    layout = Layout()
    tars = [layer(entries) for entries in layers or ([directory("d"), file("d/f", b"content")],)]
    layout.index(named(layout.image(tars), name))
    return layout


@contextmanager
def mounted(data_root: Path, image: Image, container: Path) -> Iterator[Path]:
    """Mount the image's layers, and no mount points beside; unmount and remove it afterwards."""
    snapshots = Snapshotter(str(data_root))
    shutil.rmtree(snapshots.mount_points(image.chain_ids[-1]), ignore_errors=True)
    container.mkdir(parents=True, exist_ok=True)
    (mount,) = snapshots.prepare(str(container), image.chain_ids)
    merged = container / "merged"
    merged.mkdir()
    before = os.getcwd()
    try:
        os.chdir(mount.get("cwd", "/"))
        data = ",".join(mount["options"]) if mount["type"] == "overlay" else None
        flags = 0 if data else 0x1000
        kernel.mount(mount["source"], str(merged), mount["type"], flags, data)
        try:
            yield merged
        finally:
            os.chdir(before)
            kernel.umount2(str(merged))
    finally:
        os.chdir(before)
        merged.rmdir()
        snapshots.remove(str(container))


def listing(path: Path) -> dict[str, tuple[Any, ...]]:
    """Return path -> what `ls` would tell of it, for comparing trees."""
    found: dict[str, tuple[Any, ...]] = {}
    for entry in sorted([path, *path.rglob("*")]):
        info = entry.lstat()
        content: object = None
        if entry.is_symlink():
            content = str(entry.readlink())
        elif entry.is_file():
            content = entry.read_bytes()
        device = info.st_rdev if not entry.is_dir() else 0
        owner = (info.st_mode, info.st_uid, info.st_gid, device)
        times = int(info.st_mtime) if entry != path else 0
        found[str(entry.relative_to(path))] = (*owner, times, content)
    return found
