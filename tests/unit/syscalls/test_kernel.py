"""The thin calls: results, errors with the path, buffers; natively and by ctypes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel, libc, numbers


@pytest.fixture(params=["native", "ctypes"], autouse=True)
def entry(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    call = libc.syscall
    if request.param == "native":
        if kernel.native is None:
            pytest.skip("the native module is not built")
        call = kernel.native.syscall
    monkeypatch.setattr(kernel, "_syscall", call)
    return call


def test_an_error_carries_errno_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        kernel.openat2(c.AT_FDCWD, "/nonexistent", c.O_RDONLY)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, "/nonexistent")


def test_openat2_stays_beneath(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to("..")
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as caught:
            kernel.openat2(directory, "up", c.O_PATH, resolve=c.RESOLVE_BENEATH)
        inside = kernel.openat2(directory, "up", c.O_PATH, resolve=c.RESOLVE_IN_ROOT)
        assert os.path.samestat(os.fstat(inside), os.fstat(directory))
        os.close(inside)
    finally:
        os.close(directory)
    assert caught.value.errno == errno.EXDEV


def test_a_nul_byte_never_reaches_the_kernel() -> None:
    with pytest.raises(ValueError, match="null byte"):
        kernel.openat2(c.AT_FDCWD, "/etc\0/x", c.O_RDONLY)


def test_the_kernel_writes_into_a_bytearray() -> None:
    buffer = bytearray(6)
    fd = kernel.memfd_create("test")
    try:
        os.write(fd, b"hello!")
        assert kernel.syscall("pread64", fd, buffer, 6, 0) == 6
    finally:
        os.close(fd)
    assert buffer == b"hello!"


def test_only_ints_and_buffers_are_taken(entry: Callable[..., int]) -> None:
    with pytest.raises(TypeError):
        entry(numbers.NR["getpid"], "text")
    with pytest.raises(TypeError):
        entry(numbers.NR["getpid"], 1.5)


def test_prctl_and_pidfd() -> None:
    assert kernel.prctl(c.PR_GET_NO_NEW_PRIVS) in (0, 1)
    pidfd = kernel.pidfd_open(os.getpid())
    assert not os.get_inheritable(pidfd)
    kernel.pidfd_send_signal(pidfd, 0)
    os.close(pidfd)


def test_poll_tells_what_can_be_read_and_what_can_be_written() -> None:
    reader, writer = os.pipe()
    try:
        assert kernel.poll((reader,), 0) == []
        assert kernel.poll((reader,), writing=(writer,)) == [writer]
        os.set_blocking(writer, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writer, bytes(65536))
        assert kernel.poll((reader,), writing=(writer,)) == [reader]
        assert kernel.poll((), 0, writing=(writer,)) == []
    finally:
        os.close(reader)
        os.close(writer)
