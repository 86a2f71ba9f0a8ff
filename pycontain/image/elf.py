"""What a program of this host needs to run: its ELF interpreter and shared libraries.

Owns reading ELF headers and the search the dynamic linker would do; nothing is executed, unlike
ldd. Sources: elf(5), ld.so(8).
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field
from functools import cache

from pycontain import trees
from pycontain.errors import InvalidError, KernelError, NotFoundError, quote

_LIMIT = 1 << 30
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_DEFAULT = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")


@dataclass(frozen=True, kw_only=True)
class Elf:
    """`kind` is (class, machine): a library must have the program's."""

    kind: tuple[int, int]
    interpreter: str = ""
    needed: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)


def read(path: str) -> Elf | None:
    """Return what the file at `path` asks for, None when it is no ELF file."""
    try:
        content = trees.read_file(path, _LIMIT)
    except OSError as error:
        raise KernelError("read", path, error) from error
    if content[:4] != b"\x7fELF":
        return None
    try:
        return _parse(content, path)
    except (struct.error, IndexError, ValueError, OverflowError):
        raise InvalidError(f"{quote(path)}: malformed ELF file") from None


def _parse(content: bytes, path: str) -> Elf:
    wide = content[4] == 2
    order = "<" if content[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", content, 18)
    offset, size, count = struct.unpack_from(
        order + ("32xQ14xHH" if wide else "28xI10xHH"), content
    )
    segments = [_segment(content, order, wide, offset + n * size) for n in range(count)]
    interpreter = ""
    for kind, start, _, length in segments:
        if kind == _PT_INTERP:
            interpreter = content[start : start + length].rstrip(b"\0").decode()
    needed, search = _dynamic(content, order, wide, segments)
    origin = os.path.dirname(os.path.realpath(path))
    search = [p.replace("$ORIGIN", origin).replace("${ORIGIN}", origin) for p in search]
    return Elf(kind=(content[4], machine), interpreter=interpreter, needed=needed, search=search)


_Segment = tuple[int, int, int, int]
"""Type, offset in the file, address, bytes in the file."""


def _segment(content: bytes, order: str, wide: bool, at: int) -> _Segment:
    if wide:
        kind, offset, address, length = struct.unpack_from(order + "I4xQQ8xQ", content, at)
    else:
        kind, offset, address, length = struct.unpack_from(order + "III4xI", content, at)
    return kind, offset, address, length


def _dynamic(
    content: bytes, order: str, wide: bool, segments: list[_Segment]
) -> tuple[list[str], list[str]]:
    pair = struct.Struct(order + ("qQ" if wide else "iI"))
    entries: list[tuple[int, int]] = []
    for kind, start, _, length in segments:
        if kind == _PT_DYNAMIC:
            usable = length - length % pair.size
            entries = list(pair.iter_unpack(content[start : start + usable]))
    table = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    strings = _file_offset(segments, table)

    def text(value: int) -> str:
        end = content.index(b"\0", strings + value)
        return content[strings + value : end].decode()

    needed = [text(value) for tag, value in entries if tag == _DT_NEEDED]
    paths = [text(value) for tag, value in entries if tag in (_DT_RPATH, _DT_RUNPATH)]
    return needed, [path for joined in paths for path in joined.split(":") if path]


def _file_offset(segments: list[_Segment], address: int) -> int:
    for kind, offset, start, length in segments:
        if kind == _PT_LOAD and start <= address < start + length:
            return address - start + offset
    return address


def closure(program: str) -> list[str]:
    """Return the paths of the interpreter and of every library `program` needs, each once.

    Raises NotFoundError naming a library that is not on this host.
    """
    top = read(program)
    found: dict[str, str] = {}
    waiting = [(name, top) for name in top.needed] if top else []
    while waiting:
        name, wanted_by = waiting.pop()
        if name in found or top is None:
            continue
        found[name] = path = _library(name, wanted_by, top, program)
        library = read(path)
        if library:
            waiting += [(needed, library) for needed in library.needed]
    interpreter = [top.interpreter] if top and top.interpreter else []
    return interpreter + sorted(set(found.values()))


def _library(name: str, wanted_by: Elf, top: Elf, program: str) -> str:
    if "/" in name:
        return name
    known = [path for path in _cached() if path.endswith("/" + name)]
    places = [*wanted_by.search, *top.search]
    for path in [f"{d}/{name}" for d in places] + known + [f"{d}/{name}" for d in _DEFAULT]:
        if os.path.isfile(path):
            library = read(path)
            if library and library.kind == top.kind:
                return path
    raise NotFoundError(f"{quote(program)}: needs {quote(name)}, which is not on this host")


@cache
def _cached() -> list[str]:
    """Return the paths in ld.so.cache: directories of ld.so.conf come from nowhere else."""
    try:
        content = trees.read_file("/etc/ld.so.cache", 64 << 20)
    except OSError:
        return []
    return [p.decode() for p in content.split(b"\0") if p.startswith(b"/") and p.isascii()]
