"""Staying with a process in the foreground: forward signals, pump its terminal, return its status.

Owns what `run` and `exec` do between launch and exit. Signals that arrive before the process exists
wait in a pipe, so none is lost; `Foreground` is made before the launch for that reason.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pycontain.errors import KernelError
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

_NOT_FORWARDED = frozenset(
    (
        _signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGURG,
        _signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGXFSZ,
        _signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU, _signal.SIGTRAP, _signal.SIGABRT,
    )
)  # fmt: skip
_FORWARDED = [number for number in range(1, 32) if number not in _NOT_FORWARDED]
_CHUNK = 65536


def _noted(number: int, frame: object) -> None:
    """Handle a signal by nothing: its number is in the wake-up pipe already."""


class Foreground:
    """A context in which signals to this process are kept for the one it attends."""

    __slots__ = ("_before", "_read", "_write")

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

    def attend(self, pidfd: int, console: int = -1, *, typing: bool = True) -> int:
        """Wait for the child `pidfd`; return its exit status, 128 + n for signal n.

        `console`, the master of its terminal, is pumped to and from fds 1 and 0 and closed; without
        `typing` nothing is read.
        """
        if console < 0:
            return self._wait(pidfd)
        with _Terminal(console, typing=typing) as terminal:
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
            try:
                _signal.pidfd_send_signal(pidfd, number)
            except ProcessLookupError:
                continue
        return resized

    def _pump(self, pidfd: int, terminal: _Terminal) -> int:
        watched = [self._read, pidfd, terminal.master]
        if terminal.typing:
            watched.append(0)
        while True:
            for fd in kernel.poll(watched):
                if fd == self._read:
                    if self._forward(pidfd):
                        terminal.resize()
                elif fd == 0:
                    if not terminal.copy_in():
                        watched.remove(0)
                elif fd == terminal.master:
                    if not terminal.copy_out():
                        watched.remove(fd)
                else:
                    while terminal.copy_out(waiting=False):
                        pass
                    return reap(pidfd)


class _Terminal:
    """The user's terminal, raw while he is `typing`, beside the master of the container's."""

    __slots__ = ("_before", "master", "typing")

    def __init__(self, master: int, *, typing: bool) -> None:
        self.master = master
        self.typing = typing

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

    def copy_in(self) -> bool:
        """Copy what the user typed; False at the end of input."""
        data = posix.read(0, _CHUNK)
        if not data:
            posix.write(self.master, b"\4")
            return False
        _write_all(self.master, data)
        return True

    def copy_out(self, *, waiting: bool = True) -> bool:
        """Copy what the container printed; False when there is no more."""
        if not waiting and not _readable(self.master):
            return False
        try:
            data = posix.read(self.master, _CHUNK)
        except OSError:
            # EIO is how a terminal says that nobody holds its other side.
            return False
        _write_all(1, data)
        return bool(data)


def _readable(fd: int) -> bool:
    return bool(kernel.poll((fd,), 0))


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


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
