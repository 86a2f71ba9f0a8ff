"""How much memory an arm takes, with the definition named.

PSS (proportional set size, `Pss:` of /proc/PID/smaps_rollup) of every process of the arm divides
shared pages among those who share them, so sums over processes are meaningful where RSS would count
a shared page once for each. Guest page cache is inside QEMU's PSS; the host's is in nobody's.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")
WATCHERS = frozenset(("conmon", "containerd-shim"))
OURS = ("bench-launch",)
DEFINITION = "PSS of every process of the arm (/proc/PID/smaps_rollup)"


def pss_bytes(pids: list[int], proc: Path = PROC) -> int:
    """Return the summed PSS; a process that has ended, or may not be read, counts zero."""
    return sum(_pss(proc / str(pid) / "smaps_rollup") for pid in pids)


def _pss(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def descendants(pid: int, proc: Path = PROC) -> list[int]:
    """Return `pid` and every process below it."""
    return _below([pid], _children(proc))


def _children(proc: Path) -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry.name))
    return children


def _below(pids: list[int], children: dict[int, list[int]]) -> list[int]:
    found = list(pids)
    for each in found:
        found += [child for child in children.get(each, []) if child not in found]
    return found


def arm_processes(
    words: tuple[str, ...], proc: Path = PROC, only: frozenset[str] = frozenset()
) -> list[int]:
    """Return the processes of an arm.

    They are those with one of `words` in their command line or environment, everything below
    them, and what watches a container from above. The harness's own are left out. `only` names
    the programs that count as marked; any does where it is empty.
    """
    marked = [
        int(entry.name)
        for entry in proc.iterdir()
        if entry.name.isdecimal() and _mentions(entry, words) and int(entry.name) != os.getpid()
        if not only or _name(entry) in only
    ]
    watchers = [
        parent
        for pid in marked
        if (parent := _parent(proc / str(pid))) and _name(proc / str(parent)) in WATCHERS
    ]
    found = _below(list(dict.fromkeys(marked + watchers)), _children(proc))
    return [pid for pid in found if not _name(proc / str(pid)).startswith(OURS)]


def _mentions(entry: Path, words: tuple[str, ...]) -> bool:
    for file in ("cmdline", "environ"):
        try:
            text = (entry / file).read_bytes()
        except OSError:
            continue
        if any(word.encode() in text for word in words):
            return True
    return False


def _name(entry: Path) -> str:
    try:
        return (entry / "comm").read_text().strip()
    except OSError:
        return ""


def runs(pid: int, proc: Path = PROC) -> bool:
    """Return whether a process is there and not a zombie."""
    try:
        return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False


def available_bytes(meminfo: Path = PROC / "meminfo") -> int:
    """Return MemAvailable of the host."""
    found = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvail"))
    return int(found.split()[1]) << 10


def cgroup_peak_bytes(pid: int) -> int | None:
    """Return the peak a process's memory cgroup has seen; None in the root or this one's own."""
    own, other = (_memory_cgroup(one) for one in ("self", str(pid)))
    if not other or other == own:
        return None
    for name in ("memory.peak", "memory.max_usage_in_bytes"):
        try:
            return int((other / name).read_text())
        except OSError:
            continue
    return None


def _memory_cgroup(pid: str) -> Path | None:
    try:
        lines = (PROC / pid / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return Path("/sys/fs/cgroup/memory") / path.lstrip("/")
    unified = next((line.split(":", 2)[2] for line in lines if line.startswith("0::")), "/")
    return Path("/sys/fs/cgroup") / unified.lstrip("/")


def _parent(entry: Path) -> int:
    try:
        # The command name in parentheses may hold anything, so count from the last one.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
