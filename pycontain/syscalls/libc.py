"""libc by ctypes, for an installation without the native module: the only ctypes in the project."""

from __future__ import annotations

import _operator
import ctypes
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_free = ctypes.CDLL(None, use_errno=True)
_free.syscall.restype = ctypes.c_long
# PyDLL keeps the interpreter lock: fork and clone return twice, and the child must find the lock
# in its own hands.
_locked = ctypes.PyDLL(None, use_errno=True)
_locked.syscall.restype = ctypes.c_long
ctypes.pythonapi.PyOS_BeforeFork.restype = None
ctypes.pythonapi.PyOS_AfterFork_Child.restype = None
_FORK = (
    ctypes.pythonapi.PyOS_BeforeFork,
    _locked.fork,
    ctypes.pythonapi.PyOS_AfterFork_Child,
)
_MASK = 0xFFFFFFFFFFFFFFFF


def syscall(nr: int, *args: object) -> int:
    """Enter the kernel, the interpreter lock released; the native module's `syscall`.

    bytes-like arguments are passed as pointers, None as NULL. Raises OSError.
    """
    result: int = _free.syscall(ctypes.c_long(nr), *[_argument(a) for a in args])
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, posix.strerror(number))
    return result


def raw(nr: int, *args: int) -> int:
    """Enter the kernel with plain numbers, the lock held; return the result or -errno."""
    result: int = _locked.syscall(ctypes.c_long(nr), *[ctypes.c_ulong(a & _MASK) for a in args])
    return -ctypes.get_errno() if result == -1 else result


def fork() -> int:
    """fork(3), with what CPython needs around it; no warning about threads.

    The child calls nothing but this module, so other threads' locks do not matter; libc and
    CPython make their own sound: without the second a child of a threaded process waits for ever
    for a thread that asked for the interpreter lock and does not exist there. That may happen at
    any bytecode, so none runs between the two: `next` goes on past None and the child's 0.
    """
    pid = int(next(filter(None, map(_operator.call, _FORK)), 0))
    if pid:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def leave(status: int) -> NoReturn:
    """End the process without any exit handler."""
    _locked._exit(status)
    raise AssertionError("unreachable")


def address(buffer: object) -> int:
    """Return where a writable buffer lies in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


def _argument(argument: object) -> object:
    if argument is None:
        return ctypes.c_ulong(0)
    if isinstance(argument, int):
        return ctypes.c_ulong(argument & _MASK)
    if isinstance(argument, bytes):
        return ctypes.c_char_p(argument)
    view = memoryview(argument)  # type: ignore[arg-type]
    if view.readonly:
        return ctypes.c_char_p(bytes(view))
    return ctypes.byref((ctypes.c_char * view.nbytes).from_buffer(view))
