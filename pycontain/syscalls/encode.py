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

from _struct import Struct

from pycontain.syscalls.constants import NR, number
from pycontain.syscalls.kernel import native
from pycontain.syscalls.ops import Data, Label, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.syscalls.ops import Arg, Op, Program

MAGIC = 0x31637970
HEAD = Struct("<IIiIQIIIIiiIIii")
BASE = Struct("<Q")
BASE_OFFSET = 16
FDS = Struct("<ii")
FDS_OFFSET = 40
"""The fds of the memory file and of the pipe."""
PROGRESS = Struct("<IIi")
PROGRESS_OFFSET = 48
"""State, op and errno: the report."""
REGISTER_VALUE = Struct("<q")
REGISTERS_OFFSET = 64
NAME_OFFSET = 320
HEADER_BYTES = 384
OP = Struct("<IIIi6Qiiq4h")

IMMEDIATE, DATA, REGISTER = 0, 1, 2
CALL, EXEC, STORE, STUB = 0, 1, 2, 3
NEW, CHILD, IN_STUB, FAILED, DONE = 0, 1, 2, 3, 4
KINDS = {"execve": EXEC, "execveat": EXEC, "store": STORE, "execstub": STUB}
STUB_NAME = b"pycontain"

_MASK = 0xFFFFFFFFFFFFFFFF
_NO_FD = (_MASK,) * 6


def encode(program: Program, timeline: bool = False) -> bytearray:
    """Return the image of `program`; ValueError when it jumps backwards or an op is malformed.

    Strings among the arguments are added to the program's data block.
    """
    count = len(program.ops)
    times = HEADER_BYTES + OP.size * count
    relocs = times + (8 * count if timeline else 0)
    data = relocs + 4 * len(program.relocations)
    data += -data % 16
    image = bytearray(data)
    if native is not None:
        native.encode(image, program.ops, data, NR, number, KINDS, program.string, Reg)
    else:
        encode_ops(image, program, data)
    for n, offset in enumerate(program.relocations):
        image[relocs + 4 * n : relocs + 4 * n + 4] = offset.to_bytes(4, "little")
    image += program.data
    image[NAME_OFFSET : NAME_OFFSET + len(STUB_NAME)] = STUB_NAME
    HEAD.pack_into(
        image, 0, MAGIC, count, program.exec_index, len(program.relocations), 0, relocs,
        times if timeline else 0, data, len(image), -1, -1, NEW, 0, 0, -1,
    )  # fmt: skip
    return image


def encode_ops(image: bytearray, program: Program, data: int) -> None:
    """Write every op into `image`: what the native module does faster."""
    for index, op in enumerate(program.ops):
        _encode_op(image, program, index, op, data)


def _encode_op(image: bytearray, program: Program, index: int, op: Op, data: int) -> None:
    kind = KINDS.get(op.call, CALL)
    types = 0
    values = []
    shift = 0
    for arg in op.args:
        # One comparison for the common case; a bool or an IntFlag takes the slower road.
        if type(arg) is int:
            values.append(arg & _MASK)
        else:
            type_, value = _argument(program, arg, data)
            types |= type_ << shift
            values.append(value)
        shift += 4
    if shift > 24:
        raise ValueError(f"op {index} has more than six arguments")
    if shift < 24:
        values += (_NO_FD if kind == STUB else (0,) * 6)[: 6 - shift // 4]
    ok = op.ok
    OP.pack_into(
        image,
        HEADER_BYTES + OP.size * index,
        0 if kind >= STORE else NR.get(op.call) or number(op.call),
        kind,
        types,
        -1 if op.into is None else op.into.index,
        *values,
        index + 1 if op.on_error is None else _target(program, index, op.on_error),
        index + 1 if op.on_success is None else _target(program, index, op.on_success),
        op.minimum,
        *((*ok, 0, 0, 0, 0)[:4] if ok else (0, 0, 0, 0)),
    )
    if len(ok) > 4:
        raise ValueError(f"op {index} tolerates more than four errnos")


def _argument(program: Program, arg: Arg, data: int) -> tuple[int, int]:
    """Return (type, value) of an argument that is not a plain int."""
    if arg is None:
        return IMMEDIATE, 0
    if isinstance(arg, Reg):
        return REGISTER, arg.index
    if isinstance(arg, str | bytes):
        return DATA, data + program.string(arg).offset
    if isinstance(arg, Data):
        return DATA, data + arg.offset
    return IMMEDIATE, int(arg) & _MASK


def _target(program: Program, index: int, label: Label) -> int:
    """Return the op a label stands for; only forward jumps exist, so every program ends."""
    if not index < label.index <= len(program.ops):
        raise ValueError(f"op {index} jumps to {label.index}")
    return label.index


class Report:
    """What the header says about a program that runs or ran."""

    __slots__ = ("errno", "op", "size", "state", "times", "vacated")

    def __init__(self, head: bytes) -> None:
        fields = HEAD.unpack_from(head)
        self.times: int = fields[6]
        self.size: int = fields[8]
        self.state: int = fields[11]
        self.op: int = fields[12]
        self.errno: int = fields[13]
        self.vacated: bool = fields[14] == 0


def times_of(image: bytes, report: Report, count: int) -> list[int]:
    """Return the time of each op (ns, CLOCK_MONOTONIC; 0: not run), [] without a timeline."""
    if not report.times:
        return []
    return list(Struct(f"<{count}q").unpack_from(image, report.times))
