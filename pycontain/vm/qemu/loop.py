"""The poll loop of one run: moves bytes between sockets and sinks until the process is gone."""

from __future__ import annotations

import os
import selectors
import socket
from collections.abc import Callable
from typing import Self

BLOCK_BYTES = 65536

Sink = Callable[[bytes], object]


class Loop:
    """A selector over descriptors, each with the function to call when it is ready.

    Nothing in it blocks: what the guest does not take yet waits here, or a guest that waits for
    its output to be read would be waited for in turn.
    """

    def __init__(self, pid: int, on_gone: Callable[[], object]) -> None:
        self.gone = False
        self._pid = pid
        self._on_gone = on_gone
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        self._pidfd = os.pidfd_open(self._pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, self._set_gone)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        os.close(self._pidfd)

    def _set_gone(self) -> None:
        self._selector.unregister(self._pidfd)
        self.gone = True
        self._on_gone()

    def watch(self, connection: socket.socket, sink: Sink) -> None:
        """Hand whatever arrives on `connection` to `sink`."""
        connection.setblocking(False)

        def read() -> None:
            data = _receive(connection)
            if data:
                sink(data)
            elif data is not None:
                self._selector.unregister(connection)

        self._selector.register(connection, selectors.EVENT_READ, read)

    def send(self, target: socket.socket, data: bytes) -> None:
        """Send `data`, as fast as the other side takes it; `target` is read by `watch` as well."""
        try:
            sent = target.send(data)
        except BlockingIOError:
            sent = 0
        if sent == len(data):
            return
        duplicate = target.dup()

        def go_on() -> None:
            nonlocal data
            data = data[_sent(duplicate, data) :]
            if not data:
                self._selector.unregister(duplicate)
                duplicate.close()

        data = data[sent:]
        self._selector.register(duplicate, selectors.EVENT_WRITE, go_on)

    def feed(self, source: int, target: socket.socket) -> None:
        """Forward `source` to `target` until it ends, then end `target` too."""
        target.setblocking(False)
        _Feed(self._selector, source, target).begin()

    def step(self, timeout_s: float | None) -> bool:
        """Wait for what is ready, act on it; returns whether a descriptor but the process's was."""
        ready = self._selector.select(timeout_s)
        for key, _ in ready:
            if key.fd in self._selector.get_map():
                key.data()
        return any(key.fd != self._pidfd for key, _ in ready)


class _Feed:
    """One direction from a descriptor to a socket with what is not taken yet in between."""

    def __init__(
        self, selector: selectors.BaseSelector, source: int, target: socket.socket
    ) -> None:
        self._selector = selector
        self._source = source
        self._target = target
        self._pending = b""
        self._polled = True

    def begin(self) -> None:
        try:
            self._selector.register(self._source, selectors.EVENT_READ, self._read)
        except PermissionError:
            # A regular file is always ready, and epoll refuses it.
            self._polled = False
            self._selector.register(self._target, selectors.EVENT_WRITE, self._write)

    def _read(self) -> None:
        self._selector.unregister(self._source)
        self._pending = os.read(self._source, BLOCK_BYTES)
        if self._pending:
            self._selector.register(self._target, selectors.EVENT_WRITE, self._write)
        else:
            _finish(self._target)

    def _write(self) -> None:
        if not self._pending:
            self._pending = os.read(self._source, BLOCK_BYTES)
        ended = not self._pending
        self._pending = self._pending[_sent(self._target, self._pending) :]
        if ended:
            self._selector.unregister(self._target)
            _finish(self._target)
        elif not self._pending and self._polled:
            self._selector.unregister(self._target)
            self._selector.register(self._source, selectors.EVENT_READ, self._read)


def _sent(target: socket.socket, data: bytes) -> int:
    """Return how much was taken; everything, when nobody is there any more."""
    try:
        return target.send(data)
    except BlockingIOError:
        return 0
    except (BrokenPipeError, ConnectionResetError):
        return len(data)


def _finish(target: socket.socket) -> None:
    try:
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other side is gone, which is the end as well


def _receive(connection: socket.socket) -> bytes | None:
    """Return what arrived, b"" at the end, None when there was nothing after all."""
    try:
        return connection.recv(BLOCK_BYTES)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""
