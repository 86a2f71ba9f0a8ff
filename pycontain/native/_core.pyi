"""Types of the extension module (core.c)."""

from collections.abc import Callable

from typing_extensions import Buffer

from pycontain.syscalls.ops import Data, Op, Reg

def encode(
    image: bytearray,
    ops: list[Op],
    data: int,
    numbers: dict[str, int],
    number: Callable[[str], int],
    kinds: dict[str, int],
    string: Callable[[str | bytes], Data],
    reg: type[Reg],
    /,
) -> None: ...
def spawn(
    image: Buffer, flags: int, cgroup_fd: int, vfork: bool, /
) -> tuple[int, int, int, int, int]: ...
def report(address: int, size: int, /) -> bytes: ...
def release(address: int, stack: int, /) -> None: ...
def syscall(nr: int, /, *args: int | bytes | bytearray | memoryview | None) -> int: ...
