"""Carry a program out in a new child process.

Two executors give the same results and the same errors: `native` (C loop in a clone3 child that
shares this process's memory) and `python` (`fallback`: a fork). `record` prints instead.

    spawn ──clone──▶ child: ops before `execstub` ──execveat──▶ stub: the other ops ──▶ execve
      │ vfork: returns here, or at the execve where there is no stub                      │
      └─ wait_exec: end of file on a pipe that the last execve closes ◀───────────────────┘

A failing op ends the child and leaves its index and errno in memory the two share.

Of a child that shares memory the kernel refuses unshare(CLONE_NEWUSER) and setns to a time
namespace: ask for the first in `clone_flags`, put the second behind the stub.
"""

from __future__ import annotations

import errno
import posix
import time

from pycontain.syscalls import kernel
from pycontain.syscalls.encode import (
    CHILD,
    DONE,
    EXEC,
    FAILED,
    HEADER_BYTES,
    IN_STUB,
    KINDS,
    Report,
    encode,
    times_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pycontain.syscalls.ops import Arg, Op, Program

    class Memory(Protocol):
        """The image as child and parent share it."""

        def read(self, size: int) -> bytes: ...
        def release(self) -> None: ...


class OpFailed(Exception):
    """An op of the child failed: its `index`, the `op` and the errno `number`.

    EOWNERDEAD says that the child was killed there; a result below `minimum` is EPIPE.
    """

    def __init__(self, index: int, op: Op, number: int) -> None:
        super().__init__(index, op, number)
        self.index = index
        self.op = op
        self.number = number

    def __str__(self) -> str:
        target = f" {self.op.target}" if self.op.target else ""
        cause = errno.errorcode.get(self.number, str(self.number))
        return f"{self.op.call}{target}: {cause} (step {self.op.step!r}, op {self.index})"


class Running:
    """A child that carries out a program; `close` (or the end of a with block) frees what is held.

    `started` and `returned` are CLOCK_MONOTONIC ns before and after the clone.
    """

    __slots__ = ("_image", "_memory", "_pipe", "_program", "pid", "pidfd", "returned", "started")

    def __init__(
        self, program: Program, pid: int, pidfd: int, pipe: int, memory: Memory, started: int
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.started = started
        self.returned = time.monotonic_ns()
        self._program = program
        self._pipe = pipe
        self._memory: Memory | None = memory
        self._image = b""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_exec(self, timeout: float | None = None) -> None:
        """Return once the command was executed (or the program came to its end).

        Raises OpFailed, with the child reaped, when an op failed; TimeoutError after `timeout`
        seconds, with the child still at work.
        """
        if self._pipe >= 0:
            self._await_pipe(timeout)
        report = self.report()
        if report.state == DONE or self._executed(report):
            self._free()
            return
        posix.waitid(posix.P_PIDFD, self.pidfd, posix.WEXITED)
        number = report.errno if report.state == FAILED else errno.EOWNERDEAD
        self.close()
        raise OpFailed(report.op, self._program.ops[report.op], number)

    def report(self) -> Report:
        """Return where the child is now."""
        return Report(self._read(HEADER_BYTES))

    def timings(self) -> list[int]:
        """Return when each op ended (an exec: began), ns of CLOCK_MONOTONIC; 0 for one not run.

        [] unless the program was spawned with `timeline`.
        """
        size = self.report().size
        image = self._read(size)
        return times_of(image, Report(image), len(self._program.ops))

    def close(self) -> None:
        """Free pipe, memory and pidfd; the child lives on. May be called twice."""
        self._free()
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1

    def detach(self) -> int:
        """Free all but the pidfd and return that; it is the caller's from now on."""
        pidfd, self.pidfd = self.pidfd, -1
        self._free()
        return pidfd

    def _await_pipe(self, timeout: float | None) -> None:
        if timeout is not None:
            self._poll(timeout)
        posix.read(self._pipe, 1)
        posix.close(self._pipe)
        self._pipe = -1

    def _poll(self, timeout: float) -> None:
        if not kernel.poll((self._pipe,), int(timeout * 1000)):
            raise TimeoutError(f"the child is still at op {self.report().op}")

    def _executed(self, report: Report) -> bool:
        """Tell whether the last thing the child did, and that went well, was an exec."""
        if report.state not in (CHILD, IN_STUB):
            return False
        return KINDS.get(self._program.ops[report.op].call) == EXEC

    def _read(self, size: int) -> bytes:
        return self._image[:size] if self._memory is None else self._memory.read(size)

    def _free(self) -> None:
        if self._memory is not None:
            self._image = self._memory.read(Report(self._memory.read(HEADER_BYTES)).size)
            self._memory.release()
            self._memory = None
        if self._pipe >= 0:
            posix.close(self._pipe)
            self._pipe = -1


class _Shared:
    """Memory shared with a child of the native executor."""

    __slots__ = ("address", "stack")

    def __init__(self, address: int, stack: int) -> None:
        self.address = address
        self.stack = stack

    def read(self, size: int) -> bytes:
        content: bytes = kernel.native.report(self.address, size)
        return content

    def release(self) -> None:
        kernel.native.release(self.address, self.stack)


def spawn(
    program: Program,
    *,
    clone_flags: int = 0,
    cgroup_fd: int = -1,
    vfork: bool = True,
    timeline: bool = False,
    executor: str = "auto",
    join: tuple[tuple[int, int], ...] = (),
) -> Running:
    """Start a child in new namespaces (`clone_flags`: CLONE_NEW*) that carries out `program`.

    `cgroup_fd` is a v2 cgroup directory to start in, -1 for ours. With `vfork` the call returns
    when the child execs the stub (or the command) or dies; without, at once. `executor` is "auto",
    "native" or "python". `join` are descriptors and the CLONE_NEW* bits to enter by setns(2) before
    the clone: a user namespace, and the pid namespace it gives the right to, cannot be entered by
    this process and left again, so the python executor's middle process does it whatever `executor`
    is.
    Raises OSError when the clone fails; what an op does wrong is told by
    `wait_exec`.
    """
    image = encode(program, timeline)
    started = time.monotonic_ns()
    if executor == "python" or join or (executor == "auto" and kernel.native is None):
        from pycontain.syscalls import fallback

        return fallback.spawn(program, image, clone_flags, cgroup_fd, vfork, join)
    if kernel.native is None:
        raise OSError(errno.ENOSYS, "the native module is not built")
    pid, pidfd, pipe, address, stack = kernel.native.spawn(image, clone_flags, cgroup_fd, vfork)
    return Running(program, pid, pidfd, pipe, _Shared(address, stack), started)


def record(program: Program) -> list[str]:
    """Return the program as text, one line an op, the step's name before its first op."""
    lines: list[str] = []
    step = ""
    for index, op in enumerate(program.ops):
        if op.step != step:
            step = op.step
            lines.append(f"{step}:" + (f"  [{op.path}]" if op.path else ""))
        lines.append(f"  {index:3} {describe(program, op)}")
    return lines


def describe(program: Program, op: Op) -> str:
    """Return one op as it would stand in a trace: `r1 = openat2(...)`, and what it tolerates."""
    text = f"{op.call}({', '.join(_show(program, arg) for arg in op.args)})"
    if op.into is not None:
        text = f"{op.into!r} = {text}"
    if op.ok:
        names = ["any error" if n == -1 else errno.errorcode.get(n, str(n)) for n in op.ok]
        text += f"  # tolerates {', '.join(names)}"
        if op.on_error is not None:
            text += f", then goes to {op.on_error.index}"
    if op.on_success is not None:
        text += f"  # on success goes to {op.on_success.index}"
    return text


def _show(program: Program, arg: Arg) -> str:
    if arg is None:
        return "NULL"
    if isinstance(arg, str | bytes):
        text = arg.decode("utf-8", "backslashreplace") if isinstance(arg, bytes) else arg
        return '"' + ascii(text)[1:-1].replace('"', '\\"') + '"'
    if isinstance(arg, int):
        return str(arg) if -4096 < arg < 4096 else hex(arg & 0xFFFFFFFFFFFFFFFF)
    return repr(arg)
