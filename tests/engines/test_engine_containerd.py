"""containerd's shim drives pycontain-oci, asked by `ctr`."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root

CONFIG = """
version = 2
root = "{root}/root"
state = "{root}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{root}/c.sock"
[ttrpc]
  address = "{root}/t.sock"
"""
IMAGE = "localhost/bb:latest"


class Ctr:
    def __init__(self, scratch: Path, runtime: Path) -> None:
        self.argv = ["ctr", "--address", str(scratch / "c.sock")]
        self.runtime = ["--runc-binary", str(runtime)]

    def __call__(self, *args: object, status: int | None = 0) -> str:
        done = subprocess.run(
            [*self.argv, *map(str, args)], capture_output=True, text=True, timeout=60, check=False
        )
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done.stdout + (done.stderr if status else "")

    def run(self, *args: object, status: int | None = 0) -> str:
        return self("run", *self.runtime, *args, status=status)

    def status(self, name: str) -> str:
        for line in self("task", "ls").splitlines():
            if line.split()[0] == name:
                return line.split()[2]
        return ""

    def wait(self, name: str, status: str) -> None:
        deadline = time.monotonic() + 15
        while self.status(name) != status:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def oci_archive(tar: Path, target: Path) -> None:
    """Wrap a root file system into an OCI archive by hand: no other engine is needed."""
    import gzip
    import hashlib
    import io

    blobs: dict[str, bytes] = {}

    def blob(data: bytes) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data)}

    layer = tar.read_bytes()
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    kind = "application/vnd.oci.image."
    config = blob(
        json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Env": ["PATH=/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
    )
    packed = blob(gzip.compress(layer, mtime=0))
    manifest = blob(
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": kind + "manifest.v1+json",
                "config": {"mediaType": kind + "config.v1+json", **config},
                "layers": [{"mediaType": kind + "layer.v1.tar+gzip", **packed}],
            }
        ).encode()
    )
    entry = {
        "mediaType": kind + "manifest.v1+json",
        **manifest,
        "annotations": {
            "io.containerd.image.name": IMAGE,
            "org.opencontainers.image.ref.name": "latest",
        },
        "platform": {"architecture": "amd64", "os": "linux"},
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        **blobs,
    }
    with tarfile.open(target, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def ctr(scratch: Path, daemon, runtime_program: Path, busybox_tar: Path) -> Iterator[Ctr]:
    for program in ("containerd", "ctr"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    (scratch / "config.toml").write_text(CONFIG.format(root=scratch))
    daemon(["containerd", "--config", scratch / "config.toml"], scratch / "c.sock")
    ctr = Ctr(scratch, runtime_program)
    oci_archive(busybox_tar, scratch / "image.tar")
    ctr("images", "import", scratch / "image.tar")
    yield ctr
    for name in ctr("task", "ls", "-q", status=None).split():
        ctr("task", "kill", "-s", "KILL", name, status=None)
        ctr("task", "rm", "-f", name, status=None)
    for name in ctr("container", "ls", "-q", status=None).split():
        ctr("container", "rm", name, status=None)


def test_run_prints_and_gives_the_status(ctr: Ctr) -> None:
    assert ctr.run("--rm", IMAGE, "one", "echo", "hello") == "hello\n"
    ctr.run("--rm", IMAGE, "two", "sh", "-c", "exit 7", status=7)


def test_a_command_that_is_not_there_is_said(ctr: Ctr) -> None:
    out = ctr.run("--rm", IMAGE, "one", "no-such-program", status=1)
    assert "executable file not found" in out
    assert ctr("task", "ls", "-q") == ""


def test_a_task_is_executed_into_paused_and_killed(ctr: Ctr) -> None:
    ctr.run("--detach", IMAGE, "one", "sleep", "100")
    assert ctr.status("one") == "RUNNING"
    out = ctr("task", "exec", "--exec-id", "e1", "one", "echo", "inside")
    assert out == "inside\n"
    ctr("task", "exec", "--exec-id", "e2", "one", "sh", "-c", "exit 5", status=5)
    ctr("task", "pause", "one")
    assert ctr.status("one") == "PAUSED"
    ctr("task", "resume", "one")
    assert ctr.status("one") == "RUNNING"
    assert len(ctr("task", "ps", "one").splitlines()) == 2
    ctr("task", "kill", "-s", "KILL", "one")
    ctr.wait("one", "STOPPED")
    ctr("task", "rm", "one", status=None)


def test_metrics_are_measured(ctr: Ctr) -> None:
    ctr.run("--detach", "--memory-limit", str(64 << 20), IMAGE, "one", "sleep", "100")
    assert "memory" in ctr("task", "metrics", "one")


def test_a_terminal(ctr: Ctr) -> None:
    argv = [*ctr.argv, "run", "--rm", "--tty", *ctr.runtime, IMAGE, "one", "tty"]
    done = subprocess.run(
        ["script", "-qec", " ".join(argv), "/dev/null"],
        capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False,
    )  # fmt: skip
    assert b"/dev/pts/0" in done.stdout


def test_the_runtime_of_the_shim_can_be_configured(ctr: Ctr, scratch: Path) -> None:
    # The same as BinaryName in containerd's configuration.
    out = ctr(
        "run", "--rm", "--runtime", "io.containerd.runc.v2", *ctr.runtime, IMAGE, "one", "id", "-u"
    )
    assert out == "0\n"
