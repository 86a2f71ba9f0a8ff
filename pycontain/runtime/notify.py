"""The notify socket of a container: its program says READY=1, the service manager above hears it.

    service manager  <── $NOTIFY_SOCKET of this process ──  relay
                                                              │  RUN_ROOT/ID/notify/notify.sock
    program          ── NOTIFY_SOCKET=/run/notify/notify.sock ┘

As runc has it: `create` makes the directory, which is bound read-only into the container; `start`
and `run` bind the socket in it and relay the line READY=…, once, with the main process's pid behind
it. sd_notify(3), sd_pid_notify_barrier(3).
"""

from __future__ import annotations

import _socket
import posix

from pycontain.errors import KernelError
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Spec

DIRECTORY = "/notify"
INSIDE = "/run/notify"
SOCKET = "/notify.sock"
BARRIER_MS = 30000
_LIMIT = 4096
_DATAGRAM = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC


def prepare(home: str, spec: Spec) -> None:
    """Make the directory of the socket below `home` and let the container see it."""
    directory = home + DIRECTORY
    try:
        posix.mkdir(directory, 0o755)
        # Past the caller's umask: the container's user has to get through.
        posix.chmod(directory, 0o755)
    except OSError as error:
        raise KernelError("make notify directory", directory, error, call="mkdir") from None
    options = ["bind", "nosuid", "noexec", "nodev", "ro"]
    spec.setdefault("mounts", []).append(
        {"destination": INSIDE, "type": "bind", "source": directory, "options": options}
    )
    process = spec["process"]
    kept = [word for word in process.get("env", []) if not word.startswith("NOTIFY_SOCKET=")]
    process["env"] = [*kept, f"NOTIFY_SOCKET={INSIDE}{SOCKET}"]


class Relay:
    """The bound socket of one container; `host` is the service manager's, @NAME an abstract one."""

    __slots__ = ("_host", "_socket")

    def __init__(self, host: bytes) -> None:
        self._host = b"\0" + host[1:] if host.startswith(b"@") else host
        self._socket = _socket.socket(_socket.AF_UNIX, _DATAGRAM)

    def prepare(self, home: str, spec: Spec) -> None:
        """Do what `prepare` does, and bind the socket at once."""
        prepare(home, spec)
        self.bind(home)

    def bind(self, home: str) -> None:
        """Bind the socket in the directory that `prepare` made."""
        directory = posix.open(home + DIRECTORY, posix.O_PATH | posix.O_CLOEXEC)
        try:
            # The path itself may be longer than a socket's address.
            place = f"/proc/self/fd/{directory}{SOCKET}"
            self._socket.bind(place)
            posix.chmod(place, 0o777)
        except OSError as error:
            path = home + DIRECTORY + SOCKET
            raise KernelError("bind notify socket", path, error, call="bind") from None
        finally:
            posix.close(directory)

    def run(self, pid: int, main_pid: int) -> None:
        """Wait until the program is ready, or the process `pid` has ended; tell the manager.

        Raises OSError.
        """
        try:
            pidfd = posix.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            ready = self._ready(pidfd)
        finally:
            posix.close(pidfd)
        if ready:
            self._tell(ready, main_pid)

    def _ready(self, pidfd: int) -> bytes:
        fd = self._socket.fileno()
        while True:
            # What was said before an end counts.
            if fd not in kernel.poll((fd, pidfd)):
                return b""
            for line in self._socket.recv(_LIMIT).split(b"\n"):
                if line.startswith(b"READY="):
                    return line

    def _tell(self, ready: bytes, main_pid: int) -> None:
        manager = _socket.socket(_socket.AF_UNIX, _DATAGRAM)
        near, far = posix.pipe2(posix.O_CLOEXEC)
        try:
            try:
                manager.connect(self._host)
                manager.send(ready + b"\n")
                manager.send(b"MAINPID=%d\n" % main_pid)
                rights = far.to_bytes(4, "little")
                barrier = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
                manager.sendmsg([b"BARRIER=1"], barrier)
            finally:
                posix.close(far)
                manager.close()
            # It closes its copy when it has read all this: before, we must not be gone.
            kernel.poll((near,), BARRIER_MS)
        finally:
            posix.close(near)
