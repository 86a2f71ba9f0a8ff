"""Compressed streams in, plain chunks out: gzip, zstd, xz, bzip2, or nothing.

Owns telling them apart by their first bytes and the bound on what one step may produce: a chunk
of 1 MiB, whatever the ratio. igzip (package `isal`) is used where installed: twice as fast as
zlib.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from pycontain.errors import InvalidError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CHUNK = 1 << 20
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
}
_MEMORY = 128 << 20
"""Window a zstd or xz stream may ask for: what their highest documented levels need."""


class Decompressor(Protocol):
    """The interface `bz2` and `lzma` share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


def detect(head: bytes) -> str:
    """Return "gzip", "zstd", "xz", "bzip2" or "" by the first 6 bytes."""
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")


def plain(chunks: Iterable[bytes], kind: str, what: str) -> Iterator[bytes]:
    """Yield the decompressed content in chunks of at most 1 MiB.

    Raises InvalidError when the stream is damaged or ends early, UnsupportedError when its
    decompressor is not installed.
    """
    if not kind:
        yield from chunks
    elif kind == "zstd":
        yield from _zstd(iter(chunks), what)
    else:
        make, errors = _MAKERS[kind]()
        yield from _members(chunks, make, errors, kind, what)


def _members(
    chunks: Iterable[bytes],
    make: Callable[[], Decompressor],
    errors: tuple[type[Exception], ...],
    kind: str,
    what: str,
) -> Iterator[bytes]:
    # A file may hold several streams one after the other (pigz, eStargz), then padding of zeros.
    current: Decompressor | None = None
    for chunk in chunks:
        data = chunk
        while data or (current is not None and not current.needs_input):
            if current is None:
                if not data.strip(b"\0"):
                    break
                current = make()
            try:
                out = current.decompress(data, CHUNK)
            except errors as error:
                raise InvalidError(f"{what}: damaged {kind} data: {error}") from None
            data = b""
            if out:
                yield out
            if current.eof:
                data, current = current.unused_data, None
    if current is not None:
        raise InvalidError(f"{what}: {kind} data ends early")


def _gzip() -> tuple[Callable[[], Decompressor], tuple[type[Exception], ...]]:
    try:
        from isal import igzip_lib
    except ImportError:
        import zlib

        return _Zlib, (zlib.error,)

    def make() -> Decompressor:
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)

    return make, (cast("type[Exception]", igzip_lib.IsalError), EOFError)


def _xz() -> tuple[Callable[[], Decompressor], tuple[type[Exception], ...]]:
    import lzma

    def make() -> Decompressor:
        return lzma.LZMADecompressor(memlimit=_MEMORY)

    return make, (lzma.LZMAError, EOFError)


def _bzip2() -> tuple[Callable[[], Decompressor], tuple[type[Exception], ...]]:
    import bz2

    return bz2.BZ2Decompressor, (OSError, ValueError, EOFError)


_MAKERS: dict[str, Callable[[], tuple[Callable[[], Decompressor], tuple[type[Exception], ...]]]] = {
    "gzip": _gzip,
    "xz": _xz,
    "bzip2": _bzip2,
}


class _Zlib:
    """zlib's decompressor behind the interface of the others."""

    def __init__(self) -> None:
        import zlib

        self._inner = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail and not self._full

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    _full = False

    def decompress(self, data: bytes, max_length: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, max_length)
        # zlib may hold back output with no input left: ask again while it fills the buffer.
        self._full = len(out) == max_length
        return out


def _zstd(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        hint = "install python3-zstandard, or decompress it first"
        raise UnsupportedError(f"{what}: zstd needs the zstandard package", hint=hint) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MEMORY)
    source: Any = _Reader(chunks)
    reader = decompressor.stream_reader(source, read_size=CHUNK, read_across_frames=True)
    try:
        while chunk := reader.read(CHUNK):
            yield chunk
    except zstandard.ZstdError as error:
        raise InvalidError(f"{what}: damaged zstd data: {error}") from None


class _Reader:
    """The `read` a zstd stream reader asks for, over chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, count: int) -> bytes:
        data = self._left or next(self._chunks, b"")
        self._left = data[count:]
        return data[:count]
