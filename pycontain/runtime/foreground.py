"""Staying with a process in the foreground: forward signals, pump its terminal, return its status.

Owns what `run` and `exec` do between launch and exit. Signals that arrive before the process exists
wait in a pipe, so none is lost; `Foreground` is made before the launch for that reason.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pycontain.errors import KernelError, PycontainError
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.runtime.stdpipes import StandardPipes

_NOT_FORWARDED = frozenset(
    (
        _signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG,
        _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGXFSZ,
        _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGTRAP, _signal.SIGABRT,
    )
)  # fmt: skip
_FORWARDED = [number for number in range(1, 32) if number not in _NOT_FORWARDED]
_ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
_CHUNK = 4096
"""A pipe that poll(2) calls writable takes so much without waiting: PIPE_BUF (pipe(7))."""
_END_OF_FILE = b"\4"


class EndedError(PycontainError):
    """A signal ended the attending, and is not the attended process's to have."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"ended by signal {number}, and the container with it",
            hint="without --sig-proxy=false signals go to the container",
        )
        self.exit_status = 128 + number


def _noted(number: int, frame: object) -> None:
    """Handle a signal by nothing: its number is in the wake-up pipe already."""


class Foreground:
    """A context in which signals to this process are kept for the one it attends.

    Without `sig_proxy` that process gets none of them: those that ask for an end raise EndedError.
    """

    __slots__ = ("_before", "_read", "_sig_proxy", "_write")

    def __init__(self, *, sig_proxy: bool = True) -> None:
        self._sig_proxy = sig_proxy

    def __enter__(self) -> Foreground:
        self._read, self._write = posix.pipe2(posix.O_NONBLOCK | posix.O_CLOEXEC)
        self._before = {number: _signal.signal(number, _noted) for number in _FORWARDED}
        _signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        _signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            _signal.signal(number, handler)
        posix.close(self._read)
        posix.close(self._write)

    def attend(
        self,
        pidfd: int,
        console: int = -1,
        *,
        typing: bool = True,
        plain_newlines: bool = False,
        pipes: StandardPipes | None = None,
    ) -> int:
        """Wait for the child `pidfd`; return its exit status, 128 + n for signal n.

        `console`, the master of its terminal, is pumped to and from fds 1 and 0 and closed; without
        `typing` nothing is read. `plain_newlines` is what the launch was told. A process without a
        terminal of its own may have `pipes` to those of the caller.
        """
        if pipes is not None:
            return self._pump(pidfd, pipes)
        if console < 0:
            return self._wait(pidfd)
        with _Terminal(console, typing=typing, plain_newlines=plain_newlines) as terminal:
            return self._pump(pidfd, terminal)

    def _wait(self, pidfd: int) -> int:
        while True:
            for fd in kernel.poll((pidfd, self._read)):
                if fd == pidfd:
                    return reap(pidfd)
                self._forward(pidfd)

    def _forward(self, pidfd: int) -> bool:
        """Send on what arrived; return whether the window's size changed."""
        resized = False
        for number in posix.read(self._read, 256):
            if number == _signal.SIGWINCH:
                resized = True
                continue
            if not self._sig_proxy:
                if number in _ENDING:
                    raise EndedError(number)
                continue
            try:
                _signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                continue
        return resized

    def _pump(self, pidfd: int, between: _Terminal | StandardPipes) -> int:
        while True:
            reading, writing = between.wanted()
            for fd in kernel.poll((self._read, pidfd, *reading), writing=writing):
                if fd == self._read:
                    if self._forward(pidfd):
                        between.resize()
                elif fd == pidfd:
                    self._drain(between)
                    return reap(pidfd)
                else:
                    between.move(fd)

    def _drain(self, between: _Terminal | StandardPipes) -> None:
        """Print what the process left behind; a signal ends the wait for a reader that stalls."""
        while waiting := between.left():
            ready = kernel.poll((self._read,), writing=waiting)
            for fd in ready:
                if fd != self._read:
                    between.move(fd)
            if ready == [self._read] and any(n in _ENDING for n in posix.read(self._read, 256)):
                return


class _Terminal:
    """The user's terminal, raw while he is `typing`, beside the master of the container's.

    Neither direction waits: what one side does not take yet is kept here, at most one chunk, and
    the other side is not read until it is gone.
    """

    __slots__ = (
        "_before", "_line_ended", "_open", "_plain_newlines", "_printed", "_typed", "master",
        "typing",
    )  # fmt: skip

    def __init__(self, master: int, *, typing: bool, plain_newlines: bool) -> None:
        self.master = master
        self._plain_newlines = plain_newlines
        self.typing = typing
        self._typed = self._printed = b""
        self._line_ended = self._open = True
        posix.set_blocking(master, False)

    def __enter__(self) -> _Terminal:
        import termios

        self._before = None
        if not self.typing:
            self.resize()
            return self
        try:
            before = termios.tcgetattr(0)
        except termios.error:
            return self
        self._before = before
        raw = list(before)
        # cfmakeraw(3)
        raw[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
            | termios.IGNCR | termios.ICRNL | termios.IXON
        )  # fmt: skip
        if not self._plain_newlines:
            raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        termios.tcsetattr(0, termios.TCSANOW, raw)
        self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        posix.close(self.master)
        if self._before is not None:
            import termios

            termios.tcsetattr(0, termios.TCSADRAIN, self._before)

    def resize(self) -> None:
        """Give the container's terminal the size of the user's."""
        import fcntl
        import termios

        try:
            size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        except OSError:
            # One of the two is no terminal (any more): there is no size to give.
            return

    def wanted(self) -> tuple[list[int], list[int]]:
        """Return the descriptors to be read next and those to be written."""
        reading, writing = [], []
        if self._printed:
            writing.append(1)
        elif self._open:
            reading.append(self.master)
        if self._typed:
            writing.append(self.master)
        elif self.typing and self._open:
            reading.append(0)
        return reading, writing

    def move(self, fd: int) -> None:
        """Take from `fd` what is there, or give it what waits for it."""
        if fd == self.master:
            self.feed()
            self.listen()
        elif fd == 0:
            self.read_typed()
        else:
            self.print()

    def left(self) -> list[int]:
        """Take what the process left behind; return the descriptor it is for."""
        return [1] if self.listen() else []

    def read_typed(self) -> None:
        """Take what the user typed."""
        self._typed = posix.read(0, _CHUNK)
        if self._typed:
            self._line_ended = self._typed.endswith(b"\n")
        else:
            self.typing = False
            # Behind an unfinished line the first only ends that line (termios(3), VEOF).
            self._typed = _END_OF_FILE if self._line_ended else _END_OF_FILE * 2

    def feed(self) -> None:
        """Give the container what was typed, as much as its terminal takes."""
        if self._typed:
            try:
                self._typed = self._typed[posix.write(self.master, self._typed) :]
            except BlockingIOError:
                return
            except OSError:
                # EIO: nobody holds the other side to read it.
                self._typed = b""

    def listen(self) -> bool:
        """Take what the container printed; return whether there is something to print."""
        if not self._printed and self._open:
            try:
                self._printed = posix.read(self.master, _CHUNK)
                self._open = bool(self._printed)
            except BlockingIOError:
                return False
            except OSError:
                # EIO is how a terminal says that nobody holds its other side.
                self._open = False
            if not self._open:
                self._typed = b""
        return bool(self._printed)

    def print(self) -> None:
        """Show what the container printed, as much as our side takes."""
        self._printed = self._printed[posix.write(1, self._printed) :]


def reap(pidfd: int) -> int:
    """Reap the child `pidfd`; return its exit status, 128 + n for signal n."""
    try:
        result = posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED)
    except OSError as error:
        raise KernelError("wait for container process", "", error, call="waitid") from None
    if result is None:
        return 255
    if result.si_code == posix.CLD_EXITED:
        return result.si_status
    return 128 + result.si_status


def console_pair() -> tuple[int, int]:
    """Return two connected sockets: launch sends the terminal's master into the second."""
    return kernel.socketpair(c.AF_UNIX, c.SOCK_STREAM | c.SOCK_CLOEXEC)


def receive_console(near: int) -> int:
    """Return the terminal's master that launch sent (SCM_RIGHTS); closes `near`."""
    import _socket

    socket = _socket.socket(fileno=near)
    try:
        _, ancillary, _, _ = socket.recvmsg(256, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                return int.from_bytes(data[:4], "little")
    finally:
        socket.close()
    raise KernelError("receive the container's terminal", "console socket", 0)
