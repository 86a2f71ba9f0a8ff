"""Scratch directories: held while their comparison lives, removed with all in them after it.

Owns the lock that tells a living comparison's directory from one whose owner was killed outright,
and the removal of what such a one left: daemons, mounts, files. Killed owners are found by the next
comparison.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from pycontain.bench import memory

PREFIX = "pycontain-bench-"
UNFINISHED = ".pycontain-bench-"
DAEMONS = frozenset(("dockerd", "containerd", "containerd-shim", "conmon"))
END_S = 3.0
"""How long killed processes may take to end."""


def scratch(parent: str) -> tuple[Path, int]:
    """Make a scratch directory below `parent`; return it and the descriptor that holds it."""
    # It gets the name the sweep looks for only when it is locked.
    made = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    path = made.with_name(made.name.removeprefix("."))
    made.rename(path)
    return path, descriptor


def sweep(parent: str) -> None:
    """Remove every scratch directory below `parent` whose comparison is gone."""
    for path in sorted(Path(parent).glob(f"{PREFIX}*")):
        if path.is_dir() and not path.is_symlink() and path.stat().st_uid == os.geteuid():
            _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        end_daemons(path)
        remove(path)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def end_daemons(path: Path) -> None:
    """Kill the daemons that were started for `path`, and what they run."""
    pids = memory.arm_processes((str(path),), only=DAEMONS)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + END_S
    while any(memory.runs(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)


def remove(path: Path) -> None:
    """Unmount whatever is mounted below `path` and remove it."""
    for point in reversed(_mounts_below(path)):
        subprocess.run(["umount", "-l", point], check=False, capture_output=True, timeout=60)
    # Where an unmount failed, nothing below is deleted: it is not ours to delete.
    if not _mounts_below(path):
        shutil.rmtree(path, ignore_errors=True)


def _mounts_below(path: Path) -> list[str]:
    """Return the mount points below `path`, in the order they were mounted."""
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    points = (line.split(" ")[4].encode().decode("unicode_escape") for line in lines)
    return [point for point in points if point.startswith(f"{path}/")]
