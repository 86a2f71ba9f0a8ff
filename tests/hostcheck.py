"""The host as an attack must leave it: mounts, cgroups, links, processes, a canary directory."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


class Canary:
    """A host directory that attacks aim at; it must stay as it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o755)
        (path / "victim").write_text("canary-content\n")
        (path / "vdir").mkdir()
        (path / "passwd").write_text("canary:x:0:0::/:/bin/sh\n")
        self.before = self.snapshot()

    @property
    def climb(self) -> str:
        """The same directory, reached by more `..` than there are directories."""
        return "../" * 20 + str(self.path).lstrip("/")

    def snapshot(self) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for entry in sorted([self.path, *self.path.rglob("*")]):
            info = entry.lstat()
            content = entry.read_bytes() if entry.is_file() else b""
            rows.append((str(entry), info.st_mode, info.st_uid, info.st_nlink, content))
        return rows

    def untouched(self) -> bool:
        return self.snapshot() == self.before


def leftovers(*roots: Path) -> list[str]:
    """Return what containers of these roots have left on the host: mounts, cgroups, processes,
    files.
    """
    words = [str(root) for root in roots]
    found = [
        f"mount {line}"
        for line in Path("/proc/self/mountinfo").read_text().splitlines()
        if any(word in line for word in words)
    ]
    found += [f"process {line}" for line in _processes(words)]
    for root in roots:
        for pattern in ("containers/*", "names/*", "locks/*", "**/.tmp*"):
            found += [f"file {path}" for path in root.glob(pattern)]
    return found


def settled(*roots: Path, seconds: float = 5) -> list[str]:
    """Return what is still left after a moment for monitors to end."""
    deadline = time.monotonic() + seconds
    while (found := leftovers(*roots)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def cgroups(parent: str) -> list[str]:
    """Return the cgroups below `parent` in every hierarchy."""
    found = []
    for top in (CGROUPS, *CGROUPS.iterdir()):
        home = Path(f"{top}{parent}")
        if home.is_dir():
            found += [str(path) for path in home.rglob("*") if path.is_dir()]
    return found


def links() -> str:
    """Return the host's network links."""
    return subprocess.run(["ip", "-br", "link"], capture_output=True, text=True, check=True).stdout


def _processes(words: list[str]) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) == os.getpid():
            continue
        try:
            line = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if any(word in line for word in words):
            found.append(line)
    return found
