"""From what the user names to a seekable, plain file: a path, a directory, or a pipe.

Owns spooling: only what cannot be read twice (a pipe, a compressed archive) is copied, into a
nameless file of the data root.
"""

from __future__ import annotations

import os
import posixpath
import signal
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError, KernelError, UsageError, quote
from pycontain.image import compression
from pycontain.image.files import DOCUMENTS, DirectoryFiles, Files, TarFiles
from pycontain.image.pipeline import Blob, Progress, spool
from pycontain.image.source import FileSource, StreamSource
from pycontain.image.tar import TarReader

if TYPE_CHECKING:
    from collections.abc import Iterator


FIFO_WAIT_S = 5


class Opened:
    """`files` of an archive, None when it is none; `whole` is the input itself, as one blob."""

    def __init__(self, files: Files | None, whole: Blob | None, what: str) -> None:
        self.files = files
        self.whole = whole
        self.what = what


@contextmanager
def opened(
    source: str, temporary: str, progress: Progress | None = None, *, rootfs: bool = False
) -> Iterator[Opened]:
    """Open an archive, a layout directory, or standard input ("-").

    `temporary` is a directory for what must be spooled. With `rootfs` a compressed input may be a
    root file system and is looked through first. Raises UsageError, InvalidError, KernelError.
    """
    if source != "-" and os.path.isdir(source):
        files = DirectoryFiles(source)
        try:
            yield Opened(files, None, source)
        finally:
            files.close()
        return
    what = "standard input" if source == "-" else source
    fd = os.dup(0) if source == "-" else _open(source)
    try:
        if not _is_seekable(fd, what):
            fd = _replace(fd, spool(_stream(fd, what), temporary, what, progress))
        whole = Blob(fd, 0, os.fstat(fd).st_size, what)
        if rootfs and not _has_documents(whole):
            yield Opened(None, whole, what)
            return
        with _plain(whole, temporary, progress) as plain:
            yield Opened(TarFiles(plain.fd, plain.size, what), whole, what)
    finally:
        os.close(fd)


@contextmanager
def whole(source: str, temporary: str, progress: Progress | None = None) -> Iterator[Blob]:
    """Open one file or standard input as a blob, whatever is in it."""
    what = "standard input" if source == "-" else source
    fd = os.dup(0) if source == "-" else _open(source)
    try:
        if not _is_seekable(fd, what):
            fd = _replace(fd, spool(_stream(fd, what), temporary, what, progress))
        yield Blob(fd, 0, os.fstat(fd).st_size, what)
    finally:
        os.close(fd)


@contextmanager
def _plain(blob: Blob, temporary: str, progress: Progress | None) -> Iterator[Blob]:
    kind = compression.detect(blob.head())
    if not kind:
        _check_tar(blob)
        yield blob
        return
    fd = spool(compression.plain(blob.chunks(), kind, blob.what), temporary, blob.what, progress)
    try:
        plain = Blob(fd, 0, os.fstat(fd).st_size, blob.what)
        _check_tar(plain)
        yield plain
    finally:
        os.close(fd)


def _has_documents(blob: Blob) -> bool:
    """Tell whether an archive may be an image: decompressing it twice is cheaper than a copy."""
    kind = compression.detect(blob.head())
    if not kind:
        return True
    chunks = compression.plain(blob.chunks(), kind, blob.what)
    reader = TarReader(StreamSource(chunks, blob.what))
    return any(posixpath.normpath(os.fsdecode(entry.name)) in DOCUMENTS for entry in reader)


def _check_tar(blob: Blob) -> None:
    """Refuse early, and in words, what is no tar at all."""
    if blob.size == 0:
        raise InvalidError(f"{blob.what}: empty")
    try:
        next(iter(TarReader(FileSource(blob.fd, 0, min(blob.size, 512), blob.what))), None)
    except InvalidError as error:
        if "checksum" in error.message or blob.size < 512:
            raise InvalidError(f"{blob.what}: not a tar archive") from None


def _open(path: str) -> int:
    try:
        with _patience(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except ValueError:
        raise UsageError(f"{quote(path)}: NUL byte in a path") from None
    except OSError as error:
        raise KernelError("open", path, error) from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        os.close(fd)
        raise UsageError(f"{quote(path)}: a device, not an archive")
    return fd


@contextmanager
def _patience(path: str) -> Iterator[None]:
    """Bound the wait of open(2) for the writer of a fifo; raises InvalidError when it is over."""

    def give_up(number: int, frame: object) -> None:
        why = f"a fifo that nothing wrote to for {FIFO_WAIT_S} s"
        raise InvalidError(f"{quote(path)}: {why}", hint="start its writer first")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(FIFO_WAIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _is_seekable(fd: int, what: str) -> bool:
    mode = os.fstat(fd).st_mode
    if stat.S_ISCHR(mode):
        hint = "name a file by -i, or feed one to standard input"
        raise UsageError(f"{what} is a terminal or a device", hint=hint)
    return stat.S_ISREG(mode)


def _stream(fd: int, what: str) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(fd, compression.CHUNK)
        except OSError as error:
            raise KernelError("read", what, error, call="read") from error
        if not chunk:
            return
        yield chunk


def _replace(old: int, new: int) -> int:
    os.close(old)
    return new
