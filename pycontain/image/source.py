"""Byte sources the tar walk reads from: a stream of chunks, or a range of a seekable file.

Owns buffering and the check that nothing ends early. Memory is one chunk, whatever the size.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError, KernelError

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 64 << 10


class Source:
    """Bytes read once from the front; `offset` counts those handed out or skipped."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.offset = 0
        self._chunk = memoryview(b"")

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes; b"" when the end comes before the first of them.

        Raises InvalidError when it comes later. For headers: `count` is small and bounded.
        """
        if count <= len(self._chunk):
            taken = bytes(self._chunk[:count])
            self._chunk = self._chunk[count:]
            self.offset += count
            return taken
        if not self._chunk and not self._fill():
            return b""
        return b"".join(self.views(count))

    def views(self, count: int) -> Iterator[memoryview]:
        """Yield exactly `count` bytes in pieces that are not copied. Raises InvalidError."""
        while count:
            if not self._chunk and not self._fill():
                raise self.truncated()
            piece = self._chunk[:count]
            self._chunk = self._chunk[len(piece) :]
            self.offset += len(piece)
            count -= len(piece)
            yield piece

    def skip(self, count: int) -> None:
        """Pass over `count` bytes."""
        for _ in self.views(count):
            pass

    def drain(self) -> None:
        """Read to the end, so that whoever hashes underneath sees all of it."""
        while self._fill():
            pass
        self._chunk = memoryview(b"")

    def truncated(self) -> InvalidError:
        return InvalidError(f"{self.what}: ends early, at byte {self.offset}")

    def _fill(self) -> bool:
        raise EOFError


class StreamSource(Source):
    """A source over chunks as they come from a decompressor."""

    def __init__(self, chunks: Iterator[bytes], what: str) -> None:
        super().__init__(what)
        self._chunks = chunks

    def _fill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._chunk = memoryview(chunk)
                return True
        return False


class FileSource(Source):
    """A source over `size` bytes of a file from `start`; skipping costs nothing."""

    def __init__(self, fd: int, start: int, size: int, what: str) -> None:
        super().__init__(what)
        self._fd = fd
        self._start = start
        self._size = size

    def skip(self, count: int) -> None:
        if self.offset + count > self._size:
            raise self.truncated()
        self.offset += count
        self._chunk = self._chunk[count:] if count < len(self._chunk) else memoryview(b"")

    def _fill(self) -> bool:
        wanted = min(_BLOCK, self._size - self.offset)
        self._chunk = memoryview(pread(self._fd, wanted, self._start + self.offset, self.what))
        return bool(self._chunk)


def pread(fd: int, count: int, offset: int, what: str) -> bytes:
    """Return up to `count` bytes at `offset`. Raises KernelError."""
    try:
        return os.pread(fd, count, offset)
    except OSError as error:
        raise KernelError("read", what, error, call="pread") from error
