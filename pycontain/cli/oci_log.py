"""Messages of `pycontain-oci`: to the log file the engine reads, to standard error, or both.

One message is one line, as runc writes it: `time="…" level=error msg="…"`, or, with the format
json, an object with level, msg and time. An error goes to standard error too.
"""

from __future__ import annotations

import posix
import time

from pycontain.errors import KernelError, UsageError, quote
from pycontain.oci import codec
from pycontain.runtime.state import timestamp


class Log:
    """Where messages go: fd 2, or the file of --log."""

    __slots__ = ("debugging", "fd", "json")

    def __init__(self) -> None:
        self.fd = 2
        self.json = False
        self.debugging = False

    def open(self, path: str, how: str, *, debugging: bool) -> None:
        """Set format and, when `path` is given, file; raises UsageError, KernelError."""
        if how not in ("", "text", "json"):
            raise UsageError(f"--log-format: unknown format {how!r}, text or json")
        self.json = how == "json"
        self.debugging = debugging
        if not path:
            return
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        try:
            fd = posix.open(path, flags, 0o644)
        except (OSError, ValueError) as error:
            number = error.errno or 0 if isinstance(error, OSError) else 22
            raise KernelError("open log", path, number) from None
        # Never in the range of descriptors that --preserve-fds hands on.
        import fcntl

        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 64)
        posix.close(fd)

    def error(self, message: str) -> None:
        self._write("error", message)
        if self.fd != 2:
            _put(2, f"{message}\n".encode("utf-8", "backslashreplace"))

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        now = timestamp(time.time())
        if self.json:
            line = codec.dumps({"level": level, "msg": message, "time": now})
        else:
            text = quote(message).replace("\\", "\\\\").replace('"', '\\"')
            line = f'time="{now}" level={level} msg="{text}"'.encode("utf-8", "backslashreplace")
        _put(self.fd, line + b"\n")


def _put(fd: int, line: bytes) -> None:
    try:
        posix.write(fd, line)
    except OSError:
        # A closed or full standard error must not change what the verb does or returns.
        return
