"""The few fields of an ELF file that decide whether the kernel can start it (elf(5))."""

from __future__ import annotations

from _struct import error, unpack_from  # type: ignore[attr-defined]

MACHINES = {
    2: "sparc", 3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm",
    43: "sparc64", 62: "x86_64", 183: "aarch64", 243: "riscv64", 258: "loongarch64",
}  # fmt: skip
_ALSO = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
_PT_INTERP = 3


class Header:
    """Machine and loader of a program; `head` is the file's first page.

    machine is "" and interpreter is "" where the header is cut short or says nothing.
    """

    __slots__ = ("interpreter", "machine")

    def __init__(self, head: bytes) -> None:
        self.machine = ""
        self.interpreter = ""
        try:
            order = ">" if head[5] == 2 else "<"
            (number,) = unpack_from(order + "H", head, 18)
            self.machine = MACHINES.get(number, f"machine {number}")
            self.interpreter = _interpreter(head, order, wide=head[4] == 2)
        except (error, IndexError, OverflowError):
            return

    def runs_on(self, machine: str) -> bool:
        """Tell whether a kernel of `machine` (uname) can start it."""
        return self.machine in _ALSO.get(machine, (machine,))


def _interpreter(head: bytes, order: str, *, wide: bool) -> str:
    if wide:
        (table,) = unpack_from(order + "Q", head, 32)
        size, count = unpack_from(order + "HH", head, 54)
    else:
        (table,) = unpack_from(order + "I", head, 28)
        size, count = unpack_from(order + "HH", head, 42)
    for n in range(min(count, 64)):
        place = table + n * size
        (kind,) = unpack_from(order + "I", head, place)
        if kind == _PT_INTERP:
            start, length = _extent(head, order, place, wide=wide)
            return head[start : start + length].split(b"\0")[0].decode("utf-8", "backslashreplace")
    return ""


def _extent(head: bytes, order: str, place: int, *, wide: bool) -> tuple[int, int]:
    if wide:
        (start,) = unpack_from(order + "Q", head, place + 8)
        (length,) = unpack_from(order + "Q", head, place + 32)
    else:
        (start,) = unpack_from(order + "I", head, place + 4)
        (length,) = unpack_from(order + "I", head, place + 16)
    return start, min(length, 4096)
