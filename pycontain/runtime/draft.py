"""A plan being written: the program, what it is written from, and where things are meanwhile.

Owns the small vocabulary the steps share: opening a path inside the rootfs, making a mount point,
talking to the parent. The steps themselves are in `namespaces`, `rootfs`, `mounts`, `devices` and
`process`; their order is `plan`'s.

The child and the parent talk over one socket pair. The child writes one byte, some with descriptors
attached, and waits for one byte where the table says so; end of file in place of an answer means
that the parent gave up or died, and ends the child:

    M  id maps are needed            answer   also before any other op of a new user namespace
    C  copy a directory up           answer   descriptors: destination below, new tmpfs
    H  mounts are done, run hooks    answer
    N  network may be attached       answer
    S  seccomp listener              no       descriptor: the listener
    P  parked before the program     no
    F  the program cannot be run     answer   descriptor: the container's root
"""

from __future__ import annotations

import errno

from pycontain.syscalls import constants as c
from pycontain.syscalls.ops import Data, Program, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process, Spec

MSG_NOSIGNAL = 0x4000
S_IFREG = 0o100000

INSIDE = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
_PATH = c.O_PATH | c.O_CLOEXEC
_SOL_SOCKET = (1).to_bytes(4, "little")
_SCM_RIGHTS = (1).to_bytes(4, "little")


MANY_MOUNTS = 100
"""From here on descriptors are closed one by one: a process may have 1024 (RLIMIT_NOFILE)."""


class Inputs:
    """What a plan is written from besides the Spec: descriptors and facts the parent gathered.

    Descriptors are the parent's; the child has copies under the same numbers. -1 is none.
    """

    __slots__ = (
        "bundle", "cgroup_fds", "cgroup_paths", "console", "exec_enters_time", "hooks",
        "join_first", "join_flags", "join_pidfd", "join_root", "kernel_mounts", "keyring",
        "last_capability", "namespaces", "network", "no_pivot", "nodes", "park_dir", "park_name",
        "plain_newlines", "preserve_fds", "private_parent", "rdt_fds", "root_tree", "rootfs",
        "rootfs_mounts", "rootless", "seccomp", "stdio", "stdio_null", "stdio_owned", "stub",
        "stub_fd", "sync", "trees", "unified", "user_namespace",
    )  # fmt: skip

    def __init__(self, rootfs: str = "", bundle: str = "") -> None:
        self.rootfs = rootfs
        self.bundle = bundle
        self.rootfs_mounts: list[dict[str, object]] = []
        self.stdio = (0, 1, 2)
        self.stdio_owned: tuple[int, ...] = ()  # of 0, 1, 2: those given to the container's user
        self.stdio_null: tuple[int, ...] = ()  # of 0, 1, 2: those that are the host's null device
        self.console = -1
        self.plain_newlines = False
        self.sync = -1
        self.preserve_fds = 0
        self.park_dir = -1
        self.park_name = ""
        self.hooks = False
        self.network = False
        self.no_pivot = False
        self.kernel_mounts: list[str] = []
        self.keyring = True
        self.rootless = False
        self.user_namespace = False  # the child is in another user namespace than the parent
        self.namespaces: dict[str, int] = {}  # type -> descriptor of one to join
        self.cgroup_fds: list[int] = []  # v1: cgroup.procs of each hierarchy
        self.cgroup_paths: dict[str, str] = {}
        self.rdt_fds: list[int] = []  # tasks of the resource control groups
        self.unified = True
        self.root_tree = -1  # the rootfs, opened by the parent for a user namespace
        self.trees: dict[int, int] = {}  # index in mounts -> detached tree made by the parent
        self.nodes: dict[str, int] = {}  # path -> detached device node made by the parent
        self.private_parent = ""  # mount that holds the rootfs and must not stay shared
        self.seccomp = b""
        self.stub = ""
        self.stub_fd = -1  # opened by the parent already
        self.last_capability = 40
        self.exec_enters_time = False  # an exec enters the time namespace unshared before it
        self.join_pidfd = -1  # exec: the init process
        self.join_flags = 0  # exec: CLONE_NEW* of what it does not share with the parent
        self.join_first = 0  # exec: those to be entered before the clone
        self.join_root = -1


class Draft:
    """A program under construction and the registers that later steps need.

    root, proc, sys, dev   directories of the container, once they are there
    dev_fresh              /dev is a tmpfs of our own making: nobody put symbolic links there
    mounts_home            the mount namespace to return to, which is the container's as well
    proc_aside             proc is reached by its register alone; paths below /proc start there
    """

    __slots__ = (
        "_cwd", "_hows", "_thrifty", "dev", "dev_fresh", "inputs", "keep", "label_proc",
        "mounts_home", "oom_fd", "proc", "proc_aside", "proc_flags", "process", "program", "root",
        "spec", "stub", "sys", "sys_flags", "time_fd",
    )  # fmt: skip

    def __init__(self, spec: Spec, process: Process, inputs: Inputs) -> None:
        self.spec = spec
        self.process = process
        self.inputs = inputs
        self.program = Program()
        self.root: Reg | int = c.AT_FDCWD
        self.proc: Reg | None = None
        self.proc_aside = False
        self.proc_flags = 0
        self.sys: Reg | None = None
        self.sys_flags = 0
        self.dev: Reg | None = None
        self.dev_fresh = False
        self.mounts_home: Reg | None = None
        self.keep: list[Reg | int] = []
        self.time_fd: Reg | int = -1
        self.oom_fd: Reg | int = -1
        self.label_proc: Reg | int = -1
        self.stub: Reg | int = -1
        self._cwd: Reg | None = None
        self._thrifty = len(spec.get("mounts") or []) > MANY_MOUNTS
        self._hows: dict[tuple[int, int], Data] = {}

    def how(self, flags: int, resolve: int) -> Data:
        """Return a struct open_how; equal ones share one place."""
        place = self._hows.get((flags, resolve))
        if place is None:
            content = flags.to_bytes(16, "little") + resolve.to_bytes(8, "little")
            place = self._hows[flags, resolve] = self.program.block(content)
        return place

    def open(
        self, path: str, flags: int = _PATH, resolve: int = INSIDE, *, at: Reg | None = None
    ) -> Reg:
        """Append openat2(2) of `path` inside the rootfs (or `at`); return its register.

        The descriptor is not closed before the exec: it is close-on-exec. `release` the register
        when it is not needed any more.
        """
        directory, where = (at, path) if at is not None else self._start(path)
        return self.program.fd(
            "openat2", directory, where, self.how(flags, resolve), 24, target=path
        )

    def _start(self, path: str) -> tuple[Reg | int, str]:
        """Return the directory that the lookup of `path` starts from, and the rest of it."""
        parts = split(path)
        if self.proc_aside and self.proc is not None and parts[:1] == ["proc"]:
            return self.proc, "/".join(parts[1:]) or "."
        return self.root, "/".join(parts) or "."

    def release(self, register: Reg) -> None:
        """Give a register back; what it holds is closed at the exec, or now if there are many."""
        if self._thrifty:
            self.program.close(register)
        else:
            self.program.release(register)

    def chdir(self, directory: Reg, target: str = "") -> None:
        """Append fchdir(2) unless the child is there already."""
        if self._cwd is not directory:
            self.program.call("fchdir", directory, target=target)
            self._cwd = directory

    def forget_cwd(self) -> None:
        """Say that the working directory is no more what `chdir` made it."""
        self._cwd = None

    def mount_point(self, path: str, *, directory: bool = True, resolve: int = INSIDE) -> Reg:
        """Append the calls that open `path` inside the rootfs, made when it is missing.

        Each component is made below a parent that was opened inside the rootfs; a symbolic link
        that leads out leads to the rootfs's own top, a dangling one is an error.
        """
        program = self.program
        register = program.register()
        there = program.label()
        start, where = self._start(path)
        opened = self.how(_PATH, resolve)
        open_it = ("openat2", start, where, opened, 24)
        if start is self.proc:
            # The kernel's names: nobody makes one.
            program.call(*open_it, into=register, target=path)
            return register
        program.call(*open_it, into=register, ok=(errno.ENOENT,), on_success=there, target=path)
        self._make(split(path), register, directory)
        program.call(*open_it, into=register, target=path)
        program.place(there)
        return register

    def _make(self, parts: list[str], scratch: Reg, directory: bool) -> None:
        program = self.program
        parent: Reg | int = self.root
        for n, name in enumerate(parts):
            if n:
                above = "/".join(parts[:n])
                program.call(
                    "openat2", self.root, above, self.how(_PATH, INSIDE), 24,
                    into=scratch, target="/" + above,
                )  # fmt: skip
                parent = scratch
            target = "/" + "/".join(parts[: n + 1])
            if directory or n < len(parts) - 1:
                program.call("mkdirat", parent, name, 0o755, ok=(errno.EEXIST,), target=target)
            else:
                program.call(
                    "mknodat", parent, name, S_IFREG | 0o644, 0, ok=(errno.EEXIST,), target=target
                )
            if n and self._thrifty:
                program.call("close", scratch)

    def tell(self, byte: str, *, answer: bool, target: str) -> None:
        """Append one message to the parent, see the table above."""
        program = self.program
        program.call("write", self.inputs.sync, byte, 1, target=target)
        if answer:
            self.await_parent(target)

    def await_parent(self, target: str) -> None:
        """Append the wait for one byte of the parent."""
        place = self.program.block(bytes(8))
        self.program.call("read", self.inputs.sync, place, 1, minimum=1, target=target)

    def send_fds(
        self, socket: Reg | int, byte: str, *fds: Reg, ok: tuple[int, ...] = (), target: str = ""
    ) -> None:
        """Append sendmsg(2) of `byte` with descriptors attached (SCM_RIGHTS, unix(7))."""
        program = self.program
        text = program.string(byte)
        iovec = program.block(bytes(8) + (text.size - 1).to_bytes(8, "little"))
        program.pointer(iovec, text)
        size = 16 + 4 * len(fds)
        head = size.to_bytes(8, "little") + _SOL_SOCKET + _SCM_RIGHTS
        control = program.block(head + bytes(-(-4 * len(fds) // 8) * 8))
        message = program.block(bytes(56))
        program.pointer(program.field(message, 16, 8), iovec)
        program.data[message.offset + 24] = 1
        program.pointer(program.field(message, 32, 8), control)
        program.data[message.offset + 40] = size
        for n, fd in enumerate(fds):
            program.store(fd, program.field(control, 16 + 4 * n, 4))
        program.call("sendmsg", socket, message, MSG_NOSIGNAL, ok=ok, target=target)


def split(path: str) -> list[str]:
    """Return the components of `path` with `.` and `..` resolved as text, as below a root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def attributes(set_: int, clear: int = 0, propagation: int = 0, userns_fd: int = 0) -> bytes:
    """Return a struct mount_attr."""
    words = (set_, clear, propagation, userns_fd)
    return b"".join(word.to_bytes(8, "little") for word in words)
