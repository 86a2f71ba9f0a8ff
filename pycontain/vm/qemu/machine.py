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

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from pycontain.errors import NotFoundError, PycontainError, quote
from pycontain.vm.qemu.command import Channels, MachineConfig, qemu_argv
from pycontain.vm.qemu.loop import Loop, Sink
from pycontain.vm.qemu.session import CONSOLE_TAIL_BYTES, GuestRun, Session
from pycontain.vm.qemu.toolchain import launcher

if TYPE_CHECKING:
    from types import TracebackType

    from pycontain.vm.qemu.guest import GuestCommand

__all__ = ["GuestError", "GuestRun", "Machine", "MarkHook", "run_guest"]

BOOT_TIMEOUT_S = 60.0
END_TIMEOUT_S = 15.0

MarkHook = Callable[[str, int], object]


class GuestError(PycontainError):
    """The guest did not start, or gave no answer; `argv`, `status`, `output` tell more."""

    def __init__(self, message: str, machine: Machine, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.argv = machine.argv
        self.status = machine.status
        self.output = machine.own_output()
        self.console = machine.session.console.decode("utf-8", "replace")
        self.booted = machine.session.result.at("init") is not None

    def fields(self) -> dict[str, object]:
        """Return everything known about the failure."""
        more = {"argv": self.argv, "status": self.status, "output": self.output}
        return {**super().fields(), **more, "console": self.console}


class Machine:
    """One QEMU process. Use as `with Machine(config) as machine: machine.run(command)`."""

    def __init__(self, config: MachineConfig) -> None:
        self.config = config
        self.argv: list[str] = []
        self.status: int | None = None
        self.session = Session()
        self._undo = ExitStack()

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
        self.session = Session()
        self.session.mark("start")
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
        session = self.session
        session.command = command.argv[0]
        if on_mark is not None:
            session.on_mark = lambda name: on_mark(name, self.pid)
        console, qmp, control, out, err, feed = self._ours
        with Loop(self.pid, lambda: session.mark("gone")) as loop:
            loop.watch(console, session.take_console)
            loop.watch(qmp, lambda _: session.mark("vmm"))
            loop.watch(control, session.take_control)
            loop.watch(out, stdout)
            loop.watch(err, stderr)
            loop.send(control, command.message(root_type))
            if command.stdin:
                loop.feed(stdin_fd, feed)
            self._run(loop, boot_timeout_s, timeout_s)
        if session.result.status < 0:
            raise self._failure("the guest ended without reporting an exit status")
        return session.result

    def _run(self, loop: Loop, boot_timeout_s: float, timeout_s: float | None) -> None:
        while not loop.gone:
            limit, what = self._limit(boot_timeout_s, timeout_s)
            left = None if limit is None else self.session.started + limit - time.monotonic()
            if left is not None and left <= 0:
                raise self._failure(what)
            loop.step(left)
        while loop.step(0):
            pass

    def _limit(self, boot_s: float, timeout_s: float | None) -> tuple[float | None, str]:
        """Return until when, since the start, the present stage may last, and what it is."""
        command, exited = (self.session.result.at(name) for name in ("command", "exited"))
        if exited is not None:
            return exited + END_TIMEOUT_S, "the guest did not power off in time"
        if command is None:
            return boot_s, f"the guest did not boot within {boot_s:g} s"
        limit = None if timeout_s is None else command + timeout_s
        return limit, f"the command did not end within {timeout_s or 0:g} s"

    def _failure(self, what: str) -> GuestError:
        hint = ""
        if self.process.poll() is not None:
            self.status = self.process.returncode
            words = (self.own_output().splitlines() or [""])[-1] or self._last_words()
            hint = f"qemu exited with {self.status}" + (f": {words}" if words else "")
        return GuestError(what, self, hint=hint)

    def _last_words(self) -> str:
        """Return why the guest's kernel gave up, or the last line of its console."""
        text = self.session.console.decode("utf-8", "replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        panics = [line for line in lines if "Kernel panic" in line]
        return quote((panics or lines or [""])[-1])[:160]


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
    if shutil.which(config.qemu) is None:
        raise NotFoundError(f"no {config.qemu} here", hint="install qemu-system-x86")
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
        except GuestError as error:
            if retries or error.booted or "did not boot" not in error.message:
                raise
    raise AssertionError("unreachable")
