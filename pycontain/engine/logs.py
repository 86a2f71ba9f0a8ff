r"""The log of a detached container: docker's json-file, one JSON object a line.

    {"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000000Z"}

Written by the monitor (native/monitor.c, or `Log` where it is not built; a test holds the two
equal), read by `logs`. With `max-size` the file is renamed to log.json.1 … and begun again,
`max-file` of them are kept. A byte that is not UTF-8 is logged as U+FFFD, as docker does.
"""

from __future__ import annotations

import posix
import time
from _codecs import utf_8_decode

from pycontain import trees
from pycontain.engine.clock import format_time
from pycontain.errors import KernelError
from pycontain.oci import codec
from pycontain.spec.values import natural, size_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "log.json"
LINE_LIMIT = 16384
"""Bytes of one entry; a longer line is split, as docker does, between two characters."""
MODE = 0o640
"""What a container says is not for everybody."""
_NO_UTF_8 = dict.fromkeys(range(0xDC80, 0xDD00), 0xFFFD)
"""The surrogates that stand for bytes which are not UTF-8, and what is logged instead."""
_CHUNK = 65536


def log_arguments(directory: str, driver: str, options: dict[str, str]) -> list[str]:
    """Return the arguments that make the static monitor write this log."""
    if driver == "none":
        return []
    found = ["--log", f"{directory}/{NAME}"]
    if "max-size" in options:
        found += ["--max-size", str(size_bytes(options["max-size"], "max-size"))]
        found += ["--max-files", str(max(1, natural(options.get("max-file", "1"), "max-file")))]
    return found


class Log:
    """The log while it is written."""

    __slots__ = ("_directory", "_fd", "_most_bytes", "_most_files", "_parts", "_size")

    def __init__(self, directory: str, driver: str, options: dict[str, str]) -> None:
        self._directory = directory
        self._most_bytes = size_bytes(options.get("max-size", "0"), "max-size")
        self._most_files = max(1, natural(options.get("max-file", "1"), "max-file"))
        self._parts: dict[str, bytes] = {}
        self._fd = self._open() if driver != "none" else -1

    def _open(self) -> int:
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC
        try:
            fd = posix.open(f"{self._directory}/{NAME}", flags, MODE)
        except OSError as error:
            raise KernelError("open log", self._directory, error) from None
        self._size = posix.fstat(fd).st_size
        return fd

    def copy(self, fd: int, stream: str) -> bool:
        """Take what is readable from a stream; False at its end."""
        try:
            data = posix.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            # EIO: nobody holds the other side of the terminal.
            data = b""
        if not data:
            self._take(stream, b"", ended=True)
            return False
        self._take(stream, data, ended=False)
        return True

    def _take(self, stream: str, data: bytes, *, ended: bool) -> None:
        text = self._parts.pop(stream, b"") + data
        start = 0
        while start < len(text):
            end = text.find(b"\n", start, start + LINE_LIMIT) + 1
            if not end and len(text) - start >= LINE_LIMIT:
                # A character at the cut whose rest comes next begins the next entry.
                end = start + utf_8_decode(text[start : start + LINE_LIMIT], "replace", False)[1]
            elif not end and ended:
                end = len(text)
            elif not end:
                self._parts[stream] = text[start:]
                return
            self._write(stream, text[start:end])
            start = end

    def _write(self, stream: str, line: bytes) -> None:
        if self._fd < 0:
            return
        text = line.decode("utf-8", "surrogateescape").translate(_NO_UTF_8)
        entry = {"log": text, "stream": stream, "time": format_time(time.time())}
        content = codec.dumps(entry) + b"\n"
        if self._most_bytes and self._size and self._size + len(content) > self._most_bytes:
            self._rotate()
        try:
            trees.write_all(self._fd, content)
            self._size += len(content)
        except OSError:
            # The disk is full: the container must not stop for it; the line is lost.
            return

    def _rotate(self) -> None:
        posix.close(self._fd)
        path = f"{self._directory}/{NAME}"
        for number in range(self._most_files - 1, 0, -1):
            older = path if number == 1 else f"{path}.{number - 1}"
            try:
                posix.rename(older, f"{path}.{number}")
            except FileNotFoundError:
                continue
        if self._most_files == 1:
            posix.unlink(path)
        self._fd = self._open()

    def close(self) -> None:
        """Write what is left of unfinished lines and close the file."""
        for stream in list(self._parts):
            self._take(stream, b"", ended=True)
        if self._fd >= 0:
            posix.close(self._fd)
            self._fd = -1


class Entry:
    """One entry of a log."""

    __slots__ = ("stream", "text", "time")

    def __init__(self, text: str, stream: str, when: str) -> None:
        self.text = text
        self.stream = stream
        self.time = when


class Reader:
    """Reads a log's entries, older files first, and goes on where it stopped.

    The file it reads stays open, so that nothing is lost of one that is rotated or removed.
    """

    __slots__ = ("_directory", "_fd", "_offset", "_rest")

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._fd = -1
        self._offset = 0
        self._rest = b""

    def older(self) -> Iterator[Entry]:
        """Yield the entries of rotated files."""
        path = f"{self._directory}/{NAME}"
        numbers = [
            int(name.rpartition(".")[2])
            for name in posix.listdir(self._directory)
            if name.startswith(NAME + ".") and name.rpartition(".")[2].isdecimal()
        ]
        for number in sorted(numbers, reverse=True):
            for line in trees.read_file(f"{path}.{number}", 1 << 30).split(b"\n"):
                yield from _entry(line)

    def more(self) -> Iterator[Entry]:
        """Yield the entries written since the last call."""
        try:
            newest = posix.open(f"{self._directory}/{NAME}", posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            newest = -1
        yield from self._rest_of_file()
        if newest < 0:
            return
        if self._fd >= 0:
            if posix.fstat(newest).st_ino == posix.fstat(self._fd).st_ino:
                posix.close(newest)
                return
            posix.close(self._fd)
        self._fd, self._offset, self._rest = newest, 0, b""
        yield from self._rest_of_file()

    def _rest_of_file(self) -> Iterator[Entry]:
        if self._fd < 0:
            return
        while data := posix.pread(self._fd, _CHUNK, self._offset):
            self._offset += len(data)
            lines = (self._rest + data).split(b"\n")
            self._rest = lines.pop()
            for line in lines:
                yield from _entry(line)


def _entry(line: bytes) -> Iterator[Entry]:
    if not line:
        return
    document = codec.load_object(line, "log entry", lone_surrogates=True)
    yield Entry(
        str(document.get("log", "")), str(document.get("stream", "")), str(document.get("time", ""))
    )
