"""What a guest may say, and the loop that moves bytes, without a guest."""

from __future__ import annotations

import os
import socket
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    InvalidError,
    KernelError,
    PycontainError,
)
from pycontain.vm.qemu.loop import Loop
from pycontain.vm.qemu.session import Session


def test_an_exit_and_a_signal_become_a_shells_status():
    session = Session()
    session.take_control(b"mark command 12\nmark exited 13\nexit 7\n")
    assert session.result.status == 7
    session.take_control(b"signal 9\n")
    assert session.result.status == 137


def test_lines_may_arrive_in_pieces():
    session = Session()
    for piece in (b"ex", b"it 4", b"2\nus"):
        session.take_control(piece)
    assert session.result.status == 42


def test_usage_is_kept_by_name():
    session = Session()
    session.take_control(b"usage 1 2 3 4 5 6 7\n")
    assert session.result.usage["minflt"] == 3 and session.result.usage["maxrss_kib"] == 7


def test_a_mark_counts_once():
    seen: list[str] = []
    session = Session(seen.append)
    session.take_control(b"mark ports 1\nmark ports 2\n")
    assert seen == ["ports"]


def test_marks_on_the_console_are_seen_across_reads():
    session = Session()
    for piece in (b"SeaBIOS\r\nLinux ver", b"sion 6.1\r\npycontain: in", b"it\r\n"):
        session.take_console(piece)
    assert [mark.name for mark in session.result.marks] == ["firmware", "kernel", "init"]


def test_the_console_does_not_grow_without_end():
    session = Session()
    for _ in range(100):
        session.take_console(b"x" * 1000)
    assert len(session.console) <= 8192


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"fail execve 2\n", CommandNotFoundError),
        (b"fail execve 13\n", CommandNotExecutableError),
        (b"fail mount-root 19\n", KernelError),
        (b"fail\n", KernelError),
        (b"mark gone 1\n", InvalidError),
        (b"mark start 1\n", InvalidError),
        (b"exit -1\n", InvalidError),
        (b"exit \xd9\xa3\n", InvalidError),
        (b"usage 1 2\n", InvalidError),
        (b"nonsense\n", InvalidError),
        (b"x" * 1000, InvalidError),
    ],
)
def test_what_a_guest_may_not_say_is_refused(line, error):
    with pytest.raises(error):
        Session().take_control(line)


@given(st.binary(max_size=300))
def test_no_words_of_a_guest_break_more_than_its_own_run(data):
    session = Session()
    try:
        session.take_control(data)
        session.take_console(data)
    except PycontainError:
        return
    assert -1 <= session.result.status <= 255


def test_an_echo_larger_than_every_buffer_comes_through():
    """A guest that answers before it has read everything must not lock both sides."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    payload = os.urandom(3 << 20)
    received = bytearray()

    def write() -> None:
        with os.fdopen(writer, "wb") as source:
            source.write(payload)

    def echo() -> None:
        with theirs:
            while data := theirs.recv(65536):
                theirs.sendall(data)

    threads = [threading.Thread(target=work) for work in (write, echo)]
    with subprocess.Popen(["sleep", "1000"]) as process:
        for thread in threads:
            thread.start()
        with ours, Loop(process.pid, lambda: None) as loop:
            loop.watch(ours, received.extend)
            feeder = ours.dup()
            with feeder:
                loop.feed(reader, feeder)
                while len(received) < len(payload):
                    assert loop.step(10)
        process.kill()
    for thread in threads:
        thread.join()
    os.close(reader)
    assert bytes(received) == payload


def test_a_message_larger_than_the_socket_is_sent_whole():
    ours, theirs = socket.socketpair()
    message = os.urandom(1 << 20)
    received = bytearray()
    with subprocess.Popen(["sleep", "1000"]) as process, theirs:
        with ours, Loop(process.pid, lambda: None) as loop:
            loop.watch(ours, lambda data: None)
            loop.send(ours, message)
            theirs.setblocking(False)
            while len(received) < len(message):
                loop.step(0.01)
                try:
                    received += theirs.recv(65536)
                except BlockingIOError:
                    continue
        process.kill()
    assert bytes(received) == message


def test_the_end_of_the_process_is_noticed():
    gone: list[bool] = []
    with (
        subprocess.Popen(["true"]) as process,
        Loop(process.pid, lambda: gone.append(True)) as loop,
    ):
        while not loop.gone:
            loop.step(5)
    assert gone == [True]


def test_a_regular_file_is_fed_to_its_end(tmp_path):
    (tmp_path / "in").write_bytes(b"x" * 500_000)
    ours, theirs = socket.socketpair()
    received = bytearray()
    theirs.setblocking(False)
    source = os.open(tmp_path / "in", os.O_RDONLY)
    with subprocess.Popen(["sleep", "1000"]) as process, ours, theirs:
        with Loop(process.pid, lambda: None) as loop:
            loop.feed(source, ours)
            while True:
                loop.step(0.01)
                try:
                    data = theirs.recv(65536)
                except BlockingIOError:
                    continue
                if not data:
                    break
                received += data
        process.kill()
    os.close(source)
    assert len(received) == 500_000
