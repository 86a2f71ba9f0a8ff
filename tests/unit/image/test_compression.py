"""Compressed streams: every format, in bounded steps, and damage refused."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
import zlib
from typing import TYPE_CHECKING

import pytest
import zstandard

from pycontain.errors import InvalidError
from pycontain.image import compression

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = os.urandom(700_000) + b"zeros" + bytes(3_000_000)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.fixture(params=["isal", "zlib"])
def inflate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test with igzip, and again as if it were not installed."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "isal", None)
    else:
        pytest.importorskip("isal")
    return str(request.param)


def unpacked(packed: bytes, step: int = 65_536) -> bytes:
    chunks = (packed[at : at + step] for at in range(0, len(packed), step))
    pieces = list(compression.plain(chunks, compression.detect(packed[:6]), "test"))
    assert all(len(piece) <= compression.CHUNK for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("step", [1000, 65_536, 10_000_000])
def test_what_was_packed_comes_out(inflate: str, kind: str, step: int) -> None:
    assert unpacked(PACK[kind](CONTENT), step) == CONTENT


def test_plain_content_is_passed_on() -> None:
    assert compression.detect(b"ustar") == compression.detect(b"") == ""
    assert list(compression.plain([b"a", b"b"], "", "test")) == [b"a", b"b"]


@pytest.mark.parametrize("kind", PACK)
def test_several_streams_in_one_file(inflate: str, kind: str) -> None:
    assert unpacked(PACK[kind](b"one") + PACK[kind](b"two" * 1000)) == b"one" + b"two" * 1000


def test_zeros_after_a_gzip_stream_are_padding(inflate: str) -> None:
    assert unpacked(gzip.compress(b"x") + bytes(1000)) == b"x"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_stream_cut_short_is_refused(inflate: str, kind: str) -> None:
    packed = PACK[kind](CONTENT)
    for size in (10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(InvalidError, match="early"):
            unpacked(packed[:size])


@pytest.mark.parametrize("kind", PACK)
def test_damage_is_refused_or_shows_in_the_content(inflate: str, kind: str) -> None:
    packed = PACK[kind](CONTENT)
    for at in (12, len(packed) // 2, len(packed) - 5):
        damaged = bytearray(packed)
        damaged[at] ^= 0xFF
        try:
            assert unpacked(bytes(damaged)) != CONTENT
        except InvalidError as error:
            assert str(error).isprintable()


def test_a_gzip_checksum_is_verified(inflate: str) -> None:
    packed = bytearray(gzip.compress(b"content"))
    packed[-8] ^= 1
    with pytest.raises(InvalidError):
        unpacked(bytes(packed))


def test_a_bomb_comes_in_small_pieces(inflate: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    assert len(bomb) < 300_000
    total = 0
    for piece in compression.plain([bomb], "gzip", "test"):
        assert len(piece) <= compression.CHUNK
        total += len(piece)
    assert total == 200 << 20
