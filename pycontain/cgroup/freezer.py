"""Stopping what runs in a cgroup: freeze, thaw, kill, on v1 and v2.

v1: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst; v2: cgroup.freeze (Linux 5.2) and
cgroup.kill (5.14) in cgroup-v2.rst.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import posix
import time

from pycontain.cgroup.files import children, pairs, read, read_or, write_existing
from pycontain.cgroup.tree import procs
from pycontain.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FREEZE_SECONDS = 10.0
KILL_SECONDS = 10.0


def frozen(directory: str, *, v2: bool) -> bool:
    """Return whether the cgroup is frozen, or on the way there; False when it is gone."""
    if v2:
        return read_or(f"{directory}/cgroup.freeze") == "1"
    return read_or(f"{directory}/freezer.state") in ("FROZEN", "FREEZING")


def freeze(directory: str, *, v2: bool) -> None:
    """Freeze every process; on time-out thaw again and raise KernelError (ETIMEDOUT)."""
    if v2:
        _set(directory, "cgroup.freeze", "1")
        done = _wait(lambda: pairs(read(f"{directory}/cgroup.events")).get("frozen") == 1)
    else:
        done = _freeze_v1(directory)
    if not done:
        thaw(directory, v2=v2)
        raise KernelError(
            "freeze", directory, errno.ETIMEDOUT,
            hint="a process is stuck in the kernel; see /proc/PID/stack",
        )  # fmt: skip


def _freeze_v1(directory: str) -> bool:
    state = f"{directory}/freezer.state"
    for _ in range(20):
        # A task that forks meanwhile can leave the group at FREEZING for good; writing FROZEN
        # again, after a short thaw, is the way out the kernel document names.
        _set(directory, "freezer.state", "FROZEN")
        if _wait(lambda: read(state) == "FROZEN", FREEZE_SECONDS / 20):
            return True
        _set(directory, "freezer.state", "THAWED")
    return False


def thaw(directory: str, *, v2: bool) -> None:
    """Let every process run again."""
    if v2:
        _set(directory, "cgroup.freeze", "0")
    else:
        _set(directory, "freezer.state", "THAWED")


def kill_v2(directory: str) -> None:
    """SIGKILL everything in the cgroup and below, and wait until it is empty."""
    if not populated(directory):
        return
    try:
        write_existing(f"{directory}/cgroup.kill", "1")
    except FileNotFoundError:
        # Before Linux 5.14.
        _kill_frozen(directory, directory, v2=True)
    except OSError as error:
        raise KernelError("kill", directory, error, call="write") from None
    _wait_empty(lambda: populated(directory), directory)


def kill_v1(directory: str, freezer: Callable[[], str]) -> None:
    """As `kill_v2`; `freezer` gives the container's freezer cgroup, made when it is needed."""
    pids = procs(directory)
    if not pids:
        return
    for pid in pids:
        kill_one(pid)
    if not _wait(lambda: not procs(directory), 0.2):
        # They fork, or are frozen: stop the world, then kill it.
        _kill_frozen(directory, freezer(), v2=False)
    _wait_empty(lambda: bool(procs(directory)), directory)


def _kill_frozen(directory: str, freezer: str, *, v2: bool) -> None:
    if freezer:
        freeze(freezer, v2=v2)
    for pid in procs(directory):
        kill_one(pid)
    if freezer:
        thaw(freezer, v2=v2)


def kill_one(pid: int) -> None:
    """SIGKILL one process; gone already is fine."""
    try:
        posix.kill(pid, _signal.SIGKILL)
    except ProcessLookupError:
        return


def populated(directory: str) -> bool:
    """Return whether a v2 cgroup or one below it holds a process."""
    return pairs(read_or(f"{directory}/cgroup.events")).get("populated") == 1


def _wait_empty(full: Callable[[], bool], directory: str) -> None:
    if not _wait(lambda: not full(), KILL_SECONDS):
        below = len(children(directory))
        raise KernelError(
            "kill", directory, errno.ETIMEDOUT,
            hint=f"{len(procs(directory))} processes do not die ({below} cgroups below)",
        )  # fmt: skip


def _set(directory: str, name: str, value: str) -> None:
    try:
        write_existing(f"{directory}/{name}", value)
    except OSError as error:
        raise KernelError(f"write {value} to", f"{directory}/{name}", error, call="write") from None


def _wait(done: Callable[[], bool], seconds: float = FREEZE_SECONDS) -> bool:
    deadline = time.monotonic() + seconds
    pause = 0.0001
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(pause * 2, 0.02)
    return True
