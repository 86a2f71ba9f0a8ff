"""How much memory an arm takes, with the definition named.

PSS (proportional set size, `Pss:` of /proc/PID/smaps_rollup) of every process of the arm divides
shared pages among those who share them, so sums over processes are meaningful where RSS would count
a shared page once for each. Guest page cache is inside QEMU's PSS; the host's is in nobody's.
"""

from __future__ import annotations

from pathlib import Path

PROC = Path("/proc")
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
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if entry.name.isdecimal() and (parent := _parent(entry)):
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def _parent(entry: Path) -> int:
    try:
        # The command name in parentheses may hold anything, so count from the last one.
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0
