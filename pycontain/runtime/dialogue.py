"""The parent's half of the conversation drawn in `draft`."""

from __future__ import annotations

import posix

from pycontain.errors import KernelError, PycontainError
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process, Spec
    from pycontain.runtime.gather import Gathered
    from pycontain.runtime.launch import LaunchOptions

_WITH_DESCRIPTORS = (b"C", b"F", b"S")
_ROOM = 64
"""Ancillary data of up to four descriptors."""


class Dialogue:
    """Answers one child until it runs its program, parks or dies.

    parked     the child waits in its exec fifo
    findings   why the program could not be run, from a look into the container's root
    error      what this side found wrong; the child dies of the missing answer
    """

    __slots__ = ("_held", "error", "findings", "options", "parked", "process", "spec")

    def __init__(self, spec: Spec, options: LaunchOptions, held: Gathered) -> None:
        self.spec = spec
        self.options = options
        self.process: Process = spec.get("process") or {}
        self._held = held
        self.parked = False
        self.findings: Exception | None = None
        self.error: Exception | None = None

    def serve(self, pid: int, pidfd: int) -> None:
        """Answer until there is nothing more to come. Whatever a hook raises is raised."""
        # The child has its own copy: with ours gone, its end is seen as end of file.
        self._held.close_far()
        self._begin(pid)
        while True:
            byte, fds = self._receive()
            try:
                if not self._answer(byte, fds, pid):
                    return
            finally:
                for fd in fds:
                    posix.close(fd)

    def _begin(self, pid: int) -> None:
        spaces = self.spec.get("linux", {}).get("namespaces") or []
        if self.process is not self.spec.get("process", self.process):
            return
        if any(n["type"] == "user" and not n.get("path") for n in spaces):
            from pycontain.runtime import idmap

            idmap.write(pid, self.spec.get("linux", {}))
            self._tell(b"M")

    def _receive(self) -> tuple[bytes, list[int]]:
        byte = self._peek()
        if byte not in _WITH_DESCRIPTORS:
            # No module for sockets, which takes half a millisecond to load, for a plain byte.
            return posix.read(self._held.near, 1) if byte else b"", []
        import _socket

        near = _socket.socket(fileno=self._held.near)
        try:
            byte, ancillary, _, _ = near.recvmsg(1, _ROOM, _socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return b"", []
        finally:
            near.detach()
        fds: list[int] = []
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += [
                    int.from_bytes(data[n : n + 4], "little") for n in range(0, len(data) - 3, 4)
                ]
        return byte, fds

    def _peek(self) -> bytes:
        """Wait for a message; b"" is the end of file, which is how most starts go on."""
        byte = bytearray(1)
        while True:
            try:
                size = kernel.syscall("recvfrom", self._held.near, byte, 1, c.MSG_PEEK, None, None)
                return bytes(byte[:size])
            except InterruptedError:
                continue
            except ConnectionResetError:
                return b""

    def _answer(self, byte: bytes, fds: list[int], pid: int) -> bool:
        """Do what one message asks for; return whether another may follow."""
        if byte == b"H":
            self._run_hooks(pid)
        elif byte == b"N":
            self._attach_network(pid)
        elif byte == b"C":
            self._copy_up(fds)
        elif byte == b"F":
            self._look(fds)
        elif byte == b"S":
            self._pass_listener(fds, pid)
            return True
        else:
            self.parked = byte == b"P"
            return False
        self._tell(b"A")
        return True

    def _tell(self, byte: bytes) -> None:
        try:
            posix.write(self._held.near, byte)
        except BrokenPipeError:
            # The child failed meanwhile, and left word of it where the caller looks.
            return

    def _run_hooks(self, pid: int) -> None:
        if self.options.hooks is not None:
            for stage in ("prestart", "createRuntime", "createContainer"):
                self.options.hooks(stage, pid)

    def _attach_network(self, pid: int) -> None:
        devices = self.spec.get("linux", {}).get("netDevices")
        if devices:
            from pycontain.runtime import netdevices

            netdevices.move(devices, pid)
        if self.options.network is not None:
            self.options.network(pid)

    def _copy_up(self, fds: list[int]) -> None:
        from pycontain.runtime import copyup

        try:
            copyup.copy(fds[0], fds[1])
        except OSError as error:
            raise KernelError("copy a directory up into its tmpfs", "", error) from None

    def _look(self, fds: list[int]) -> None:
        from pycontain.runtime import failure

        try:
            self.findings = failure.examine(fds[0], self.process) if fds else None
        except OSError:
            # A guess at the cause is missing then; the error itself is reported all the same.
            self.findings = None

    def _pass_listener(self, fds: list[int], pid: int) -> None:
        from pycontain.runtime import listener

        try:
            listener.hand_over(fds[0], self.spec, self.options, pid)
        except (OSError, PycontainError) as error:
            raise KernelError(
                "failed to connect with seccomp agent",
                self.spec["linux"]["seccomp"].get("listenerPath", ""),
                error if isinstance(error, OSError) else 0,
            ) from None
