"""Who is behind a container that no state and no cgroup tells of: looked up in /proc.

    its processes    their root file system is made of the container's directory (mountinfo)
    its holders      they have its lock open

proc_pid_mountinfo(5), proc_pid_fd(5). What belongs to others, or may not be read, is passed over.
"""

from __future__ import annotations

import posix
from _signal import SIGKILL, pidfd_send_signal  # type: ignore[import-not-found]

from pycontain import trees
from pycontain.errors import quote
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 16 << 20
DEATH_MS = 10000
ROUNDS = 100
"""A container may fork while it is killed; after so many rounds it is left alone."""


def kill(identity: str) -> None:
    """Kill every process that has the container's root file system, and wait for their ends."""
    for _ in range(ROUNDS):
        found = [pid for pid in _pids() if _is_inside(pid, identity)]
        if not found:
            return
        if not all(_kill(pid, identity) for pid in found):
            return


def _kill(pid: int, identity: str) -> bool:
    """Kill one of them; False when it does not die."""
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError:
        return True
    try:
        # Looked at again: the pid may be another process's by now.
        if not _is_inside(pid, identity):
            return True
        pidfd_send_signal(pidfd, SIGKILL)
        return bool(kernel.poll((pidfd,), DEATH_MS))
    except OSError:
        return True
    finally:
        posix.close(pidfd)


def _is_inside(pid: int, identity: str) -> bool:
    """Return whether what `pid` has mounted at / is the container's root file system.

    Its overlay names the container's directory as upper layer, its copy lies in it.
    """
    try:
        mounts = trees.read_file(f"/proc/{pid}/mountinfo", LIMIT)
    except OSError:
        return False
    place = b"/containers/" + identity.encode() + b"/"
    return any(line.split(b" ", 5)[4] == b"/" and place in line for line in mounts.splitlines())


def holders(lock: str) -> str:
    """Return the words that say which processes have a container's lock open."""
    held = ", ".join(f"{pid} ({_command(pid)})" for pid in _holders(lock))
    return f"its lock {lock} is held by process {held}" if held else f"its lock is {lock}"


def _holders(path: str) -> list[int]:
    try:
        wanted = posix.stat(path)
    except OSError:
        return []
    return [pid for pid in _pids() if pid != posix.getpid() and _has_open(pid, wanted)]


def _has_open(pid: int, wanted: posix.stat_result) -> bool:
    try:
        numbers = posix.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for number in numbers:
        try:
            found = posix.stat(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def _command(pid: int) -> str:
    try:
        words = trees.read_file(f"/proc/{pid}/cmdline", LIMIT).rstrip(b"\0").split(b"\0")
    except OSError:
        return "gone"
    return quote(b" ".join(words)[:60])


def _pids() -> Iterator[int]:
    return (int(name) for name in posix.listdir("/proc") if name.isdigit())
