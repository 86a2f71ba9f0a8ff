"""QMP, QEMU's machine protocol: JSON lines over a socket.

Owns the framing and the two kinds of message: the answer to a command and the event that comes
between. See QEMU's docs/interop/qmp-spec. It knows no particular command but `qmp_capabilities`.

    QEMU    {"QMP": {...}}                          greeting
    client  {"execute": NAME, "arguments": {...}}
    QEMU    {"return": ...} | {"error": {"class", "desc"}} | {"event": NAME, ...}
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, PycontainError

if TYPE_CHECKING:
    import socket

MAX_LINE_BYTES = 4 << 20


class QmpError(PycontainError):
    """QEMU refused a command, or the connection ended."""


class QmpDecoder:
    """Cuts a byte stream into messages; feed it whatever arrived."""

    def __init__(self) -> None:
        self.pending = b""

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages completed by `data`; broken JSON is InvalidError."""
        *lines, self.pending = (self.pending + data).split(b"\n")
        if len(self.pending) > MAX_LINE_BYTES:
            raise InvalidError("qmp: a message over 4 MiB")
        return [_message(line) for line in lines if line.strip()]


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise InvalidError(f"qmp: not JSON: {line[:80]!r}") from error
    if not isinstance(message, dict):
        raise InvalidError(f"qmp: not an object: {line[:80]!r}")
    return message


class Qmp:
    """The client's end of one connection. Events seen while waiting are kept in `events`."""

    def __init__(self, connection: socket.socket, timeout_s: float = 10.0) -> None:
        self.connection = connection
        self.connection.settimeout(timeout_s)
        self.decoder = QmpDecoder()
        self.queue: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    def negotiate(self) -> dict[str, Any]:
        """Take the greeting and leave negotiation mode; returns QEMU's version object."""
        greeting = self._next()
        if "QMP" not in greeting:
            raise QmpError(f"qmp: no greeting but {str(greeting)[:80]}")
        self.execute("qmp_capabilities")
        version: dict[str, Any] = greeting["QMP"].get("version", {})
        return version

    def execute(self, command: str, **arguments: object) -> Any:
        """Carry out one command and return its value; an error answer raises QmpError."""
        self._send({"execute": command, **({"arguments": arguments} if arguments else {})})
        while True:
            message = self._next()
            if "return" in message:
                return message["return"]
            if "error" in message:
                raise QmpError(f"qmp {command}: {message['error'].get('desc', 'refused')}")

    def _send(self, message: dict[str, Any]) -> None:
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"qmp: the connection ended: {error}") from error

    def _next(self) -> dict[str, Any]:
        """Return the next message that is no event."""
        while True:
            while not self.queue:
                self.queue += self.decoder.feed(self._receive())
            message = self.queue.pop(0)
            if "event" not in message:
                return message
            self.events.append(message)

    def _receive(self) -> bytes:
        try:
            data = self.connection.recv(65536)
        except OSError as error:
            raise QmpError(f"qmp: no answer: {error}") from error
        if not data:
            raise QmpError("qmp: the connection ended")
        return data
