"""What a guest has told so far: stages, exit status, resource use. No process, no socket.

Owns the meaning of what arrives on the console and on the control port (the guest's half of the
protocol in native/guest_init.c). The guest is hostile: its words are checked, and what it may
not say raises.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pycontain.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidError,
    KernelError,
    PycontainError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CONSOLE_TAIL_BYTES = 8192
CONSOLE_MARKS = ((b"Linux version", "kernel"), (b"pycontain: init", "init"))
GUEST_MARKS = ("ports", "command", "exited")
USAGE = ("utime_us", "stime_us", "minflt", "majflt", "nvcsw", "nivcsw", "maxrss_kib")
LONGEST_LINE = 256


@dataclass(frozen=True)
class Mark:
    """A stage was reached: seconds since the start by the host's clock."""

    name: str
    at_s: float


@dataclass(kw_only=True)
class GuestRun:
    """How a command in a guest ended. `usage` is the command's rusage by the guest's kernel."""

    status: int = -1
    marks: list[Mark] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    retries: int = 0

    def at(self, name: str) -> float | None:
        """Return when the mark `name` was reached, None when it was not."""
        return next((mark.at_s for mark in self.marks if mark.name == name), None)


class Session:
    """Takes what arrives and keeps what it means; `on_mark` is called as a stage is reached."""

    def __init__(self, on_mark: Callable[[str], object] = lambda name: None) -> None:
        self.result = GuestRun()
        self.console = b""
        self.command = ""
        self.on_mark = on_mark
        self.started = time.monotonic()
        self._line = b""

    def mark(self, name: str) -> None:
        """Note that a stage was reached; only the first time counts."""
        if self.result.at(name) is None:
            self.result.marks.append(Mark(name, time.monotonic() - self.started))
            self.on_mark(name)

    def take_console(self, data: bytes) -> None:
        """Take output of the console."""
        if not self.console:
            self.mark("firmware")
        # A word may arrive in two reads, so look at what is new plus the end of what was there.
        seen = self.console[-32:] + data
        self.console = (self.console + data)[-CONSOLE_TAIL_BYTES:]
        for word, name in CONSOLE_MARKS:
            if word in seen:
                self.mark(name)

    def take_control(self, data: bytes) -> None:
        """Take output of the control port. Raises what the guest reports, or InvalidError."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_line(line.decode("ascii", "replace"))
        if len(self._line) > LONGEST_LINE:
            raise InvalidError("the guest sent a line without an end")

    def _take_line(self, line: str) -> None:
        word, *rest = line.split(" ")
        if word == "mark" and rest and rest[0] in GUEST_MARKS:
            self.mark(rest[0])
        elif word in ("exit", "signal") and rest and _is_number(rest[0]):
            self.result.status = (
                int(rest[0]) % 128 + 128 if word == "signal" else int(rest[0]) % 256
            )
        elif word == "usage" and len(rest) == len(USAGE) and all(map(_is_number, rest)):
            self.result.usage = dict(zip(USAGE, map(int, rest), strict=True))
        elif word == "fail":
            raise self._failure(rest)
        else:
            raise InvalidError(f"the guest sent {line[:80]!r}")

    def _failure(self, rest: list[str]) -> PycontainError:
        step = rest[0] if rest else "unknown step"
        number = int(rest[1]) if len(rest) > 1 and _is_number(rest[1]) else 0
        if step != "execve":
            return KernelError(f"guest init: {step}", "", number)
        missing = number == errno.ENOENT
        kind = CommandNotFoundError if missing else CommandNotExecutableError
        return kind("run in the guest", self.command, number, call="execve")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 18
