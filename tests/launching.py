"""Containers started from a config.json in the process of the test, and what is left of them."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
from pathlib import Path
from typing import Any

from specs import dev_mounts

from pycontain.runtime import launch
from pycontain.spec.defaults import CAPABILITIES

BUSYBOX = shutil.which("busybox")
APPLETS = (
    "sh cat ls id ps mount umount mkdir touch readlink grep hostname pwd stat sleep env tty dd"
)
MASKED = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/hidden"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/kept"]


def make_spec(rootfs: Path, *args: str, **process: Any) -> dict[str, Any]:
    quiet = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.2.0",
        "root": {"path": str(rootfs)},
        "hostname": "box",
        "process": {
            "args": list(args),
            "cwd": "/",
            "env": ["PATH=/bin", "HOME=/"],
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": True,
            "capabilities": {k: list(CAPABILITIES) for k in ("bounding", "effective", "permitted")},
            **process,
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": quiet},
            *dev_mounts(),
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*quiet, "ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")
            ],
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READONLY),
        },
    }


def bind(source: object, destination: str, *options: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "bind",
        "source": str(source),
        "options": list(options) or ["rbind"],
    }


class Ended:
    """Exit status and output of a container that ran to its end."""

    def __init__(self, status: int, output: str) -> None:
        self.status = status
        self.output = output
        self.lines = output.splitlines()


class Start:
    """Starts containers and keeps an eye on what is left of them."""

    def __init__(self, executor: str) -> None:
        self.executor = executor

    def options(self, output: int) -> launch.LaunchOptions:
        options = launch.LaunchOptions()
        options.executor = self.executor
        null = os.open("/dev/null", os.O_RDWR)
        options.stdio = (null, output, output)
        return options

    def __call__(self, spec: dict[str, Any], **extra: Any) -> Ended:
        output = os.memfd_create("output")
        options = self.options(output)
        try:
            for name, value in extra.items():
                setattr(options, name, value)
            init = launch.launch_init(spec, options)  # type: ignore[arg-type]
            result = os.waitid(os.P_PIDFD, init.pidfd, os.WEXITED)
            os.close(init.pidfd)
            assert result is not None
            text = os.pread(output, 1 << 20, 0).decode("utf-8", "replace")
            return Ended(result.si_status, text)
        finally:
            os.close(options.stdio[0])
            os.close(output)


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def descriptors() -> dict[str, str]:
    gc.collect()
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
    return found


def sh(rootfs: Path, script: str, **process: Any) -> dict[str, Any]:
    return make_spec(rootfs, "sh", "-c", script, **process)
