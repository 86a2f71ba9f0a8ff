"""A program as bytes: what the C loop, the stub and the Python fallback carry out.

    header   384 bytes, `struct image` in native/loop.h; also holds the report and the registers
    ops      88 bytes each, `struct op`
    times    8 bytes an op, only with a timeline: CLOCK_MONOTONIC in ns
    relocs   4 bytes each: offsets of pointers inside the data block
    data     the program's data block

Arguments that point into the data block are offsets into the image; pointers inside the block are
offsets into the block until whoever maps the image relocates them. All numbers are little-endian.
"""

from __future__ import annotations

from pycontain.syscalls.kernel import native
from pycontain.syscalls.numbers import NR, number
from pycontain.syscalls.ops import Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.syscalls.ops import Program

MAGIC = 0x31637970
HEADER_BYTES = 384
OP_BYTES = 88
NAME_OFFSET = 320

CALL, EXEC, STORE, STUB = 0, 1, 2, 3
NEW, CHILD, IN_STUB, FAILED, DONE = 0, 1, 2, 3, 4
KINDS = {"execve": EXEC, "execveat": EXEC, "store": STORE, "execstub": STUB}
STUB_NAME = b"pycontain"


def encode(program: Program, timeline: bool = False) -> bytearray:
    """Return the image of `program`; ValueError when it jumps backwards or an op is malformed.

    Strings among the arguments are added to the program's data block.
    """
    count = len(program.ops)
    times = HEADER_BYTES + OP_BYTES * count
    relocs = times + (8 * count if timeline else 0)
    data = relocs + 4 * len(program.relocations)
    data += -data % 16
    image = bytearray(data)
    if native is not None:
        native.encode(image, program.ops, data, NR, number, KINDS, program.string, Reg)
    else:
        from pycontain.syscalls import layout

        layout.encode_ops(image, program, data)
    for n, offset in enumerate(program.relocations):
        image[relocs + 4 * n : relocs + 4 * n + 4] = offset.to_bytes(4, "little")
    image += program.data
    image[NAME_OFFSET : NAME_OFFSET + len(STUB_NAME)] = STUB_NAME
    head = (
        MAGIC, count, program.exec_index, len(program.relocations), 0, 0, relocs,
        times if timeline else 0, data, len(image), -1, -1, NEW, 0, 0, -1,
    )  # fmt: skip
    for n, value in enumerate(head):
        image[4 * n : 4 * n + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    return image


class Report:
    """What the header says about a program that runs or ran."""

    __slots__ = ("errno", "op", "size", "state", "times", "vacated")

    def __init__(self, head: bytes) -> None:
        self.times = _word(head, 7)
        self.size = _word(head, 9)
        self.state = _word(head, 12)
        self.op = _word(head, 13)
        self.errno = _word(head, 14)
        self.vacated = _word(head, 15) == 0


def _word(head: bytes, index: int) -> int:
    return int.from_bytes(head[4 * index : 4 * index + 4], "little")


def times_of(image: bytes, report: Report, count: int) -> list[int]:
    """Return the time of each op (ns, CLOCK_MONOTONIC; 0: not run), [] without a timeline."""
    if not report.times:
        return []
    return list(memoryview(image)[report.times : report.times + 8 * count].cast("q"))
