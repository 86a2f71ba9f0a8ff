"""What an op is: one system call, written down as data.

A `Program` is an ordered list of ops and one block of data they point into. Nothing here enters
the kernel; `executor` carries a program out, `--explain` prints it and unit tests read it.

An argument is an int (immediate), None (NULL), bytes or str (a C string in the data block), a
`Data` (a pointer into the data block) or a `Reg` (the result of an earlier op, usually an fd).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import TypeAlias

    Arg: TypeAlias = "int | bytes | str | Reg | Data | None"

REGISTERS = 32
ANY = -1
"""In `ok`: tolerate every errno."""


class Reg:
    """A register of the executor; holds the result of an op."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index

    def __repr__(self) -> str:
        return f"r{self.index}"


class Data:
    """A place in the program's data block: `offset` and `size` in bytes."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset = offset
        self.size = size

    def __repr__(self) -> str:
        return f"data+{self.offset}[{self.size}]"


class Label:
    """A later place in the program that an op may jump to."""

    __slots__ = ("index",)

    def __init__(self) -> None:
        self.index = -1


class Op:
    """One system call, or the pseudo call `store` (register into the data block).

    call      man-page name (`mount`, `openat2`), or "store": args (Reg, Data, width in bytes 4|8)
    into      register that receives the result
    ok        errnos that are no failure; (ANY,) tolerates all
    on_error  where to go on after a tolerated errno; None is the next op
    on_success where to go on after success; None is the next op
    minimum   least result that is a success (a `read` that must not be end of file: 1)
    step      name of the step this op belongs to, path the place in config.json it comes from
    target    the object in words, for messages ("/proc")
    """

    __slots__ = (
        "args", "call", "into", "minimum", "ok", "on_error", "on_success", "path", "step", "target",
    )  # fmt: skip

    def __init__(
        self,
        call: str,
        args: tuple[Arg, ...],
        into: Reg | None,
        ok: tuple[int, ...],
        on_error: Label | None,
        on_success: Label | None,
        minimum: int,
        step: str,
        path: str,
        target: str,
    ) -> None:
        self.call = call
        self.args = args
        self.into = into
        self.ok = ok
        self.on_error = on_error
        self.on_success = on_success
        self.minimum = minimum
        self.step = step
        self.path = path
        self.target = target


class Program:
    """Ops in order, and the data block they point into.

    `relocations` lists the offsets of 8-byte pointers inside the data block; each holds the offset
    of what it points to until the executor knows the block's address.
    """

    __slots__ = ("_path", "_step", "_strings", "_used", "data", "exec_index", "ops", "relocations")

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.data = bytearray()
        self.relocations: list[int] = []
        self.exec_index = -1
        self._strings: dict[bytes | str, Data] = {}
        self._used = 0
        self._step = ""
        self._path = ""

    def step(self, name: str, path: str = "") -> None:
        """Name the step the following ops belong to; `path` is its place in config.json."""
        self._step = name
        self._path = path

    def call(
        self,
        call: str,
        *args: Arg,
        into: Reg | None = None,
        ok: tuple[int, ...] = (),
        on_error: Label | None = None,
        on_success: Label | None = None,
        minimum: int = 0,
        target: str = "",
    ) -> int:
        """Append a system call; return its op index."""
        self.ops.append(
            Op(call, args, into, ok, on_error, on_success, minimum, self._step, self._path, target)
        )
        return len(self.ops) - 1

    def fd(self, call: str, *args: Arg, target: str = "", **how: object) -> Reg:
        """Append a call whose result is kept; return a fresh register. Give it back by `close`."""
        register = self.register()
        self.call(call, *args, into=register, target=target, **how)  # type: ignore[arg-type]
        return register

    def register(self) -> Reg:
        """Return a free register."""
        for index in range(REGISTERS):
            if not self._used >> index & 1:
                self._used |= 1 << index
                return Reg(index)
        raise OverflowError("a program holds more than 32 descriptors at once")

    def close(self, register: Reg) -> None:
        """Append close(2) of the register's fd and free the register."""
        self.call("close", register)
        self.release(register)

    def release(self, register: Reg) -> None:
        """Free the register without closing what it holds."""
        self._used &= ~(1 << register.index)

    def store(self, register: Reg, where: Data, width: int = 4) -> None:
        """Append: write the register's value into the data block (an fd inside a struct)."""
        self.call("store", register, where, width)

    def label(self) -> Label:
        return Label()

    def place(self, label: Label) -> None:
        """Let `label` stand for the next op."""
        label.index = len(self.ops)

    def block(self, content: bytes, align: int = 8) -> Data:
        """Copy `content` into the data block; return its place (writable by the kernel)."""
        data = self.data
        if gap := -len(data) % align:
            data += bytes(gap)
        place = Data(len(data), len(content))
        data += content
        return place

    def string(self, text: bytes | str) -> Data:
        """Return the place of a C string; equal strings share one place, so never write to it."""
        place = self._strings.get(text)
        if place is None:
            raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            if b"\0" in raw:
                raise ValueError("NUL byte in a C string")
            place = self._strings[text] = self.block(raw + b"\0", 1)
        return place

    def pointers(self, items: Iterable[bytes | str | Data]) -> Data:
        """Return the place of a NULL-terminated array of pointers (argv, envp)."""
        places = [i if isinstance(i, Data) else self.string(i) for i in items]
        array = self.block(bytes(8 * (len(places) + 1)))
        for n, place in enumerate(places):
            self.pointer(Data(array.offset + 8 * n, 8), place)
        return array

    def pointer(self, where: Data, to: Data) -> None:
        """Write a pointer to `to` at `where` (a struct that holds a pointer)."""
        self.data[where.offset : where.offset + 8] = to.offset.to_bytes(8, "little")
        self.relocations.append(where.offset)

    def field(self, struct: Data, offset: int, size: int) -> Data:
        """Return the place of one field of a struct."""
        return Data(struct.offset + offset, size)

    def exec_stub(self, stub_fd: int | Reg, keep: Sequence[int] = ()) -> None:
        """Mark the place where the child execs the stub; the stub carries out the ops that follow.

        `keep` are fds the remaining ops need; they stay open across this one exec.
        """
        self.exec_index = len(self.ops)
        self.call("execstub", stub_fd, *keep)
