"""Tar headers: what tarfile and GNU tar write is read, what is malformed is refused in words."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from hostile import directory, file, hardlink, layer, symlink
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidError
from pycontain.image.source import StreamSource
from pycontain.image.tar import Entry, TarReader

if TYPE_CHECKING:
    from pathlib import Path


def entries(content: bytes, step: int = 1000) -> list[tuple[Entry, bytes]]:
    chunks = (content[at : at + step] for at in range(0, len(content), step))
    reader = TarReader(StreamSource(chunks, "test.tar"))
    return [(entry, b"".join(reader.data())) for entry in reader]


def header(
    name: bytes = b"f",
    *,
    size: bytes = b"0",
    kind: bytes = b"0",
    mode: bytes = b"644",
    **fields: bytes,
) -> bytes:
    """One ustar header with the checksum right, whatever else is wrong."""
    block = bytearray(512)
    places = {"uid": 108, "gid": 116, "mtime": 136, "link": 157, "major": 329, "minor": 337}
    block[: len(name)] = name
    block[100 : 100 + len(mode)] = mode
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\x0000"
    for key, value in fields.items():
        block[places[key] : places[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(content: bytes, kind: bytes = b"x") -> bytes:
    return (
        header(b"pax", size=b"%o" % len(content), kind=kind) + content + bytes(-len(content) % 512)
    )


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + len(str(len(body)))
    length = len(body) + len(str(length))
    return b"%d" % length + body


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_format_tarfile_writes_is_read(form: int) -> None:
    long = "directory/" * 9 + "file"
    tar = layer(
        [
            directory("d", mode=0o1777, uid=5, gid=7, mtime=1234567890),
            file("d/f", b"x" * 1000, mode=0o4755),
            symlink("s", "../target"),
            hardlink("h", "d/f"),
            file(long, b"long"),
        ],
        form,
    )
    found = entries(tar)
    names = [(e.name, chr(e.type), e.link, len(data)) for e, data in found]
    assert names == [
        (b"d/", "5", b"", 0),
        (b"d/f", "0", b"", 1000),
        (b"s", "2", b"../target", 0),
        (b"h", "1", b"d/f", 0),
        (long.encode(), "0", b"", 4),
    ]
    first = found[0][0]
    assert (first.mode, first.uid, first.gid) == (0o1777, 5, 7)
    assert first.mtime_ns == 1234567890 * 10**9
    assert found[1][0].mode == 0o4755


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links_are_read(form: int) -> None:
    name, target = "n" * 200 + "/" + "m" * 255, "t" * 3000
    (entry, _), *_ = entries(layer([symlink(name, target)], form))
    assert (entry.name, entry.link) == (name.encode(), target.encode())


def test_names_that_are_not_utf8_stay_bytes() -> None:
    raw = b"new\nline\x1b[31m\xff\xfe"
    found = entries(header(raw) + pax(record(b"path", raw + b"2")) + header(b"x"))
    assert [e.name for e, _ in found] == [raw, raw + b"2"]


def test_pax_overrides_the_header_and_global_headers_last() -> None:
    tar = pax(record(b"mtime", b"1.5"), b"g") + header(b"a") + pax(record(b"uid", b"3000000"))
    tar += header(b"b") + pax(record(b"mtime", b"-2.25")) + header(b"c")
    a, b, c = [e for e, _ in entries(tar)]
    assert (a.mtime_ns, b.mtime_ns, c.mtime_ns) == (1_500_000_000, 1_500_000_000, -2_250_000_000)
    assert (a.uid, b.uid, c.uid) == (0, 3_000_000, 0)


def test_xattrs_come_from_pax() -> None:
    tar = pax(record(b"SCHILY.xattr.security.capability", b"\1\0\0\2\0=\n")) + header()
    assert entries(tar)[0][0].xattrs == {b"security.capability": b"\1\0\0\2\0=\n"}


def test_base_256_numbers_are_read() -> None:
    uid = b"\x80\0\0\0\0\x12\x34\x56"
    mtime = b"\xff" * 12
    ((entry, _),) = entries(header(uid=uid, mtime=mtime))
    assert (entry.uid, entry.mtime_ns) == (0x123456, -(10**9))


@pytest.mark.parametrize(
    "tar",
    [
        header(size=b"\xff" * 12),
        header(size=b"\x80" + b"\x7f" * 11),
        header(size=b"77777777777"),
        header(size=b"1_0"),
        header(size=b"-1"),
        header(size=b"+1"),
        header(size=b"0o1"),
        header(size=b"8"),
        header(uid=b"\x80\0\0\1\0\0\0\0"),
        header(uid=b"\x80\0\0\0\xff\xff\xff\xff"),
        header(mode=b"0177777"),
        header(kind=b"Z"),
        header(kind=b"M"),
        header(kind=b"4", major=b"7777777"),
        pax(record(b"size", b"-1")) + header(),
        pax(record(b"size", "\u0661".encode())) + header(),
        pax(record(b"size", b"9" * 30)) + header(),
        pax(record(b"uid", b"1099511627776")) + header(),
        pax(record(b"mtime", b"1e5")) + header(),
        pax(record(b"path", b"a\0b")) + header(),
        pax(b"6 a=\n") + header(),
        pax(b"99999999999999999999 a=b\n") + header(),
        pax(b"a=b\n") + header(),
        pax(b"-6 a=b\n") + header(),
        header(kind=b"x", size=b"77777777"),
        header(kind=b"L", size=b"77777777"),
        header()[:-1],
        header(size=b"1000") + b"x",
        b"\1" * 512,
    ],
)
def test_a_malformed_header_is_refused(tar: bytes) -> None:
    with pytest.raises(InvalidError):
        entries(tar)


def test_a_huge_mtime_is_brought_into_range() -> None:
    ((entry, _),) = entries(pax(record(b"mtime", b"1152921504606846976")) + header())
    assert 0 < entry.mtime_ns < 2**63


def test_headers_before_one_entry_are_bounded() -> None:
    many = pax(b"".join(record(b"k%d" % n, b"v") for n in range(6000)))
    again = pax(b"".join(record(b"j%d" % n, b"v") for n in range(6000)))
    with pytest.raises(InvalidError, match="too many"):
        entries(many + again + pax(record(b"a", b"b")) + header())
    large = [pax(record(b"k%d" % n, b"v" * 400_000), b"g") for n in range(3)]
    with pytest.raises(InvalidError, match="too large"):
        entries(b"".join(large) + header())


def test_a_sparse_map_must_fit_the_file() -> None:
    def sparse(text: bytes, real: bytes = b"100", stored: int = 10) -> bytes:
        records = record(b"GNU.sparse.map", text) + record(b"GNU.sparse.size", real)
        return pax(records) + header(size=b"%o" % stored) + bytes(512)

    ((good, _),) = entries(sparse(b"0,5,50,5"))
    assert (good.extents, good.real_size, good.size) == ([(0, 5), (50, 5)], 100, 10)
    for text in (b"0,5,50,6", b"50,5,0,5", b"0,5,3,5", b"0,10,5", b"95,10", b"-1,10", b"a,b"):
        with pytest.raises(InvalidError):
            entries(sparse(text))


@pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
@pytest.mark.parametrize(
    "form", ["gnu", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix"]
)
def test_sparse_files_of_gnu_tar_are_read(tmp_path: Path, form: str) -> None:
    original = tmp_path / "sparse"
    with original.open("wb") as out:
        for number in range(40):
            out.seek(number * 1_000_000)
            out.write(b"data%d" % number)
        out.truncate(50_000_000)
    options = [f"--format={form.split()[0]}", *form.split()[1:]]
    argv = ["tar", "-C", str(tmp_path), "-cSf", "-", *options, "sparse"]
    tar = subprocess.run(argv, check=True, capture_output=True).stdout
    assert len(tar) < 1_000_000
    ((entry, data),) = entries(tar)
    rebuilt = bytearray(entry.real_size)
    at = 0
    assert entry.extents is not None
    for offset, length in entry.extents:
        rebuilt[offset : offset + length] = data[at : at + length]
        at += length
    assert entry.name == b"sparse"
    assert rebuilt == original.read_bytes()


@given(st.binary(max_size=2048))
def test_random_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        entries(content)
    except InvalidError as error:
        assert str(error).isprintable()


_VALID = layer([directory("d"), file("d/f", b"x" * 700), symlink("l", "d")] * 2) + bytes(1024)
_SPARSE = pax(record(b"GNU.sparse.map", b"0,5") + record(b"GNU.sparse.size", b"9")) + header(
    size=b"5"
)


@given(st.sampled_from([_VALID, _SPARSE + bytes(512)]), st.data())
def test_damage_anywhere_is_read_or_refused(tar: bytes, data: st.DataObject) -> None:
    content = bytearray(tar)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
        # Right checksums let the damage through to the rest of the header.
        for start in range(0, len(content) - 511, 512):
            if content[start + 257 : start + 262] == b"ustar":
                content[start + 148 : start + 156] = b" " * 8
                total = sum(content[start : start + 512])
                content[start + 148 : start + 156] = b"%06o\0 " % total
    try:
        entries(bytes(content))
    except InvalidError as error:
        assert str(error).isprintable()


@given(st.integers(1, 5000))
def test_chunk_borders_do_not_matter(step: int) -> None:
    expected = [(e.name, e.size, data) for e, data in entries(_VALID, len(_VALID))]
    assert [(e.name, e.size, data) for e, data in entries(_VALID, step)] == expected


def test_a_tar_may_end_without_zero_blocks_but_not_within_a_file() -> None:
    whole = io.BytesIO(layer([file("f", b"x" * 600)])).getvalue()
    assert len(entries(whole[: 512 + 1024])) == 1
    with pytest.raises(InvalidError, match="ends early"):
        entries(whole[: 512 + 600])
