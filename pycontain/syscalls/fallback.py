"""The Python executor: carries a program out in a forked child when there is no native module.

Slower than the clone3 child and with the same results. Two forks, because only libc's leaves its
locks sound in the child and only clone knows namespaces:

    this process ── fork ──▶ middle ── clone(CLONE_PARENT, CLONE_NEW*) ──▶ child, this process's own
         ◀── pidfd, or errno, over a socket ──┘ exits

The child works through the encoded program of `encode`, as native/loop.h does.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import errno
import mmap
import posix
import time

from pycontain.syscalls import encode as encoding
from pycontain.syscalls import kernel, layout, libc
from pycontain.syscalls.constants import (
    AT_EMPTY_PATH,
    CLOCK_MONOTONIC,
    CLONE_INTO_CGROUP,
    CLONE_NEWTIME,
    CLONE_PARENT,
    CLONE_PIDFD,
    F_SETFD,
)
from pycontain.syscalls.executor import Running
from pycontain.syscalls.numbers import NR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from pycontain.syscalls.ops import Program

SIGNALS = 64
BLOCKABLE = (*range(1, 32), *range(34, 65))
"""All but the two that libc keeps for itself."""
ERRORS = 4096


class _Mapped:
    """Memory shared with a forked child."""

    __slots__ = ("image",)

    def __init__(self, content: bytearray, memfd: int) -> None:
        posix.ftruncate(memfd, len(content))
        self.image = mmap.mmap(memfd, len(content))
        self.image[:] = bytes(content)

    def read(self, size: int) -> bytes:
        return self.image[:size]

    def release(self) -> None:
        self.image.close()


def spawn(
    program: Program,
    image: bytearray,
    clone_flags: int,
    cgroup_fd: int,
    vfork: bool,
    join: tuple[tuple[int, int], ...] = (),
) -> Running:
    """Start a child that carries `image` out; as `executor.spawn`."""
    started = time.monotonic_ns()
    memfd = kernel.memfd_create("program")
    memory = _Mapped(image, memfd)
    done, done_end = posix.pipe2(posix.O_CLOEXEC)
    gone, gone_end = posix.pipe2(posix.O_CLOEXEC)
    near, far = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    layout.FDS.pack_into(memory.image, layout.FDS_OFFSET, memfd, done_end)
    try:
        try:
            middle = _fork_middle(memory.image, clone_flags, cgroup_fd, far, join)
        finally:
            far.close()
            for fd in (done_end, gone_end):
                posix.close(fd)
        try:
            pidfd = _receive_pidfd(near)
        finally:
            posix.waitpid(middle, 0)
        if vfork:
            posix.read(gone, 1)
    except OSError:
        posix.close(done)
        memory.release()
        raise
    finally:
        near.close()
        posix.close(gone)
        posix.close(memfd)
    return Running(program, _pid_of(pidfd), pidfd, done, memory, started)


def _fork_middle(
    image: mmap.mmap,
    flags: int,
    cgroup_fd: int,
    far: _socket.socket,
    join: tuple[tuple[int, int], ...],
) -> int:
    """Fork the process in between; return its pid. No handler of ours runs in the children."""
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, BLOCKABLE)
    try:
        middle = libc.fork()
        if middle == 0:
            try:
                _middle(image, flags, cgroup_fd, far, join)
            finally:
                libc.leave(125)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    if middle < 0:
        raise OSError(errno.EAGAIN, "fork failed")
    return middle


def _middle(
    image: mmap.mmap,
    flags: int,
    cgroup_fd: int,
    far: _socket.socket,
    join: tuple[tuple[int, int], ...],
) -> NoReturn:
    pidfd = bytearray(4)
    pid = 0
    for fd, kinds in join:
        pid = pid or libc.raw(NR["setns"], fd, kinds)
    if pid == 0:
        pid = _clone(flags, cgroup_fd, libc.address(pidfd))
    if pid == 0:
        try:
            _child(image)
        finally:
            libc.leave(125)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, bytes(pidfd))] if pid > 0 else []
    far.sendmsg([(-min(pid, 0)).to_bytes(4, "little")], rights)
    libc.leave(0)


def _clone(flags: int, cgroup_fd: int, pidfd: int) -> int:
    """clone3(2), or clone(2) where an outer container's filter hides it; 0 in the child."""
    flags |= CLONE_PARENT | CLONE_PIDFD | (CLONE_INTO_CGROUP if cgroup_fd >= 0 else 0)
    words = (flags, pidfd, 0, 0, 0, 0, 0, 0, 0, 0, max(cgroup_fd, 0))
    arguments = bytearray(b"".join(word.to_bytes(8, "little") for word in words))
    pid = libc.raw(NR["clone3"], libc.address(arguments), len(arguments))
    if pid == -errno.ENOSYS and not flags & (CLONE_INTO_CGROUP | CLONE_NEWTIME):
        return libc.raw(NR["clone"], flags, 0, pidfd, 0, 0)
    return pid


def _receive_pidfd(near: _socket.socket) -> int:
    """Return the pidfd the middle process sends; raise the errno it sends instead."""
    message, rights, _, _ = near.recvmsg(4, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    if rights:
        return int.from_bytes(rights[0][2][:4], "little")
    number = int.from_bytes(message, "little") or errno.ECHILD
    raise OSError(number, posix.strerror(number))


def _pid_of(pidfd: int) -> int:
    """Return the pid, in our pid namespace, of the process behind a pidfd (proc_pid_fdinfo(5))."""
    fd = posix.open(f"/proc/self/fdinfo/{pidfd}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        text = posix.read(fd, 4096)
    finally:
        posix.close(fd)
    return int(text.partition(b"Pid:")[2].split(None, 1)[0])


def _child(image: mmap.mmap) -> None:
    zeros = bytearray(32)  # SIG_DFL, no flags; no signal
    for number in range(1, SIGNALS + 1):
        libc.raw(NR["rt_sigaction"], number, libc.address(zeros), 0, 8)
    libc.raw(NR["rt_sigprocmask"], _signal.SIG_SETMASK, libc.address(zeros), 0, 8)
    _Loop(image).run()


class _Loop:
    """The loop of native/loop.h over the same image."""

    def __init__(self, image: mmap.mmap) -> None:
        self._image = image
        self._address = libc.address(image)
        head = layout.HEAD.unpack_from(image)
        self._count, self._relocs, self._relocations = head[1], head[5], head[3]
        self._times, self._data = head[6], head[7]
        self._memfd, self._pipe = layout.FDS.unpack_from(image, layout.FDS_OFFSET)

    def run(self) -> NoReturn:
        """Carry out every op; end the process as loop.h does."""
        self._relocate()
        index = 0
        while index < self._count:
            nr, kind, types, into, *rest = layout.OP.unpack_from(
                self._image, encoding.HEADER_BYTES + layout.OP.size * index
            )
            args, (on_error, on_success, minimum, *ok) = rest[:6], rest[6:]
            self._report(encoding.CHILD, index)
            if kind in (encoding.EXEC, encoding.STUB):
                self._stamp(index)
            result = self._carry_out(nr, kind, [self._argument(types, n, args) for n in range(6)])
            if 0 <= result < minimum:
                result = -errno.EPIPE
            if kind == encoding.CALL:
                self._stamp(index)
            if -ERRORS < result < 0:
                if -1 not in ok and -result not in ok:
                    self._report(encoding.FAILED, index, -result)
                    libc.leave(_exit_status(kind, -result))
                index = on_error
                continue
            if into >= 0:
                place = layout.REGISTERS_OFFSET + 8 * into
                layout.REGISTER_VALUE.pack_into(self._image, place, result)
            index = on_success
        self._report(encoding.DONE, self._count - 1)
        libc.leave(0)

    def _argument(self, types: int, n: int, args: list[int]) -> int:
        type_ = types >> 4 * n & 15
        if type_ == layout.DATA:
            return self._address + args[n]
        if type_ == layout.REGISTER:
            place = layout.REGISTERS_OFFSET + 8 * args[n]
            value: int = layout.REGISTER_VALUE.unpack_from(self._image, place)[0]
            return value
        return args[n] - (1 << 64) if args[n] >> 63 else args[n]

    def _carry_out(self, nr: int, kind: int, args: list[int]) -> int:
        if kind == encoding.STUB:
            return self._exec_stub(args)
        if kind == encoding.STORE:
            offset, width = args[1] - self._address, args[2]
            value = args[0] & ((1 << 8 * width) - 1)
            self._image[offset : offset + width] = value.to_bytes(width, "little")
            return 0
        return libc.raw(nr, *args)

    def _exec_stub(self, args: list[int]) -> int:
        for fd in (self._memfd, self._pipe, *args[1:]):
            if fd >= 0:
                libc.raw(NR["fcntl"], fd, F_SETFD, 0)
        name, number = bytearray(b"pycontain\0"), bytearray(b"%d\0" % self._memfd)
        words = (libc.address(name), libc.address(number), 0)
        argv = bytearray(b"".join(word.to_bytes(8, "little") for word in words))
        empty = libc.address(argv) + 16
        return libc.raw(NR["execveat"], args[0], empty, libc.address(argv), empty, AT_EMPTY_PATH, 0)

    def _relocate(self) -> None:
        base = self._address + self._data
        before = layout.BASE.unpack_from(self._image, layout.BASE_OFFSET)[0]
        for n in range(self._relocations):
            place = self._relocs + 4 * n
            at = self._data + int.from_bytes(self._image[place : place + 4], "little")
            value = layout.BASE.unpack_from(self._image, at)[0] + base - before
            layout.BASE.pack_into(self._image, at, value)
        layout.BASE.pack_into(self._image, layout.BASE_OFFSET, base)

    def _report(self, state: int, op: int, number: int = 0) -> None:
        layout.PROGRESS.pack_into(self._image, layout.PROGRESS_OFFSET, state, op, number)

    def _stamp(self, index: int) -> None:
        if self._times:
            now = time.clock_gettime_ns(CLOCK_MONOTONIC)
            layout.REGISTER_VALUE.pack_into(self._image, self._times + 8 * index, now)


def _exit_status(kind: int, number: int) -> int:
    """Return the shell's status for what failed."""
    if kind != encoding.EXEC:
        return 125
    return 127 if number == errno.ENOENT else 126
