"""Writable roots for the arms that bring none: a copy for native, an overlay for the runtimes.

Owns a scratch directory and every mount in it; closing undoes both. What a comparison that was
killed left behind goes when the next one begins (`sweep`). The mounts are made by mount(8), one
process each, outside of any measured time.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pycontain.bench import sweep
from pycontain.errors import UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

DEVICES = (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9))


class Place:
    """A scratch directory. Use as a context manager."""

    def __init__(self, parent: str = "") -> None:
        self._parent = parent or tempfile.gettempdir()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        sweep.sweep(self._parent)
        self.path, descriptor = sweep.scratch(self._parent)
        self._undo.callback(os.close, descriptor)
        self._undo.callback(sweep.remove, self.path)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def below(self, name: str) -> Place:
        """Return a place in a new directory of this one; it goes when this one does."""
        inner = Place()
        inner.path = self.directory(name)
        inner._undo = self._undo
        return inner

    def directory(self, name: str) -> Path:
        """Return a new directory."""
        path = self.path / name
        path.mkdir(parents=True)
        return path

    def overlay(self, name: str, lower: Path) -> Path:
        """Return a writable view of `lower`: an overlay whose upper layer is in this place."""
        base = self.directory(name)
        for part in ("upper", "work", "root"):
            (base / part).mkdir()
        root_mode = stat.S_IMODE(lower.stat().st_mode)
        (base / "upper").chmod(root_mode)
        options = f"lowerdir={_escape(lower)},upperdir={base / 'upper'},workdir={base / 'work'}"
        self._mount("overlay", base / "root", "overlay", options)
        return base / "root"

    def copy(self, name: str, source: Path) -> Path:
        """Return a plain copy of `source` with device nodes and /proc, as a native root.

        Without root both are left to the stopwatch, which shows the host's in a namespace.
        """
        root = self.path / name
        _run(["cp", "-a", "--reflink=auto", str(source), str(root)])
        for directory in ("dev", "proc", "tmp"):
            (root / directory).mkdir(exist_ok=True)
        if os.geteuid() != 0:
            _make_targets(root / "dev")
            return root
        for device, minor in DEVICES:
            if not (root / "dev" / device).exists():
                os.mknod(root / "dev" / device, stat.S_IFCHR | 0o666, os.makedev(1, minor))
                (root / "dev" / device).chmod(0o666)
        self._mount("proc", root / "proc", "proc", "nosuid,nodev,noexec")
        return root

    def _mount(self, source: str, target: Path, kind: str, options: str) -> None:
        _run(["mount", "-t", kind, "-o", options, source, str(target)])


def _make_targets(directory: Path) -> None:
    for device, _ in DEVICES:
        if not (directory / device).exists():
            (directory / device).touch()


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _run(argv: list[str]) -> None:
    done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        cause = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise UnsupportedError(f"prepare the comparison: {cause}")
