"""Why a plan failed, in one line the user can act on.

`explain` turns the executor's report into an error that names step, call, object and errno.
`examine` looks through the container's root at a program that could not be run, while the child
that failed still holds its mounts; it reads a bounded part of regular files, opened inside.
"""

from __future__ import annotations

import errno
import posix

from pycontain.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    KernelError,
    PycontainError,
)
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.oci.runtime import Process
    from pycontain.runtime.elf import Header
    from pycontain.syscalls.executor import OpFailed

_TYPE, _REGULAR, _DIRECTORY = 0o170000, 0o100000, 0o040000
_HEAD_BYTES = 4096
_PROGRAM_STEPS = ("execute", "find program")

HINTS = {
    ("mount rootfs", errno.EINVAL): "dmesg tells more about overlay options",
    ("mount proc", errno.EPERM): "the host's /proc is covered in part; run with a visible one",
    (
        "mount proc",
        errno.ELOOP,
    ): "proc must be mounted on ordinary directory, /proc of the image is a symbolic link",
    (
        "mount sysfs",
        errno.ELOOP,
    ): "sysfs must be mounted on ordinary directory, /sys of the image is a symbolic link",
    ("mount tmpfs", errno.ELOOP): "the mount point is a symbolic link",
    ("make devices", errno.ELOOP): "/dev of the image is a symbolic link",
    (
        "make working directory",
        errno.ELOOP,
    ): "a magic link of /proc is no directory of the container",
    (
        "enter working directory",
        errno.ELOOP,
    ): "a magic link of /proc is no directory of the container",
    ("set user", errno.EINVAL): "the id is not mapped in the user namespace",
    ("set capabilities", errno.EPERM): "the caller lacks a capability that the process shall have",
    ("set scheduler", errno.EPERM): "it takes CAP_SYS_NICE, and SCHED_DEADLINE every CPU: "
    "that process scheduler can't be used together with AllowedCPUs (linux.resources.cpu.cpus)",
    ("set resource limit", errno.EPERM): "raising a hard limit takes CAP_SYS_RESOURCE",
    ("join cgroup", errno.EINVAL): "a process of a real-time policy needs cpu.rt_runtime_us there; "
    "start it under another (chrt --other 0)",
    ("pivot root", errno.EINVAL): "on an initial ramfs use --no-pivot",
}


def explain(failed: OpFailed, findings: Exception | None) -> PycontainError:
    """Return the error for a failed op; `findings` is what `examine` saw."""
    op = failed.op
    if op.step in _PROGRAM_STEPS:
        if isinstance(findings, PycontainError):
            return findings
        return program_error(op.target, failed.number)
    hint = HINTS.get((op.step, failed.number), "")
    if failed.number == errno.EOWNERDEAD:
        hint = "the process was killed at this step; out of memory?"
    place = f" ({op.path})" if op.path else ""
    colon = ":" if op.target else ""
    return KernelError(
        f"{op.step}{place}{colon}", op.target, failed.number, call=op.call, hint=hint
    )


def program_error(path: str, number: int) -> PycontainError:
    """Return the error for a program that could not be run, by the errno alone."""
    text = f'exec: "{path}": {posix.strerror(number).lower()}'
    return _missing(path, text) if number in _ABSENT else _unfit(path, text, number)


_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def examine(root: int, process: Process) -> PycontainError | None:
    """Return the error that says why args[0] of `process` cannot be run inside `root`.

    None when the files look right: the errno is all there is to say then.
    """
    from pycontain.runtime.process import candidates

    name = process["args"][0]
    first: PycontainError | None = None
    if not name:
        return _missing("", 'exec: "": executable file not found in $PATH: the name is empty')
    for path in candidates(process):
        finding = _examine_one(root, _absolute(path, process))
        # A file that is there, broken or not, says more than the places where there is none.
        if not isinstance(finding, CommandNotFoundError) or finding.hint:
            return finding
        first = first or finding
    if "/" in name:
        return first
    return _missing(name, f'exec: "{name}": executable file not found in $PATH')


def _absolute(path: str, process: Process) -> str:
    return path if path.startswith("/") else f"{process.get('cwd') or '/'}/{path}"


def _missing(path: str, message: str, hint: str = "") -> PycontainError:
    error = CommandNotFoundError("execute", path, errno.ENOENT, call="execve")
    PycontainError.__init__(error, message, hint=hint)
    return error


def _unfit(path: str, message: str, number: int, hint: str = "") -> PycontainError:
    error = CommandNotExecutableError("execute", path, number, call="execve")
    PycontainError.__init__(error, message, hint=hint)
    return error


def _open(root: int, path: str, flags: int = c.O_PATH) -> int:
    resolve = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS
    return kernel.openat2(root, path.lstrip("/") or ".", flags | c.O_CLOEXEC, 0, resolve)


def _examine_one(root: int, path: str) -> PycontainError | None:
    try:
        fd = _open(root, path)
    except OSError as error:
        return _not_opened(path, error)
    try:
        status = posix.fstat(fd)
        if status.st_mode & _TYPE == _DIRECTORY:
            return _unfit(
                path, f'exec: "{path}": permission denied: it is a directory', errno.EACCES
            )
        if status.st_mode & _TYPE != _REGULAR:
            return _unfit(
                path, f'exec: "{path}": permission denied: it is not a regular file', errno.EACCES
            )
        if posix.fstatvfs(fd).f_flag & posix.ST_NOEXEC:
            return _unfit(
                path, f'exec: "{path}": permission denied: its mount is noexec', errno.EACCES,
                "mount it with exec, or run it through its interpreter",
            )  # fmt: skip
        if not status.st_mode & 0o111:
            return _unfit(
                path, f'exec: "{path}": permission denied: it has no execute permission',
                errno.EACCES, f"chmod +x {path}",
            )  # fmt: skip
    finally:
        posix.close(fd)
    return _examine_content(root, path)


def _not_opened(path: str, error: OSError) -> PycontainError:
    if error.errno in _ABSENT:
        return _missing(path, f'exec: "{path}": no such file or directory')
    if error.errno == errno.ELOOP:
        return _unfit(path, f'exec: "{path}": too many symbolic links', errno.ELOOP)
    return program_error(path, error.errno or errno.EIO)


def _head(root: int, path: str) -> bytes:
    fd = _open(root, path, c.O_NONBLOCK | c.O_NOCTTY)
    try:
        if posix.fstat(fd).st_mode & _TYPE != _REGULAR:
            return b""
        return posix.read(fd, _HEAD_BYTES)
    finally:
        posix.close(fd)


def _examine_content(root: int, path: str) -> PycontainError | None:
    head = _head(root, path)
    if head[:2] == b"#!":
        return _examine_script(root, path, head)
    if head[:4] == b"\x7fELF":
        from pycontain.runtime import elf

        return _examine_elf(root, path, elf.Header(head))
    if not head:
        return _unfit(path, f'exec: "{path}": exec format error: it is empty', errno.ENOEXEC)
    return _unfit(
        path, f'exec: "{path}": exec format error: neither an ELF program nor a script',
        errno.ENOEXEC, "a script starts with a line such as #!/bin/sh",
    )  # fmt: skip


def _examine_script(root: int, path: str, head: bytes) -> PycontainError | None:
    line = head[2:].split(b"\n", 1)[0]
    words = line.split(None, 1)
    interpreter = words[0].decode("utf-8", "backslashreplace") if words else ""
    if line.endswith(b"\r"):
        return _missing(
            path,
            f"exec {path}: no such file or directory: its first line ends in CR LF",
            f"convert it to Unix line ends: sed -i 's/\\r$//' {path}",
        )
    if not interpreter:
        return _unfit(
            path,
            f'exec: "{path}": exec format error: its first line names no interpreter',
            errno.ENOEXEC,
        )
    try:
        posix.close(_open(root, interpreter))
    except OSError:
        return _missing(
            path,
            f"exec {path}: no such file or directory: its interpreter {interpreter!r} is missing",
            "install it in the image, or correct the first line of the script",
        )
    return None


def _examine_elf(root: int, path: str, header: Header) -> PycontainError | None:
    machine = posix.uname().machine
    if not header.runs_on(machine):
        return _unfit(
            path, f'exec: "{path}": exec format error: it is built for {header.machine}, '
            f"this machine is {machine}",
            errno.ENOEXEC, "use an image for this platform, or register qemu-user in binfmt_misc",
        )  # fmt: skip
    if header.interpreter:
        try:
            posix.close(_open(root, header.interpreter))
        except OSError:
            return _missing(
                path,
                f"exec {path}: no such file or directory: its loader "
                f"{header.interpreter!r} is missing",
                "the image lacks the C library it was linked with; link it statically, or add it",
            )
    return None
