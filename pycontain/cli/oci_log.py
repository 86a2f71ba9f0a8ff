"""Messages of `pycontain-oci`: to the log file the engine reads, to standard error, or both.

One message is one line, as runc writes it: `time="…" level=error msg="…"`, or, with the format
json, an object with level, msg and time. An error goes to standard error too. Most calls have
nothing to say: the file is opened, and what writing needs imported, with the first message.
"""

from __future__ import annotations

import posix

from pycontain.errors import UsageError


class Log:
    """Where messages go: fd 2, or the file of --log."""

    __slots__ = ("debugging", "json", "path")

    def __init__(self) -> None:
        self.path = ""
        self.json = False
        self.debugging = False

    def configure(self, path: str, how: str, *, debugging: bool) -> None:
        """Set file and format (text or json); raises UsageError."""
        if how not in ("", "text", "json"):
            raise UsageError(f"--log-format: unknown format {how!r}, text or json")
        if "\0" in path:
            raise UsageError("--log holds a NUL byte")
        self.path = path
        self.json = how == "json"
        self.debugging = debugging

    def error(self, message: str) -> None:
        self._write("error", message)
        if self.path:
            _put(2, f"{message}\n".encode("utf-8", "backslashreplace"))

    def warning(self, message: str) -> None:
        self._write("warning", message)

    def debug(self, message: str) -> None:
        if self.debugging:
            self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        import time

        from pycontain.errors import quote
        from pycontain.oci import codec
        from pycontain.runtime.state import timestamp

        now = timestamp(time.time())
        if self.json:
            line = codec.dumps({"level": level, "msg": message, "time": now})
        else:
            text = quote(message).replace("\\", "\\\\").replace('"', '\\"')
            line = f'time="{now}" level={level} msg="{text}"'.encode("utf-8", "backslashreplace")
        if not self.path:
            _put(2, line + b"\n")
            return
        self._append(line + b"\n")

    def _append(self, line: bytes) -> None:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        try:
            fd = posix.open(self.path, flags, 0o644)
        except OSError as error:
            _put(2, f"open log {self.path}: {error.strerror}\n".encode())
            return
        _put(fd, line)
        posix.close(fd)


def _put(fd: int, line: bytes) -> None:
    try:
        posix.write(fd, line)
    except OSError:
        # A closed or full standard error must not change what the verb does or returns.
        return
