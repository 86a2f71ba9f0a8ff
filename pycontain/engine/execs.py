"""A further process in a running container: `exec`.

Its environment, user and capabilities come from the container's own Spec; user names are looked up
in the container's root, reached through /proc/PID/root with openat2(2) so that no link leads out.
"""

from __future__ import annotations

import posix

from pycontain.engine import users
from pycontain.engine.engine import set_console_size
from pycontain.errors import InvalidError, KernelError, quote
from pycontain.runtime.foreground import Foreground, console_pair, receive_console
from pycontain.runtime.launch import LaunchOptions
from pycontain.spec.files import clean_path
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from pycontain.engine.engine import Engine
    from pycontain.engine.record import Record
    from pycontain.oci.runtime import Process
    from pycontain.runtime.container import Container

INSIDE = c.RESOLVE_IN_ROOT | c.RESOLVE_NO_MAGICLINKS


def run(engine: Engine, word: str, command: Sequence[str], wanted: Mapping[str, Any]) -> int:
    """Run a command in a running container; return its exit status (0 at once when detached).

    `wanted` are the options of `exec` by dest: env, user, workdir, tty, interactive, detach,
    privileged.
    """
    record, container = engine.running(word)
    process = build(record, container, command, wanted)
    detached = bool(wanted.get("detach"))
    with Foreground() as foreground:
        pidfd, console = _launch(record, container, process, wanted, detached=detached)
        if detached:
            return 0
        return foreground.attend(pidfd, console, typing=bool(wanted.get("interactive")))


def build(
    record: Record, container: Container, command: Sequence[str], wanted: Mapping[str, Any]
) -> Process:
    """Return the process object for a command."""
    process: Process = {**container.config()["process"]}
    process["args"] = list(command)
    process["terminal"] = bool(wanted.get("tty"))
    process.pop("consoleSize", None)
    if wanted.get("tty"):
        set_console_size(process)
    if wanted.get("workdir"):
        path = str(wanted["workdir"])
        if not path.startswith("/"):
            raise InvalidError(f"working directory {quote(path)}: expected an absolute path")
        process["cwd"] = clean_path(path)
    if wanted.get("user"):
        _become(process, container, wanted["user"], record.capabilities)
    process["env"] = _environment(process, wanted)
    if wanted.get("privileged"):
        from pycontain.engine.draft import held_capabilities

        every = held_capabilities()
        process["capabilities"] = {"bounding": every, "permitted": every, "effective": every,
                                   "inheritable": [], "ambient": []}  # fmt: skip
    return process


def _environment(process: Process, wanted: Mapping[str, Any]) -> list[str]:
    found = dict(item.split("=", 1) for item in process.get("env", []))
    if wanted.get("tty"):
        found.setdefault("TERM", "xterm")
    for item in wanted.get("env", ()):
        name, equals, value = item.partition("=")
        key = name.encode("utf-8", "surrogateescape")
        if equals:
            found[name] = value
        elif key in posix.environ:
            found[name] = posix.environ[key].decode("utf-8", "surrogateescape")
        else:
            found.pop(name, None)
    return [f"{name}={value}" for name, value in found.items()]


def _become(
    process: Process, container: Container, chosen: tuple[str, str], of_root: list[str]
) -> None:
    """Change the user; root gets the capabilities `of_root`, another user none."""
    root = posix.open(
        f"/proc/{container.pid}/root", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    )
    try:
        who = users.resolve(lambda path, limit: _read(root, path, limit), chosen, "", ())
    finally:
        posix.close(root)
    user = process["user"] = {**process["user"], "uid": who.uid, "gid": who.gid}
    user["additionalGids"] = who.groups
    process["env"] = [item for item in process["env"] if not item.startswith("HOME=")]
    process["env"].append("HOME=" + who.home)
    held = of_root if who.uid == 0 else []
    # Without no_new_privs a setuid program may still need what the bounding set holds.
    bounding = held if process.get("noNewPrivileges") else of_root
    process["capabilities"] = {"bounding": bounding, "permitted": held, "effective": held,
                               "inheritable": [], "ambient": []}  # fmt: skip


def _read(root: int, path: str, limit: int) -> bytes | None:
    """Return a regular file of the container, None when there is none; never waits on a fifo."""
    flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY
    try:
        fd = kernel.openat2(root, path, flags, 0, INSIDE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KernelError("read in container", path, error, call="openat2") from None
    try:
        if posix.fstat(fd).st_mode & 0o170000 != 0o100000:
            raise InvalidError(f"{path} in the container is not a regular file")
        content = b""
        while len(content) < limit and (more := posix.read(fd, limit - len(content))):
            content += more
        return content
    finally:
        posix.close(fd)


def _launch(
    record: Record,
    container: Container,
    process: Process,
    wanted: Mapping[str, Any],
    *,
    detached: bool,
) -> tuple[int, int]:
    """Start the process; return (pidfd, master of its terminal or -1)."""
    how = LaunchOptions()
    near = far = null = -1
    if wanted.get("tty"):
        near, far = console_pair()
        how.console = far
    elif detached or not wanted.get("interactive"):
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        how.stdio = (null, null, null) if detached else (null, 1, 2)
    try:
        init = container.exec(process, how, paused_hint=f"pycontain unpause {record.name}")
    finally:
        for fd in (far, null):
            if fd >= 0:
                posix.close(fd)
    return init.pidfd, receive_console(near) if near >= 0 else -1
