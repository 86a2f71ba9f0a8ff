"""Where the small static programs come from: the installed ones, else a compiler.

Owns finding and building `guest-init`, `bench-launch` and the bench workload. The installed copy in
`pycontain/native/bin` wins while it is not older than its source; otherwise the source is compiled
into the user's cache under the digest of its text, so a second call costs one stat.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from pycontain.errors import UnsupportedError

NATIVE = Path(__file__).resolve().parents[2] / "native"
FREESTANDING = (
    "-nostdlib",
    "-nostartfiles",
    "-ffreestanding",
    "-fno-stack-protector",
    "-fno-pie",
    "-no-pie",
    "-fno-asynchronous-unwind-tables",
    "-fno-tree-loop-distribute-patterns",
)
COMMON = ("-O2", "-static", "-s")
COMPILE_TIMEOUT_S = 120


def cache_dir() -> Path:
    """Return the cache directory, made if absent: $XDG_CACHE_HOME/pycontain or ~/.cache/…."""
    base = os.environ.get("PYCONTAIN_CACHE") or os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    path = root / "pycontain"
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    return path


def guest_init() -> Path:
    """Return the init program of a guest."""
    return static_program("guest-init", NATIVE / "guest_init.c", FREESTANDING)


def launcher() -> Path:
    """Return the stopwatch every arm is started through."""
    return static_program("bench-launch", NATIVE / "bench_launch.c")


def static_program(name: str, source: Path, flags: tuple[str, ...] = ()) -> Path:
    """Return the static program `name`, compiled from `source` when it is not installed.

    Raises UnsupportedError where there is neither the program nor a compiler, or it fails.
    """
    installed = NATIVE / "bin" / name
    if installed.exists() and (
        not source.exists() or installed.stat().st_mtime >= source.stat().st_mtime
    ):
        return installed
    if not source.exists():
        raise UnsupportedError(f"{name} is not part of this installation")
    digest = hashlib.sha256(source.read_bytes() + " ".join(flags).encode()).hexdigest()[:16]
    target = cache_dir() / f"{name}-{digest}"
    if not target.exists():
        compile_static(source, target, flags)
    return target


def compile_static(source: Path, target: Path, flags: tuple[str, ...] = ()) -> None:
    """Compile `source` to the static executable `target`, which appears by rename."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise UnsupportedError(
            f"cannot build {target.name}: no C compiler",
            hint="install gcc and libc6-dev",
        )
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    argv = [compiler, *COMMON, *flags, "-o", str(unfinished), str(source)]
    try:
        done = subprocess.run(
            argv, check=False, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S
        )
        if done.returncode != 0:
            cause = (done.stderr.strip().splitlines() or ["no message"])[0]
            raise UnsupportedError(f"cannot build {target.name}: {cause}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
