"""Drives an OCI runtime (ours, runc, crun) through its command line, with made-up bundles."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from specs import dev_mounts

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["true"],
        "env": ["PATH=/bin:/sbin", "HOME=/"],
        "cwd": "/",
        "capabilities": {
            "bounding": CAPABILITIES,
            "effective": CAPABILITIES,
            "permitted": CAPABILITIES,
        },
        "noNewPrivileges": True,
    },
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "conformance",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        *dev_mounts(),
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        },
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        },
    ],
    "linux": {
        "namespaces": [{"type": n} for n in ("pid", "network", "ipc", "uts", "mount")],
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
    },
}


def make_rootfs(target: Path) -> None:
    """Make a root file system of busybox alone."""
    busybox = Path(shutil.which("busybox") or "/bin/busybox")
    (target / "bin").mkdir(parents=True)
    shutil.copy(busybox, target / "bin/busybox")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for name in applets.stdout.split():
        if name != "busybox":
            (target / "bin" / name).symlink_to("busybox")
    for name in ("proc", "dev", "sys", "tmp", "etc", "root", "mnt"):
        (target / name).mkdir()
    (target / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    (target / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")


def launcher() -> Path:
    """Return the pycontain-oci installed beside this interpreter."""
    path = Path(sys.executable).parent / "pycontain-oci"
    assert path.exists(), f"{path} is missing: install this checkout, pip install -e ."
    return path


@dataclass
class Done:
    """What one call of the runtime gave."""

    status: int
    out: str
    err: str


class Bundle:
    """A bundle under construction: change `config`, then give it to a verb."""

    def __init__(self, path: Path, rootfs: Path) -> None:
        self.path = path
        self.config: dict[str, Any] = copy.deepcopy(CONFIG)
        subprocess.run(["cp", "-a", str(rootfs), str(path / "rootfs")], check=True)

    @property
    def rootfs(self) -> Path:
        return self.path / "rootfs"

    @property
    def process(self) -> dict[str, Any]:
        return self.config["process"]  # type: ignore[no-any-return]

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]  # type: ignore[no-any-return]

    def command(self, *args: str) -> None:
        self.process["args"] = list(args)

    def shell(self, script: str) -> None:
        self.command("sh", "-c", script)

    def mount(self, destination: str, type: str, source: str, *options: str) -> None:
        entry = {"destination": destination, "type": type, "source": source}
        self.config["mounts"].append({**entry, "options": list(options)})

    def namespace(self, type: str, path: str = "") -> None:
        spaces = [n for n in self.linux["namespaces"] if n["type"] != type]
        self.linux["namespaces"] = [*spaces, {"type": type, **({"path": path} if path else {})}]

    def without_namespace(self, type: str) -> None:
        self.linux["namespaces"] = [n for n in self.linux["namespaces"] if n["type"] != type]

    def write(self) -> None:
        (self.path / "config.json").write_text(json.dumps(self.config))


class Oci:
    """One runtime with a state root of its own; ids made through it are deleted at the end."""

    def __init__(self, program: Path, directory: Path, rootfs: Path) -> None:
        self.program = program
        self.name = (
            "crun" if "crun" in program.name else "runc" if "runc" in program.name else "own"
        )
        self.directory = directory
        self.state_root = directory / "state"
        self.state_root.mkdir(mode=0o711, exist_ok=True)
        self.rootfs = rootfs
        self.count = 0

    def bundle(self) -> Bundle:
        self.count += 1
        path = self.directory / f"bundle{self.count}"
        path.mkdir()
        bundle = Bundle(path, self.rootfs)
        # Without a path of its own it would be the id, which several runs of this suite share.
        bundle.linux["cgroupsPath"] = f"/conformance-{os.getpid()}-{self.count}"
        return bundle

    def argv(self, *args: object) -> list[str]:
        root = ["--root", str(self.state_root)]
        return [str(self.program), *root, *map(str, args)]

    def __call__(
        self, *args: object, status: int | None = 0, stdin: str | None = None, **how: Any
    ) -> Done:
        """Run one verb to its end; fail unless its exit status is `status` (None: any)."""
        how.setdefault("timeout", 60)
        out = self.directory / "stdout"
        err = self.directory / "stderr"
        # Files, not pipes: a container that outlives the verb would hold a pipe open.
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(
                self.argv(*args),
                input=None if stdin is None else stdin.encode(),
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=stdout,
                stderr=stderr,
                check=False,
                **how,
            )
        result = Done(
            done.returncode,
            out.read_bytes().decode("utf-8", "replace"),
            err.read_bytes().decode("utf-8", "replace"),
        )
        assert "Traceback" not in result.err, result.err
        if status is not None:
            assert result.status == status, (args, result)
        return result

    def fails(self, *args: object, **how: Any) -> str:
        """Run a verb that must fail; return its message, which must not be empty."""
        done = self(*args, status=None, **how)
        assert done.status != 0, (args, done)
        assert done.err.strip(), (args, done)
        return done.err

    def create(self, bundle: Bundle, id: str, *options: object, **how: Any) -> Done:
        bundle.write()
        return self("create", "--bundle", bundle.path, *options, id, **how)

    def run(self, bundle: Bundle, id: str = "one", **how: Any) -> Done:
        """Run to the end in the foreground."""
        bundle.write()
        return self("run", "--bundle", bundle.path, id, **how)

    def output(self, bundle: Bundle, id: str = "one") -> str:
        return self.run(bundle, id).out

    def running(self, bundle: Bundle, id: str = "one", seconds: int = 100) -> str:
        """Create and start a container that sleeps; return its id."""
        if bundle.process["args"] == ["true"]:
            bundle.command("sleep", str(seconds))
        self.create(bundle, id)
        self("start", id)
        return id

    def state(self, id: str = "one") -> dict[str, Any]:
        return json.loads(self("state", id).out)  # type: ignore[no-any-return]

    def status(self, id: str = "one") -> str:
        return str(self.state(id)["status"])

    def wait(self, id: str, status: str = "stopped", seconds: float = 10) -> None:
        deadline = time.monotonic() + seconds
        while self.status(id) != status:
            assert time.monotonic() < deadline, f"{id} is not {status}: {self.state(id)}"
            time.sleep(0.02)

    def exec(self, id: str, *args: object, **how: Any) -> Done:
        return self("exec", id, *args, **how)

    def clean(self) -> None:
        """Delete what a test left, and the cgroups above those it asked for."""
        if self.state_root.is_dir():
            for name in os.listdir(self.state_root):
                self._delete(name)
        # By name: an empty cgroup of any other name may be one that somebody just made.
        for name in ("pycontain-conformance", "pycontain-relative", "pycontain-exec"):
            for pattern in (name, f"*/{name}"):
                for parent in Path("/sys/fs/cgroup").glob(pattern):
                    with contextlib.suppress(OSError):
                        parent.rmdir()

    def _delete(self, name: str) -> None:
        """Delete a container; reap what we inherit, which would hold up its pid namespace."""
        argv = self.argv("delete", "--force", name)
        deleting = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        children = Path("/proc/thread-self/children")
        while deleting.poll() is None:
            for child in map(int, children.read_text().split()):
                if child != deleting.pid:
                    os.waitpid(child, os.WNOHANG)
            time.sleep(0.005)
