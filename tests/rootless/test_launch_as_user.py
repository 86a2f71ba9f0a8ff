"""Containers of an ordinary user: a user namespace with one id, no privilege on the host."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

UID = 1000
BUSYBOX = shutil.which("busybox")
CHECKOUT = Path(__file__).parents[2]

VERSION = "import sys; sys.exit(sys.version_info < (3, 11))"
PROGRAM = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from pycontain.runtime import container, launch
spec = json.loads(sys.argv[2])
options = launch.LaunchOptions()
options.executor = sys.argv[3]
made, init = container.run(sys.argv[4], "u1", sys.argv[4], spec, options, manager_kind="disabled")
process = dict(spec["process"], args=["sh", "-c", "id -u; hostname; echo > /dev/null && echo $$"])
options = launch.LaunchOptions()
options.executor = sys.argv[3]
inside = made.exec(process, options)
os.waitid(os.P_PIDFD, inside.pidfd, os.WEXITED)
os.kill(init.pid, 9)
os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
made.delete(force=True)
"""


def as_user(*words: str) -> subprocess.CompletedProcess[str]:
    def drop() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(UID, UID, UID)
            os.setresuid(UID, UID, UID)

    return subprocess.run(words, capture_output=True, text=True, timeout=60, preexec_fn=drop)


def interpreter() -> str:
    """Return a python the user may run: the tests' own may lie in a directory of root's."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        try:
            if as_user(candidate, "-I", "-S", "-c", VERSION).returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("needs a python 3.11 that an ordinary user may run")


@pytest.fixture
def place() -> Iterator[Path]:
    if not BUSYBOX:
        pytest.skip("needs busybox-static")
    base = Path(tempfile.mkdtemp(prefix="pc-user-"))
    (base / "rootfs/bin").mkdir(parents=True)
    (base / "run").mkdir()
    shutil.copy(BUSYBOX, base / "rootfs/bin/busybox")
    for name in ("sh", "id", "hostname", "sleep"):
        (base / "rootfs/bin" / name).symlink_to("busybox")
    if os.geteuid() == 0:
        for path in [base, *base.rglob("*")]:
            os.chown(path, UID, UID, follow_symlinks=False)
    yield base
    shutil.rmtree(base)


@pytest.mark.parametrize("executor", ["auto", "python"])
def test_a_user_runs_a_container_and_execs_into_it(place: Path, executor: str) -> None:
    import json

    uid = UID if os.geteuid() == 0 else os.geteuid()
    kinds = ["user", "pid", "mount", "uts", "ipc", "network"]
    spec = {
        "ociVersion": "1.2.0",
        "root": {"path": str(place / "rootfs")},
        "hostname": "box",
        "process": {
            "args": ["sleep", "60"],
            "cwd": "/",
            "env": ["PATH=/bin", "HOME=/"],
            "user": {"uid": 0, "gid": 0},
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "uidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
            "gidMappings": [{"containerID": 0, "hostID": uid, "size": 1}],
        },
    }
    words = [str(CHECKOUT), json.dumps(spec), executor, str(place / "run")]
    done = as_user(interpreter(), "-I", "-S", "-c", PROGRAM, *words)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["0", "box", "2"]
