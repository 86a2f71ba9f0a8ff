"""Images written by hand for tests: layers from tar entries, archives from layers and a config."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh cat ls id echo true false sleep stat readlink mkdir touch test env hostname ps pwd head wc"
    " dd mount yes kill"
).split()
Entry = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"", **fields: Any) -> Entry:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def directory(name: str, **fields: Any) -> Entry:
    return file(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def symlink(name: str, target: str) -> Entry:
    return file(name, type=tarfile.SYMTYPE, linkname=target, mode=0o777)


def hardlink(name: str, target: str, **fields: Any) -> Entry:
    return file(name, type=tarfile.LNKTYPE, linkname=target, **fields)


def device(name: str, kind: bytes, major: int, minor: int) -> Entry:
    return file(name, type=kind, devmajor=major, devminor=minor, mode=0o666)


def layer(entries: Iterable[Entry], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def busybox_entries() -> list[Entry]:
    """A root file system a shell runs in: static busybox and links to it, passwd, group."""
    entries = [directory("bin"), file("bin/busybox", BUSYBOX.read_bytes(), mode=0o755)]
    entries += [symlink(f"bin/{name}", "busybox") for name in APPLETS]
    entries += [directory("etc"), file("etc/passwd", b"root:x:0:0::/root:/bin/sh\n")]
    return [*entries, file("etc/group", b"root:x:0:\n"), directory("tmp", mode=0o1777)]


def docker_archive(
    path: Path,
    layers: list[bytes],
    config: dict[str, Any] | None = None,
    tag: str = "hostile:latest",
    *,
    raw_config: bytes | None = None,
    diff_ids: list[str] | None = None,
) -> Path:
    """Write a `docker save` archive; `config` is the image's runtime configuration."""
    digests = [hashlib.sha256(data).hexdigest() for data in layers]
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": diff_ids or [f"sha256:{d}" for d in digests]},
        "history": [{"created_by": "test"} for _ in layers],
    }
    encoded = raw_config if raw_config is not None else json.dumps(document).encode()
    name = hashlib.sha256(encoded).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": [f"{d}/layer.tar" for d in digests]}]
    members = [file(name, encoded), file("manifest.json", json.dumps(manifest).encode())]
    members += [
        file(f"{digest}/layer.tar", data)
        for digest, data in dict(zip(digests, layers, strict=True)).items()
    ]
    path.write_bytes(layer(members))
    return path
