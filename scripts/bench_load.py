"""Time the load of one large gzip layer: pycontain beside `tar -xzf` of that layer and podman.

The layer holds this host's own libraries and documents, up to the size asked for. Arms take turns
in a new random order each round. Every run gets a fresh directory, and all are removed at the
end: ext4 does not reuse an inode for seconds after its removal, and looking for another one would
be timed.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
TREES = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib/gcc", "usr/lib/python3"]
TREES += ["usr/share/doc", "usr/include", "usr/share/perl", "usr/share/locale", "usr/bin"]
Arm = Callable[[Path], list[str]]


def make_layer(path: Path, megabytes: int) -> None:
    """Write a gzip tar of about `megabytes` compressed, as `gzip -6` would."""
    with path.open("wb") as out:
        packer = subprocess.Popen(["gzip", "-6"], stdin=subprocess.PIPE, stdout=out)
        assert packer.stdin is not None
        with tarfile.open(fileobj=packer.stdin, mode="w|") as tar:
            for name in files():
                if path.stat().st_size >= megabytes << 20:
                    break
                tar.add("/" + name, arcname=name, recursive=False)
        packer.stdin.close()
        packer.wait()


def files() -> list[str]:
    found = []
    for tree in TREES:
        for directory, _, names in os.walk("/" + tree):
            found.append(directory.lstrip("/"))
            found += [f"{directory}/{name}".lstrip("/") for name in sorted(names)]
    return found


def make_archive(layer: Path, out: Path) -> None:
    """Write an OCI archive around the layer."""
    documents: dict[str, bytes] = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def add(kind: str, document: object) -> dict[str, Any]:
        content = json.dumps(document).encode()
        digits = hashlib.sha256(content).hexdigest()
        documents[f"blobs/sha256/{digits}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digits}", "size": len(content)}

    with gzip.open(layer) as plain, layer.open("rb") as packed:
        diff = hashlib.file_digest(plain, "sha256").hexdigest()  # type: ignore[arg-type]
        digits = hashlib.file_digest(packed, "sha256").hexdigest()
    base = "application/vnd.oci.image"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
    rootfs = {"type": "layers", "diff_ids": ["sha256:" + diff]}
    config = add(
        f"{base}.config.v1+json", {"architecture": machine, "os": "linux", "rootfs": rootfs}
    )
    size = layer.stat().st_size
    described = {
        "mediaType": f"{base}.layer.v1.tar+gzip",
        "digest": f"sha256:{digits}",
        "size": size,
    }
    manifest = {"schemaVersion": 2, "config": config, "layers": [described]}
    entry = add(f"{base}.manifest.v1+json", manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "bench:1"}
    documents["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(out, "w") as tar:
        for name, content in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.add(layer, arcname=f"blobs/sha256/{digits}")


def arms(layer: Path, archive: Path) -> dict[str, Arm]:
    """Return arm -> the command that does the work in a fresh directory."""
    found: dict[str, Arm] = {
        "tar -xzf": lambda to: ["tar", "-C", str(to), "-xzf", str(layer)],
        "pycontain load": lambda to: [
            str(BIN / "pycontain"),
            "--root",
            str(to),
            "load",
            "-i",
            str(archive),
        ],
    }
    if shutil.which("podman"):
        found["podman load"] = lambda to: [
            "podman", f"--root={to}/r", f"--runroot={to}/s", "load", "-q", "-i", str(archive),
        ]  # fmt: skip
    return found


def timed(argv: list[str]) -> tuple[float, float]:
    """Run to the end; return seconds and the peak resident set in MiB."""
    null = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2)]
    began = time.monotonic()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=null)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - began
    if status:
        raise SystemExit(f"bench-load: {' '.join(argv)}: status {status}")
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    # Short: podman takes a run root of 50 characters at most.
    scratch = Path(tempfile.mkdtemp(prefix="pcl-", dir="/var/tmp"))
    try:
        layer, archive = scratch / "layer.tar.gz", scratch / "image.tar"
        make_layer(layer, options.megabytes)
        make_archive(layer, archive)
        samples = measure(scratch, arms(layer, archive), options.runs)
        report(samples, layer.stat().st_size, options.markdown)
    finally:
        subprocess.run(["umount", "-q", *map(str, scratch.glob("*/r/overlay"))], check=False)
        shutil.rmtree(scratch)


def measure(
    scratch: Path, chosen: dict[str, Arm], runs: int
) -> dict[str, list[tuple[float, float]]]:
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen}
    for number in range(runs):
        for index, name in enumerate(random.sample(list(chosen), len(chosen))):
            fresh = scratch / f"{number}{index}"
            fresh.mkdir()
            os.sync()
            samples[name].append(timed(chosen[name](fresh)))
    return samples


def report(samples: dict[str, list[tuple[float, float]]], size: int, markdown: bool) -> None:
    middle = {name: statistics.median(s for s, _ in found) for name, found in samples.items()}
    runs = len(next(iter(samples.values())))
    print(f"{size >> 20} MB gzip layer, {runs} runs each, interleaved; medians\n")
    row = "| {} | {} | {} | {} |" if markdown else "{:16} {:>9} {:>12} {:>10}"
    print(row.format("arm", "seconds", "x tar -xzf", "peak MiB"))
    if markdown:
        print("|---|---|---|---|")
    for name, seconds in middle.items():
        peak = max(p for _, p in samples[name])
        print(
            row.format(name, f"{seconds:.2f}", f"{seconds / middle['tar -xzf']:.2f}", f"{peak:.0f}")
        )


if __name__ == "__main__":
    main()
