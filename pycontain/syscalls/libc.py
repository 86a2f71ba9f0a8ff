"""The system call by ctypes, for an installation without the native module.

The only ctypes in the project. `syscall` has the signature of the native one.
"""

from __future__ import annotations

import ctypes
import posix

_libc = ctypes.PyDLL(None, use_errno=True)
# PyDLL keeps the interpreter lock: the fork of the Python executor returns twice from this call,
# and the child must find the lock in its own hands.
_libc.syscall.restype = ctypes.c_long
_unlocked = ctypes.CDLL(None, use_errno=True)
_unlocked.syscall.restype = ctypes.c_long


def pointer(argument: object) -> object:
    """Return a ctypes value for one argument: int, buffer or None."""
    if argument is None:
        return ctypes.c_long(0)
    if isinstance(argument, int):
        return ctypes.c_ulong(argument & 0xFFFFFFFFFFFFFFFF)
    if isinstance(argument, bytes):
        return ctypes.c_char_p(argument)
    if isinstance(argument, memoryview | bytearray):
        return ctypes.byref(ctypes.c_char.from_buffer(argument))
    raise TypeError(f"a system call takes ints and buffers, not {type(argument).__name__}")


def syscall(nr: int, *args: object) -> int:
    """Enter the kernel; raise OSError on failure. The interpreter lock is released."""
    result: int = _unlocked.syscall(ctypes.c_long(nr), *[pointer(a) for a in args])
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, posix.strerror(number))
    return result


def raw_syscall(nr: int, args: object) -> int:
    """Enter the kernel with six ready numbers, keeping the lock; return -errno on failure."""
    result: int = _libc.syscall(ctypes.c_long(nr), *args)  # type: ignore[misc]
    return -ctypes.get_errno() if result == -1 else result


def address(buffer: object) -> int:
    """Return where a writable buffer lies in memory."""
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))  # type: ignore[arg-type]


def load(place: int, size: int) -> bytes:
    """Return the memory at an address."""
    return ctypes.string_at(place, size)
