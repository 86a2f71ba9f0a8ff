"""The tar headers of layers and archives: ustar, GNU, PAX, sparse files.

Owns the format; what an entry may do is decided by whoever walks (`layer`, `archive`). Every number
and length is hostile: digits are checked one by one, every header record is bounded by 1 MiB, and
what is not understood is refused. Names stay bytes. Sources: POSIX pax(1); GNU tar manual, "Tar
Internals" and "Storing Sparse Files"; star's SCHILY.xattr.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pycontain.image.source import Source

BLOCK = 512
RECORD_LIMIT = 1 << 20
"""Bytes of one extension header (a PAX record set, a GNU long name, a sparse map)."""
SIZE_LIMIT = 1 << 62
ID_LIMIT = 0xFFFF_FFFE
"""The last user or group id: the kernel reads 2^32-1 as "leave it"."""

FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0123456"

_RECORDS = 10_000
"""PAX records in front of one entry, checked before each further header."""
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12s")
_ZERO = bytes(BLOCK)
_XATTR = b"SCHILY.xattr."
_Extent = tuple[int, int]


class Entry:
    """One member of a tar.

    `size` counts the bytes stored in the archive; `extents` (offset, length) say where they belong
    in a sparse file of `real_size` bytes, None for an ordinary file.
    """

    __slots__ = (
        "extents", "gid", "link", "major", "minor", "mode", "mtime_ns", "name", "real_size", "size",
        "type", "uid", "xattrs",
    )  # fmt: skip

    name: bytes
    link: bytes
    type: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    real_size: int
    major: int
    minor: int
    xattrs: dict[bytes, bytes]
    extents: list[_Extent] | None


class TarReader:
    """Iterate the entries of one tar; an entry's data comes from `data`, or is skipped."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._global: dict[bytes, bytes] = {}
        self._left = 0
        self._padding = 0

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def data(self) -> Iterator[memoryview]:
        """Yield the stored bytes of the current entry."""
        left, self._left = self._left, 0
        yield from self.source.views(left)

    def read_data(self, limit: int, what: str) -> bytes:
        """Return the stored bytes of the current entry, refused beyond `limit`."""
        if self._left > limit:
            raise InvalidError(f"{self.source.what}: {what} of {self._left} bytes, limit {limit}")
        return b"".join(self.data())

    def _next(self) -> Entry | None:
        local: dict[bytes, bytes] = {}
        sparse: list[tuple[bytes, bytes]] = []
        while True:
            self._finish()
            block = self.source.read(BLOCK)
            if not block or block == _ZERO:
                return None
            if len(block) < BLOCK:
                raise self.source.truncated()
            fields = _HEADER.unpack(block)
            self._check_sum(block, fields[6])
            kind = fields[7]
            if kind in b"xXgLK":
                if len(local) + len(sparse) > _RECORDS:
                    raise self._bad("too many extension headers before one entry")
                self._begin(self._field(fields[4], "size"))
                self._extension(kind, local, sparse)
            elif kind == b"V":
                self._begin(0)
            else:
                return self._entry(fields, block, {**self._global, **local}, sparse)

    def _finish(self) -> None:
        self.source.skip(self._left + self._padding)
        self._left = self._padding = 0

    def _begin(self, size: int) -> None:
        if not 0 <= size < SIZE_LIMIT:
            raise self._bad(f"size {size} is out of range")
        self._left = size
        self._padding = -size % BLOCK

    def _check_sum(self, block: bytes, field: bytes) -> None:
        found = sum(block) - sum(field) + 8 * 32
        if self._field(field, "checksum") == found:
            return
        # Some old tars summed signed characters.
        signed = sum(struct.unpack("512b", block)) - sum(struct.unpack("8b", field)) + 8 * 32
        if self._field(field, "checksum") != signed:
            raise self._bad("header checksum does not match")

    def _extension(
        self, kind: bytes, local: dict[bytes, bytes], sparse: list[tuple[bytes, bytes]]
    ) -> None:
        content = self.read_data(RECORD_LIMIT, "extension header")
        if kind in b"LK":
            local[b"path" if kind == b"L" else b"linkpath"] = content.rstrip(b"\0")
            return
        records = self._records(content)
        if kind == b"g":
            self._global.update(records)
            if sum(map(len, self._global)) + sum(map(len, self._global.values())) > RECORD_LIMIT:
                raise self._bad("global headers are too large")
            return
        local.update(records)
        # Version 0.0 of the sparse format repeats these two keys.
        repeated = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
        sparse.extend(record for record in records if record[0] in repeated)

    def _records(self, content: bytes) -> list[tuple[bytes, bytes]]:
        records = []
        at = 0
        while at < len(content):
            space = content.find(b" ", at, at + 10)
            digits = content[at:space] if space > 0 else b""
            if not digits.isdigit() or not space - at + 2 < (length := int(digits)):
                raise self._bad("malformed PAX record")
            record = content[space + 1 : at + length]
            key, equals, value = record.partition(b"=")
            if at + length > len(content) or not equals or value[-1:] != b"\n":
                raise self._bad("malformed PAX record")
            records.append((key, value[:-1]))
            at += length
        return records

    def _entry(
        self,
        fields: tuple[bytes, ...],
        block: bytes,
        pax: dict[bytes, bytes],
        sparse: list[tuple[bytes, bytes]],
    ) -> Entry:
        entry = Entry()
        entry.name = self._name(fields, pax)
        entry.link = pax.get(b"linkpath") or fields[8].partition(b"\0")[0]
        if b"\0" in entry.name or b"\0" in entry.link:
            raise self._bad("NUL byte in a name")
        entry.type = self._type(fields[7], entry.name)
        entry.mode = self._mode(fields[1])
        entry.uid = self._id(pax.get(b"uid"), fields[2], "uid")
        entry.gid = self._id(pax.get(b"gid"), fields[3], "gid")
        entry.mtime_ns = self._time(pax.get(b"mtime"), fields[5])
        size = (
            self._decimal(pax[b"size"], "size")
            if pax.get(b"size")
            else self._field(fields[4], "size")
        )
        device = entry.type in (CHARACTER, BLOCK_DEVICE)
        entry.major = self._device(fields[12], 0xFFF) if device else 0
        entry.minor = self._device(fields[13], 0xFFFFF) if device else 0
        entry.xattrs = {k[len(_XATTR) :]: v for k, v in pax.items() if k.startswith(_XATTR)}
        entry.extents = None
        # Only files have data: a link's size is that of its target.
        self._begin(size if entry.type == FILE else 0)
        entry.size = entry.real_size = self._left
        if fields[7] == b"S":
            self._old_sparse(entry, block)
        elif any(key.startswith(b"GNU.sparse.") for key in pax):
            self._pax_sparse(entry, pax, sparse)
        return entry

    def _name(self, fields: tuple[bytes, ...], pax: dict[bytes, bytes]) -> bytes:
        name = pax.get(b"GNU.sparse.name") or pax.get(b"path")
        if name:
            return name
        name = fields[0].partition(b"\0")[0]
        # GNU's own format ("ustar  ") keeps other things where POSIX has the prefix.
        prefix = fields[14].partition(b"\0")[0] if fields[9][:6] == b"ustar\0" else b""
        return prefix + b"/" + name if prefix else name

    def _type(self, kind: bytes, name: bytes) -> int:
        if kind in b"0\0":
            # Before POSIX a directory was a file whose name ends so.
            return DIRECTORY if name.endswith(b"/") else FILE
        if kind in b"7S":
            return FILE
        if kind in b"123456":
            return kind[0]
        raise self._bad(f"entry {quote(name)} has the unknown type {quote(kind)}")

    def _mode(self, field: bytes) -> int:
        mode = self._field(field, "mode")
        # Some tars keep the file type in the upper bits; one the kernel does not know is garbage.
        if mode >> 12 not in (0, 1, 2, 4, 6, 8, 10, 12):
            raise self._bad(f"mode {mode:#o} is out of range")
        return mode & 0o7777

    def _id(self, text: bytes | None, field: bytes, what: str) -> int:
        number = self._decimal(text, what) if text else self._field(field, what)
        if not 0 <= number <= ID_LIMIT:
            raise self._bad(f"{what} {number} is out of range")
        return number

    def _device(self, field: bytes, limit: int) -> int:
        number = self._field(field, "device number")
        if not 0 <= number <= limit:
            raise self._bad(f"device number {number} is out of range")
        return number

    def _time(self, text: bytes | None, field: bytes) -> int:
        if not text:
            return _clamp(self._field(field, "mtime")) * 1_000_000_000
        whole, _, fraction = text.partition(b".")
        negative = whole.startswith(b"-")
        seconds = _clamp(self._decimal(whole.removeprefix(b"-") or b"0", "mtime"))
        if fraction and not fraction.isdigit():
            raise self._bad("malformed mtime")
        nanoseconds = seconds * 1_000_000_000 + int(fraction[:9].ljust(9, b"0"))
        return -nanoseconds if negative else nanoseconds

    def _old_sparse(self, entry: Entry, block: bytes) -> None:
        entry.real_size = self._field(block[483:495], "sparse size")
        extents = self._extents(block[386:482])
        more = block[482]
        while more:
            extension = self.source.read(BLOCK)
            if len(extension) != BLOCK or len(extents) * 24 > RECORD_LIMIT:
                raise self._bad("sparse map is cut or too large")
            extents += self._extents(extension[:504])
            more = extension[504]
        self._set_sparse(entry, extents)

    def _extents(self, table: bytes) -> list[_Extent]:
        found = []
        for at in range(0, len(table), 24):
            if not table[at : at + 24].strip(b"\0"):
                break
            offset = self._field(table[at : at + 12], "sparse offset")
            found.append((offset, self._field(table[at + 12 : at + 24], "sparse length")))
        return found

    def _pax_sparse(
        self, entry: Entry, pax: dict[bytes, bytes], repeated: list[tuple[bytes, bytes]]
    ) -> None:
        real = pax.get(b"GNU.sparse.realsize") or pax.get(b"GNU.sparse.size")
        if real is None or entry.type != FILE:
            raise self._bad("sparse file without its size")
        entry.real_size = self._decimal(real, "sparse size")
        if pax.get(b"GNU.sparse.major") == b"1":
            numbers = self._stored_map(entry)
        elif b"GNU.sparse.map" in pax:
            text = pax[b"GNU.sparse.map"]
            numbers = [self._decimal(n, "sparse map") for n in text.split(b",") if text]
        else:
            numbers = [self._decimal(value, "sparse map") for _, value in repeated]
        if len(numbers) % 2:
            raise self._bad("malformed sparse map")
        self._set_sparse(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _stored_map(self, entry: Entry) -> list[int]:
        # Version 1.0: the map stands before the data, one number a line, padded to whole blocks.
        text = b""
        wanted = 0
        while True:
            if self._left < BLOCK or len(text) > RECORD_LIMIT:
                raise self._bad("sparse map is cut or too large")
            self._left -= BLOCK
            text += b"".join(self.source.views(BLOCK))
            if not wanted and b"\n" in text:
                wanted = 2 * self._decimal(text.partition(b"\n")[0], "sparse map") + 1
            if wanted and text.count(b"\n") >= wanted:
                break
        entry.size = self._left
        return [self._decimal(line, "sparse map") for line in text.split(b"\n")[1:wanted]]

    def _set_sparse(self, entry: Entry, extents: list[_Extent]) -> None:
        end = total = 0
        for offset, length in extents:
            if offset < end or length < 0:
                raise self._bad("sparse map is not in order")
            end = offset + length
            total += length
        if end > entry.real_size or total != entry.size or entry.real_size >= SIZE_LIMIT:
            raise self._bad("sparse map does not match the file's size")
        entry.extents = extents

    def _field(self, field: bytes, what: str) -> int:
        if field[0] & 0x80:
            return self._binary(field)
        text = field.partition(b"\0")[0].strip(b" ")
        if not text:
            return 0
        # int() would take signs, underscores and prefixes.
        if not text.isdigit() or b"8" in text or b"9" in text:
            raise self._bad(f"malformed {what}")
        return int(text, 8)

    def _binary(self, field: bytes) -> int:
        # GNU base-256: big-endian two's complement; bit 7 of the first byte is the mark, bit 6
        # the sign.
        number = int.from_bytes(field, "big") - (1 << (8 * len(field) - 1))
        return number - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else number

    def _decimal(self, text: bytes, what: str) -> int:
        if not text.isdigit() or len(text) > 20:
            raise self._bad(f"malformed {what}")
        return int(text)

    def _bad(self, why: str) -> InvalidError:
        return InvalidError(f"{self.source.what}: {why} (near byte {self.source.offset})")


def _clamp(seconds: int) -> int:
    """Return a time utimensat(2) takes as 64-bit nanoseconds."""
    return max(-(1 << 31), min(seconds, 1 << 33))
