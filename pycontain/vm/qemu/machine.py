"""A running QEMU process as a context manager, and one command run in it.

Owns the process, its sockets and its clock. The process cannot be leaked: leaving the block kills
and reaps it, and it asked to be killed should this process die. A launch that fails raises
GuestError with argv, exit code, QEMU's own words and the end of the console.

All times are the host's (CLOCK_MONOTONIC, from just before QEMU's start), because a guest's clock
stretches under emulation and stands still while its vCPU is not running. Marks, in order:

    start      just before the process is made        vmm     QEMU's monitor answered
    firmware   first byte on the console              kernel  the kernel's banner (verbose)
    init       first user-space instruction           ports   drivers loaded, channel open
    command    just before the command is started     exited  the command ended
    gone       QEMU ended
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pycontain.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    KernelError,
    NotFoundError,
    PycontainError,
)
from pycontain.vm.qemu.command import Channels, MachineConfig, qemu_argv
from pycontain.vm.qemu.toolchain import launcher

if TYPE_CHECKING:
    from types import TracebackType

    from pycontain.vm.qemu.guest import GuestCommand

BOOT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 15.0
CONSOLE_TAIL_BYTES = 8192
BLOCK_BYTES = 65536
CONSOLE_MARKS = ((b"Linux version", "kernel"), (b"pycontain: init", "init"))

Sink = Callable[[bytes], object]
MarkHook = Callable[[str, int], object]


class GuestError(PycontainError):
    """The guest did not start, or gave no answer; `argv`, `status`, `output` tell more."""

    def __init__(
        self, message: str, machine: Machine, *, hint: str = "", booted: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.argv = machine.argv
        self.status = machine.status
        self.output = machine.own_output()
        self.console = machine.console.decode("utf-8", "replace")
        self.booted = booted

    def fields(self) -> dict[str, object]:
        """Return everything known about the failure."""
        more = {"argv": self.argv, "status": self.status, "output": self.output}
        return {**super().fields(), **more, "console": self.console}


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


USAGE = ("utime_us", "stime_us", "minflt", "majflt", "nvcsw", "nivcsw", "maxrss_kib")


class Machine:
    """One QEMU process. Use as `with Machine(config) as machine: machine.run(command)`."""

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        self.argv: list[str] = []
        self.status: int | None = None
        self.console = b""
        self.result = GuestRun()
        self._undo = ExitStack()
        self._command = ""
        self._on_mark: MarkHook = lambda name, pid: None

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._open_channels(undo)
            self._errors = undo.enter_context(tempfile.TemporaryFile())
            self._start_process(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    def _open_channels(self, undo: ExitStack) -> None:
        pairs = [socket.socketpair() for _ in range(6)]
        for ours, theirs in pairs:
            undo.callback(ours.close)
            undo.callback(theirs.close)
        self._ours = [ours for ours, _ in pairs]
        self._theirs = [theirs for _, theirs in pairs]

    def _start_process(self, undo: ExitStack) -> None:
        console, qmp, *ports = (theirs.fileno() for theirs in self._theirs)
        channels = Channels(
            console=console, qmp=qmp, ports=(ports[0], ports[1], ports[2], ports[3])
        )
        self.argv = qemu_argv(self.config, channels)
        guard = [str(launcher()), "-g", str(os.getpid()), "--"]
        self.started = time.monotonic()
        self._mark("start")
        self.process = subprocess.Popen(
            guard + self.argv,
            stdin=subprocess.DEVNULL,
            stdout=self._errors,
            stderr=self._errors,
            pass_fds=channels.all(),
            start_new_session=True,
        )
        undo.callback(self._end_process)
        for theirs in self._theirs:
            theirs.close()

    def _end_process(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.status = self.process.wait()

    @property
    def pid(self) -> int:
        """The process id of QEMU (the guard execs it in place)."""
        return self.process.pid

    def own_output(self) -> str:
        """Return the last lines QEMU itself printed."""
        self._errors.seek(0)
        return self._errors.read()[-CONSOLE_TAIL_BYTES:].decode("utf-8", "replace").strip()

    def run(
        self,
        command: GuestCommand,
        *,
        root_type: str = "",
        stdout: Sink,
        stderr: Sink,
        stdin_fd: int = -1,
        on_mark: MarkHook | None = None,
        boot_timeout_s: float = BOOT_TIMEOUT_S,
        timeout_s: float | None = None,
    ) -> GuestRun:
        """Run `command`, pass its output to the sinks, and wait until the machine is gone.

        `on_mark(name, pid)` is called as each stage is reached. Raises GuestError, or KernelError
        when the guest could not carry out a step (CommandNotFoundError for a missing command).
        """
        self._on_mark = on_mark or self._on_mark
        self._command = command.argv[0]
        _, _, control, out, err, feed = self._ours
        control.sendall(command.message(root_type))
        with _Loop(self) as loop:
            loop.watch_all(out, stdout, err, stderr)
            if command.stdin:
                loop.feed(stdin_fd, feed)
            loop.until_gone(boot_timeout_s, timeout_s)
        if self.result.status < 0:
            raise self._failure("the guest ended without reporting an exit status")
        return self.result

    def _mark(self, name: str) -> None:
        if self.result.at(name) is None:
            self.result.marks.append(Mark(name, time.monotonic() - self.started))
            if name != "start":
                self._on_mark(name, self.process.pid)

    def _take_console(self, data: bytes) -> None:
        if not self.console:
            self._mark("firmware")
        # A word may arrive in two reads, so look at what is new plus the end of what was there.
        seen = self.console[-32:] + data
        self.console = (self.console + data)[-CONSOLE_TAIL_BYTES:]
        for word, name in CONSOLE_MARKS:
            if word in seen:
                self._mark(name)

    def _take_line(self, line: str) -> None:
        """Act on one line of the control port; the guest is hostile, so its words are checked."""
        word, *rest = line.split(" ")
        if word == "mark" and rest and rest[0] in ("ports", "command", "exited"):
            self._mark(rest[0])
        elif word in ("exit", "signal") and rest and rest[0].isdecimal():
            self.result.status = int(rest[0][:3]) % 256 + (128 if word == "signal" else 0)
        elif word == "usage" and len(rest) == len(USAGE) and all(w.isdecimal() for w in rest):
            self.result.usage = dict(zip(USAGE, map(int, rest), strict=True))
        elif word == "fail":
            raise self._guest_failure(rest)
        else:
            raise self._failure(f"the guest sent {line[:80]!r}")

    def _guest_failure(self, rest: list[str]) -> PycontainError:
        step = rest[0] if rest else "unknown step"
        number = int(rest[1][:5]) if len(rest) > 1 and rest[1].isdecimal() else 0
        if step == "execve" and number == errno.ENOENT:
            return CommandNotFoundError("run in the guest", self._command, number, call="execve")
        if step == "execve":
            return CommandNotExecutableError(
                "run in the guest", self._command, number, call="execve"
            )
        return KernelError(f"guest init: {step}", "", number)

    def _failure(self, what: str, hint: str = "") -> GuestError:
        booted = self.result.at("init") is not None
        if not hint and self.process.poll() is not None:
            self.status = self.process.returncode
            words = (self.own_output().splitlines() or [""])[-1]
            hint = f"qemu exited with {self.status}" + (f": {words}" if words else "")
        return GuestError(what, self, hint=hint, booted=booted)


class _Loop:
    """The poll loop of one run: reads what the guest sends until QEMU is gone."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.selector = selectors.DefaultSelector()
        self.gone = False
        self.lines = b""

    def __enter__(self) -> Self:
        self.pidfd = os.pidfd_open(self.machine.process.pid)
        self.selector.register(self.pidfd, selectors.EVENT_READ, self._set_gone)
        return self

    def __exit__(self, *_: object) -> None:
        self.selector.close()
        os.close(self.pidfd)

    def _set_gone(self) -> None:
        self.gone = True
        self.machine._mark("gone")

    def watch_all(self, out: socket.socket, stdout: Sink, err: socket.socket, stderr: Sink) -> None:
        console, qmp, control = self.machine._ours[:3]
        self._watch(console, self.machine._take_console)
        self._watch(qmp, lambda _: self.machine._mark("vmm"))
        self._watch(control, self._take_control)
        self._watch(out, stdout)
        self._watch(err, stderr)

    def _watch(self, connection: socket.socket, sink: Sink) -> None:
        connection.setblocking(False)

        def read() -> None:
            data = _receive(connection)
            if data:
                sink(data)
            elif data is not None:
                self.selector.unregister(connection)

        self.selector.register(connection, selectors.EVENT_READ, read)

    def _take_control(self, data: bytes) -> None:
        *lines, self.lines = (self.lines + data).split(b"\n")
        for line in lines:
            self.machine._take_line(line.decode("ascii", "replace"))
        self.lines = self.lines[-256:]

    def feed(self, source: int, target: socket.socket) -> None:
        """Forward `source` to the guest's standard input; regular files cannot be polled."""

        def forward() -> None:
            data = os.read(source, BLOCK_BYTES)
            if data:
                target.sendall(data)
                return
            target.shutdown(socket.SHUT_WR)
            self.selector.unregister(source)

        try:
            self.selector.register(source, selectors.EVENT_READ, forward)
        except PermissionError:
            while data := os.read(source, BLOCK_BYTES):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def until_gone(self, boot_timeout_s: float, timeout_s: float | None) -> None:
        machine = self.machine
        while not self.gone:
            limit, what = self._limit(boot_timeout_s, timeout_s)
            left = None if limit is None else machine.started + limit - time.monotonic()
            if left is not None and left <= 0:
                raise machine._failure(what)
            self._step(left)
        while self.selector.get_map() and self._step(0):
            pass

    def _limit(self, boot_s: float, timeout_s: float | None) -> tuple[float | None, str]:
        exited = self.machine.result.at("exited")
        if exited is not None:
            return exited + END_TIMEOUT_S, "the guest did not power off in time"
        if self.machine.result.at("command") is None:
            return boot_s, f"the guest did not boot within {boot_s:g} s"
        return timeout_s, f"the command did not end within {timeout_s or 0:g} s"

    def _step(self, timeout_s: float | None) -> int:
        ready = self.selector.select(timeout_s)
        useful = 0
        for key, _ in ready:
            if key.fileobj == self.pidfd:
                self.selector.unregister(self.pidfd)
            else:
                useful += 1
            key.data()
        return useful


def _receive(connection: socket.socket) -> bytes | None:
    """Return what arrived, b"" at the end, None when there was nothing after all."""
    try:
        return connection.recv(BLOCK_BYTES)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def run_guest(
    config: MachineConfig,
    command: GuestCommand,
    *,
    root_type: str = "",
    stdout: Sink,
    stderr: Sink,
    stdin_fd: int = -1,
    on_mark: MarkHook | None = None,
    boot_timeout_s: float = BOOT_TIMEOUT_S,
    timeout_s: float | None = None,
) -> GuestRun:
    """Run one command in a guest of its own; a boot that hangs is tried once more and reported."""
    for retries in (0, 1):
        try:
            with Machine(config) as machine:
                result = machine.run(
                    command,
                    root_type=root_type,
                    stdout=stdout,
                    stderr=stderr,
                    stdin_fd=stdin_fd,
                    on_mark=on_mark,
                    boot_timeout_s=boot_timeout_s,
                    timeout_s=timeout_s,
                )
                result.retries = retries
                return result
        except FileNotFoundError as error:
            raise NotFoundError(f"no {config.qemu} here", hint="install qemu-system-x86") from error
        except GuestError as error:
            if retries or error.booted or "did not boot" not in error.message:
                raise
    raise AssertionError("unreachable")
