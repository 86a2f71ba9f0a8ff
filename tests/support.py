"""What tests of several tiers share: the checkout's place and the command as a subprocess."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
_LAY_OVER = """
import os, subprocess, sys, tempfile
sys.path.insert(0, sys.argv[1])
from pycontain.syscalls import kernel
kernel.unshare(0x20000)
kernel.mount(None, "/", None, 0x4000 | 0x40000)
with tempfile.NamedTemporaryFile("w") as rows:
    rows.write(sys.argv[2])
    rows.flush()
    os.chmod(rows.name, 0o644)
    for path in ("/etc/subuid", "/etc/subgid"):
        kernel.mount(rows.name, path, None, 0x1000)
    sys.exit(subprocess.run(sys.argv[3:]).returncode)
"""


@dataclass
class Cli:
    """The `pycontain` command with state roots of its own."""

    data: Path
    state: Path
    env: dict[str, str] = field(default_factory=dict)

    def argv(self, *args: str | os.PathLike[str]) -> list[str]:
        roots = ["--root", str(self.data), "--state", str(self.state)]
        return [str(BIN / "pycontain"), *roots, *map(str, args)]

    def __call__(
        self,
        *args: str | os.PathLike[str],
        status: int | None = 0,
        stdin: bytes | None = None,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end; fail unless the exit status is `status` (None: any)."""
        done = subprocess.run(
            self.argv(*args),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, **self.env},
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
        if status is not None:
            assert done.returncode == status, (args, done.returncode, done.stdout, done.stderr)
        return done

    def start(self, *args: str | os.PathLike[str], **how: object) -> subprocess.Popen[bytes]:
        """Start without waiting; the caller ends it."""
        return subprocess.Popen(self.argv(*args), env={**os.environ, **self.env}, **how)  # type: ignore[call-overload,no-any-return]

    def text(self, *args: str | os.PathLike[str]) -> str:
        return self(*args).stdout.decode()

    def remove_all(self) -> None:
        """Remove every container, then the roots."""
        ids = self("ps", "-a", "-q", "--no-trunc", status=None).stdout.decode().split()
        if ids:
            self("rm", "-f", *ids, status=None)


def processes(word: str) -> list[str]:
    """Return the pids of the processes with `word` in their command line; no zombie has one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.append(pid)
    return found


def with_subordinate_ids(rows: str) -> list[str]:
    """Return what runs the command behind it with `rows` as /etc/subuid and /etc/subgid; as root.

    They are laid over the files in a mount namespace of its own.
    """
    return [sys.executable, "-c", _LAY_OVER, str(CHECKOUT), rows]
