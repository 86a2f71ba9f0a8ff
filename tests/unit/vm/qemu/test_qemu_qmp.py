"""QMP's framing, against a server in a thread at the other end of a socket pair."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from pycontain.errors import InvalidError
from pycontain.vm.qemu.qmp import Qmp, QmpDecoder, QmpError

GREETING = {"QMP": {"version": {"qemu": {"major": 7}}, "capabilities": []}}


@pytest.fixture
def served() -> Iterator[Callable[[list[object]], Qmp]]:
    ours, theirs = socket.socketpair()
    threads: list[threading.Thread] = []

    def start(script: list[object]) -> Qmp:
        """Send the first message, then one after each command received."""

        def run() -> None:
            for number, message in enumerate(script):
                if number:
                    theirs.recv(65536)
                for each in message if isinstance(message, list) else [message]:
                    theirs.sendall(json.dumps(each).encode() + b"\r\n")
            theirs.shutdown(socket.SHUT_WR)

        threads.append(threading.Thread(target=run))
        threads[0].start()
        return Qmp(ours, timeout_s=5)

    yield start
    ours.close()
    for thread in threads:
        thread.join()
    theirs.close()


def test_negotiation_returns_the_version(served):
    assert served([GREETING, {"return": {}}]).negotiate() == {"qemu": {"major": 7}}


def test_events_in_between_are_kept(served):
    event = {"event": "RESUME", "data": {}}
    qmp = served([[event, GREETING], [{"return": {}}], [event, {"return": {"status": "running"}}]])
    qmp.negotiate()
    assert qmp.execute("query-status") == {"status": "running"}
    assert [one["event"] for one in qmp.events] == ["RESUME", "RESUME"]


def test_an_error_answer_is_raised(served):
    qmp = served([GREETING, {"return": {}}, {"error": {"class": "GenericError", "desc": "no"}}])
    qmp.negotiate()
    with pytest.raises(QmpError, match="no"):
        qmp.execute("nonsense")


def test_an_ended_connection_is_an_error(served):
    qmp = served([GREETING])
    with pytest.raises(QmpError):
        qmp.negotiate()


def test_a_message_may_arrive_in_pieces():
    decoder = QmpDecoder()
    assert decoder.feed(b'{"a"') == []
    assert decoder.feed(b': 1}\n{"b": 2}\n{"c"') == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize("line", [b"nonsense\n", b"[1]\n", b"\xff\n"])
def test_broken_json_is_invalid(line):
    with pytest.raises(InvalidError):
        QmpDecoder().feed(line)


def test_an_endless_line_is_refused():
    with pytest.raises(InvalidError):
        QmpDecoder().feed(b"x" * (5 << 20))
