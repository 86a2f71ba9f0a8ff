"""The image of a program, and what `record` prints of it."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycontain.native
from pycontain.syscalls import constants as c
from pycontain.syscalls import encode as encoding
from pycontain.syscalls import executor, layout, numbers
from pycontain.syscalls.ops import ANY, Data, Program, Reg

LOOP = (Path(pycontain.native.__file__).parent / "loop.h").read_text()


def op_fields(image: bytearray, index: int) -> tuple[int, ...]:
    return layout.OP.unpack_from(image, encoding.HEADER_BYTES + layout.OP.size * index)


def test_an_op_is_88_bytes_and_the_header_384() -> None:
    assert layout.OP.size == 88
    assert layout.HEAD.size == layout.REGISTERS_OFFSET
    assert encoding.NAME_OFFSET == layout.REGISTERS_OFFSET + 32 * 8
    assert f"MAGIC = {encoding.MAGIC:#x}" in LOOP


def test_arguments_keep_their_kind() -> None:
    program = Program()
    place = program.block(b"12345678")
    program.call("openat2", Reg(3), "/etc", place, -1, None, 1 << 63, into=Reg(4))
    image = encoding.encode(program)
    data = layout.HEAD.unpack_from(image)[7]
    nr, kind, types, into, *rest = op_fields(image, 0)
    assert (nr, kind, into) == (numbers.NR["openat2"], encoding.CALL, 4)
    assert types == 0x000112
    assert rest[:6] == [3, data + 8, data + place.offset, (1 << 64) - 1, 0, 1 << 63]
    assert bytes(image[rest[1] : rest[1] + 5]) == b"/etc\0"


def test_jumps_default_to_the_next_op() -> None:
    program = Program()
    label = program.label()
    program.call("getpid")
    program.call("getpid", ok=(errno.ENOENT, ANY), on_error=label)
    program.call("getpid")
    program.place(label)
    image = encoding.encode(program)
    assert op_fields(image, 0)[10:13] == (1, 1, 0)
    assert op_fields(image, 1)[10:] == (3, 2, 0, errno.ENOENT, -1, 0, 0)


@pytest.fixture(params=["native", "python"], autouse=True)
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(encoding, "native", None)
    elif encoding.native is None:
        pytest.skip("the native module is not built")


@pytest.mark.parametrize("index", [-1, 0, 5])
def test_a_jump_backwards_or_out_is_refused(index: int) -> None:
    program = Program()
    label = program.label()
    label.index = index
    program.call("getpid", ok=(1,), on_error=label)
    with pytest.raises(ValueError, match="jumps"):
        encoding.encode(program)


def test_too_many_arguments_or_errnos_are_refused() -> None:
    program = Program()
    program.call("getpid", 1, 2, 3, 4, 5, 6, 7)
    with pytest.raises(ValueError, match="six arguments"):
        encoding.encode(program)
    program = Program()
    program.call("getpid", ok=(1, 2, 3, 4, 5))
    with pytest.raises(ValueError, match="four errnos"):
        encoding.encode(program)


def test_an_unknown_call_is_refused() -> None:
    program = Program()
    program.call("no_such_call")
    with pytest.raises(KeyError):
        encoding.encode(program)


def test_a_rare_call_is_found_in_the_tables() -> None:
    assert "quotactl_fd" not in numbers.NR
    assert numbers.number("quotactl_fd") == 443


ARGUMENTS = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.none(),
    st.text(st.characters(exclude_characters="\0"), max_size=8),
    st.binary(max_size=8).filter(lambda raw: b"\0" not in raw),
    st.builds(Reg, st.integers(0, 31)),
    st.builds(Data, st.integers(0, 1000), st.just(1)),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mount", "execve", "store", "execstub", "quotactl_fd", "read"]),
            st.lists(ARGUMENTS, max_size=6),
            st.lists(st.integers(-1, 133), max_size=4),
            st.none() | st.builds(Reg, st.integers(0, 31)),
            st.integers(-(1 << 63), (1 << 63) - 1),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.booleans(),
)
def test_the_native_encoder_writes_the_same_bytes(
    ops: list[tuple[str, list[object], list[int], Reg | None, int, bool]], timeline: bool
) -> None:
    def build() -> Program:
        program = Program()
        end = program.label()
        for call, args, ok, into, minimum, jump in ops:
            to = end if jump else None
            program.call(
                call, *args, ok=tuple(ok), into=into, minimum=minimum, on_error=to, on_success=to
            )  # type: ignore[arg-type]
        program.place(end)
        return program

    if encoding.native is None:
        pytest.skip("the native module is not built")
    by_python = build()
    image = encoding.encode(build(), timeline)
    data = layout.HEAD.unpack_from(image)[7]
    expected = bytearray(data)
    layout.encode_ops(expected, by_python, data)
    count = layout.OP.size * len(ops)
    assert image[encoding.HEADER_BYTES :][:count] == expected[encoding.HEADER_BYTES :][:count]
    assert bytes(image[data:]) == bytes(by_python.data)


def test_record_names_steps_arguments_and_tolerance() -> None:
    program = Program()
    program.step("mounts", "mounts[0]")
    label = program.label()
    fd = program.fd("openat2", c.AT_FDCWD, b"/pr\xffoc", Data(0, 24), 24)
    program.call("close", fd, ok=(errno.EBADF, ANY), on_error=label)
    program.place(label)
    text = executor.record(program)
    assert text[0] == "mounts:  [mounts[0]]"
    assert text[1] == '    0 r0 = openat2(-100, "/pr\\\\xffoc", data+0[24], 24)'
    assert text[2] == "    1 close(r0)  # tolerates EBADF, any error, then goes to 2"


def test_the_loop_and_the_encoder_name_the_same_kinds() -> None:
    kinds = re.search(r"enum \{ CALL, EXEC, STORE, STUB \}", LOOP)
    states = re.search(
        r"enum \{ STATE_NEW, STATE_CHILD, STATE_STUB, STATE_FAILED, STATE_DONE \}", LOOP
    )
    assert kinds
    assert states
    assert (encoding.CALL, encoding.EXEC, encoding.STORE, encoding.STUB) == (0, 1, 2, 3)
    assert (encoding.NEW, encoding.CHILD, encoding.IN_STUB, encoding.FAILED, encoding.DONE) == (
        0,
        1,
        2,
        3,
        4,
    )
