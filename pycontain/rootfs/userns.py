"""Work in a user namespace, for an ordinary user's files that belong to subordinate ids.

Owns which ids are mapped and how a function is run there. A container's own user namespace takes
the same maps from `id_maps`. Sources: user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pycontain import errors
from pycontain.errors import KernelError, PycontainError, UnsupportedError
from pycontain.oci import codec
from pycontain.syscalls import kernel

if TYPE_CHECKING:
    from collections.abc import Callable

_NEWUSER = 0x1000_0000
_RESULT_LIMIT = 64 << 20
IdMap = tuple[int, int, int]
"""First id inside, first id outside, how many: a line of /proc/PID/uid_map."""


@dataclass(frozen=True, kw_only=True)
class Maps:
    """What a user namespace of this user maps; `helpers` tells that newuidmap has to write it."""

    uids: list[IdMap]
    gids: list[IdMap]
    helpers: bool

    @property
    def count(self) -> int:
        """How many user ids there are inside, from 0 up."""
        return sum(count for _, _, count in self.uids)


def id_maps() -> Maps:
    """Return root inside for this user, and subordinate ids after it where the host grants some."""
    uid, gid = os.geteuid(), os.getegid()
    uids, gids = _subordinate("/etc/subuid", uid), _subordinate("/etc/subgid", uid)
    if uids and gids and shutil.which("newuidmap") and shutil.which("newgidmap"):
        return Maps(uids=[(0, uid, 1), *uids], gids=[(0, gid, 1), *gids], helpers=True)
    return Maps(uids=[(0, uid, 1)], gids=[(0, gid, 1)], helpers=False)


def _subordinate(path: str, uid: int) -> list[IdMap]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line.strip().split(":") for line in file]
    except OSError:
        return []
    names = {str(uid), _user_name(uid)}
    found: list[IdMap] = []
    inside = 1
    for fields in lines:
        if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
            count = int(fields[2])
            found.append((inside, int(fields[1]), count))
            inside += count
    return found


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def run(function: Callable[..., object], *arguments: object) -> object:
    """Call `function(*arguments)` as root of a new user namespace; return its result.

    It runs in a forked child, so only its result comes back, which must be plain JSON data. A
    PycontainError is raised here again. Raises UnsupportedError where user namespaces are
    forbidden.
    """
    ready, ready_child = os.pipe()
    go_child, go = os.pipe()
    result, result_child = os.pipe()
    pid = os.fork()
    if pid == 0:
        for fd in (ready, go, result):
            os.close(fd)
        _child(ready_child, go_child, result_child, function, arguments)
    for fd in (ready_child, go_child, result_child):
        os.close(fd)
    try:
        refused = _let_run(pid, ready, go)
        content = _read_all(result)
    finally:
        for fd in (ready, result):
            os.close(fd)
        _, status = os.waitpid(pid, 0)
    if refused:
        raise refused
    return _outcome(content, status)


def _let_run(pid: int, ready: int, go: int) -> PycontainError | None:
    """Write the maps once the child has its namespace; return why it cannot run."""
    try:
        answer = os.read(ready, 16)
        if answer != b"ok":
            hint = "see sysctl kernel.unprivileged_userns_clone and user.max_user_namespaces"
            number = int(answer or b"0")
            why = f"user namespaces are not permitted here: {os.strerror(number)}"
            return UnsupportedError(why, hint=hint)
        _write_maps(pid, id_maps())
        os.write(go, b"1")
    except PycontainError as error:
        return error
    except OSError as error:
        return KernelError("map user ids", f"/proc/{pid}", error)
    finally:
        os.close(go)
    return None


def _write_maps(pid: int, maps: Maps) -> None:
    if maps.helpers:
        for helper, rows in (("newuidmap", maps.uids), ("newgidmap", maps.gids)):
            numbers = [str(number) for row in rows for number in row]
            done = subprocess.run([helper, str(pid), *numbers], capture_output=True, check=False)
            if done.returncode:
                text = done.stderr.decode(errors="replace").strip()
                raise UnsupportedError(
                    f"{helper} failed: {text}", hint="see /etc/subuid, /etc/subgid"
                )
        return
    # Without a helper the kernel wants setgroups(2) given up first.
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", _line(maps.uids[0])),
        ("gid_map", _line(maps.gids[0])),
    ):
        with open(f"/proc/{pid}/{name}", "w", encoding="utf-8") as file:
            file.write(text)


def _line(row: IdMap) -> str:
    return " ".join(map(str, row))


def _child(
    ready: int, go: int, result: int, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    # Nothing may return into the caller's code from here.
    status = 1
    try:
        try:
            kernel.unshare(_NEWUSER)
        except OSError as error:
            os.write(ready, str(error.errno).encode())
            return
        os.write(ready, b"ok")
        if os.read(go, 1) != b"1":
            return
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        _write_all(result, codec.dumps(_called(function, arguments)))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _called(function: Callable[..., object], arguments: tuple[object, ...]) -> dict[str, object]:
    try:
        return {"result": function(*arguments)}
    except KeyboardInterrupt:
        return {"error": "PycontainError", "message": "interrupted", "hint": ""}
    except KernelError as error:
        parts = [error.action, error.target, error.number, error.call, error.hint]
        return {"parts": parts}
    except PycontainError as error:
        return {"error": type(error).__name__, "message": error.message, "hint": error.hint}
    except OSError as error:
        return {"parts": ["use", error.filename or "", error.errno or 0, "", ""]}


def _outcome(content: bytes, status: int) -> object:
    if os.waitstatus_to_exitcode(status) != 0 or not content:
        raise PycontainError(f"worker in the user namespace ended with status {status}")
    outcome = codec.load_object(content, "result of the worker")
    if "parts" in outcome:
        parts: Any = outcome["parts"]
        action, target, number, call, hint = parts
        raise KernelError(action, target, number, call=call, hint=hint)
    if "error" not in outcome:
        return outcome["result"]
    kind = getattr(errors, str(outcome["error"]), PycontainError)
    raised: PycontainError = kind(str(outcome["message"]), hint=str(outcome["hint"]))
    raise raised


def _read_all(fd: int) -> bytes:
    content = bytearray()
    while len(content) < _RESULT_LIMIT and (chunk := os.read(fd, 1 << 16)):
        content += chunk
    return bytes(content)


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
