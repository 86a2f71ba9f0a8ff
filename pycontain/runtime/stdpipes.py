"""Pipes between the caller's terminal and a process that asked for none.

Who holds a terminal can change its modes and may type into it (TIOCSTI, ioctl_tty(2)): a process
whose `process.terminal` is false gets a pipe in the place of each of 0, 1 and 2 that is one. What
is no terminal it gets as it is.
"""

from __future__ import annotations

import posix

_CHUNK = 65536


class StandardPipes:
    """The pipes and what is on its way through them.

    stdio   the descriptors for the process, in the places of 0, 1 and 2
    """

    __slots__ = ("_flows", "stdio")

    def __init__(self, terminals: list[int]) -> None:
        self._flows: list[_Flow] = []
        ends = [0, 1, 2]
        for number in terminals:
            reading, writing = posix.pipe2(posix.O_CLOEXEC)
            if number == 0:
                ends[0] = reading
                posix.set_blocking(writing, False)
                self._flows.append(_Flow(0, writing, pipe=writing))
            else:
                ends[number] = writing
                posix.set_blocking(reading, False)
                self._flows.append(_Flow(reading, number, pipe=reading))
        self.stdio = (ends[0], ends[1], ends[2])

    def started(self) -> None:
        """Close the ends that the process has by now: only it shall hold them open."""
        for number, fd in enumerate(self.stdio):
            if fd != number:
                posix.close(fd)

    def wanted(self) -> tuple[list[int], list[int]]:
        """Return the descriptors to be read next and those to be written."""
        reading = [flow.source for flow in self._flows if flow.open and not flow.pending]
        return reading, [flow.sink for flow in self._flows if flow.pending]

    def move(self, fd: int) -> None:
        """Take from `fd` what is there, or give it what waits for it."""
        for flow in self._flows:
            if flow.source == fd and flow.open and not flow.pending:
                flow.take()
            elif flow.sink == fd and flow.pending:
                flow.give()

    def left(self) -> list[int]:
        """Take what the process left behind; return the descriptors it is for."""
        printed = [flow for flow in self._flows if flow.source != 0]
        for flow in printed:
            if flow.open and not flow.pending:
                flow.take()
        return [flow.sink for flow in printed if flow.pending]

    def resize(self) -> None:
        """A pipe has no size."""


class _Flow:
    """One direction: at most one chunk is kept, and nothing read until it is gone.

    `pipe` is our end of the pipe: closed, it tells the process that the other side went away.
    """

    __slots__ = ("open", "pending", "pipe", "sink", "source")

    def __init__(self, source: int, sink: int, *, pipe: int) -> None:
        self.source, self.sink, self.pipe = source, sink, pipe
        self.pending = b""
        self.open = True

    def take(self) -> None:
        try:
            self.pending = posix.read(self.source, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            # EIO: the terminal hung up, or this process is in its background.
            self.pending = b""
        if not self.pending:
            self._end()

    def give(self) -> None:
        try:
            self.pending = self.pending[posix.write(self.sink, self.pending) :]
        except BlockingIOError:
            return
        except OSError:
            # EPIPE, EIO: nobody reads there any more.
            self.pending = b""
            self._end()

    def _end(self) -> None:
        if self.open:
            self.open = False
            posix.close(self.pipe)
