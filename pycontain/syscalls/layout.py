"""The image of a program field by field, for who has no native module or looks into an image.

`encode` says what an image consists of. Kept apart from it for the sake of `_struct`, an extension
module that takes 0.1 ms to load and that a start with the native module does without.
"""

from __future__ import annotations

from _struct import Struct

from pycontain.syscalls.encode import CALL, HEADER_BYTES, KINDS, OP_BYTES, STORE, STUB
from pycontain.syscalls.numbers import NR, number
from pycontain.syscalls.ops import Data, Label, Reg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontain.syscalls.ops import Arg, Op, Program

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
OP = Struct("<IIIi6Qiiq4h")

IMMEDIATE, DATA, REGISTER = 0, 1, 2

_MASK = 0xFFFFFFFFFFFFFFFF
_NO_FD = (_MASK,) * 6


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
        HEADER_BYTES + OP_BYTES * index,
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
