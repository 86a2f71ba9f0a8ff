"""One pass over a blob: read, digest, keep, decompress, digest again, unpack; side by side.

Owns the threads. One reads, hashes, copies and decompresses, one hashes the plain bytes, and the
caller's unpacks. Reading, hashing and inflating release the GIL. At most 8 chunks of 1 MiB wait
between them.
"""

from __future__ import annotations

import hashlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from pycontain import trees
from pycontain.errors import InvalidError, KernelError
from pycontain.image import compression
from pycontain.image.source import pread

_WAITING = 6
Progress = Callable[[int, int, str], None]


class Blob:
    """A range of a seekable file; `what` names it, `digest` is the wanted one ("" if unknown)."""

    __slots__ = ("digest", "fd", "offset", "size", "what")

    def __init__(self, fd: int, offset: int, size: int, what: str, digest: str = "") -> None:
        self.fd = fd
        self.offset = offset
        self.size = size
        self.what = what
        self.digest = digest

    def read(self, limit: int) -> bytes:
        """Return the content of a small blob, its digest verified."""
        if self.size > limit:
            raise InvalidError(f"{self.what}: {self.size} bytes, limit {limit}")
        content = b"".join(self.chunks())
        digests = _Digests(self.digest)
        digests.update(content)
        digests.verify(self.what)
        return content

    def chunks(self) -> Iterator[bytes]:
        """Yield the content. Raises InvalidError when the file is shorter."""
        at = 0
        while at < self.size:
            wanted = min(compression.CHUNK, self.size - at)
            chunk = pread(self.fd, wanted, self.offset + at, self.what)
            if not chunk:
                raise InvalidError(f"{self.what}: ends early, at byte {at} of {self.size}")
            at += len(chunk)
            yield chunk

    def head(self) -> bytes:
        """Return the first bytes, enough to tell the compression."""
        return pread(self.fd, min(6, self.size), self.offset, self.what)


class Pass:
    """The plain content of `blob` as chunks, while digests are taken and a copy is kept.

    `keep` is a descriptor that receives the blob's own bytes, -1 for none. After the last chunk
    `blob_digest` and `diff_id` are set and the blob's digest is verified. Use as a context manager.
    """

    def __init__(self, blob: Blob, keep: int, progress: Progress | None, label: str) -> None:
        self.blob_digest = ""
        self.diff_id = ""
        self._blob = blob
        self._keep = keep
        self._progress = progress
        self._label = label
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_WAITING)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blob", daemon=True)

    def __enter__(self) -> Pass:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def __iter__(self) -> Iterator[bytes]:
        while True:
            item = self._queue.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        try:
            self._produce()
            self._queue.put(None)
        except _StoppedError:
            return
        except BaseException as error:
            self._queue.put(error)

    def _produce(self) -> None:
        kind = compression.detect(self._blob.head())
        digests = _Digests(self._blob.digest)
        plain_hash = hashlib.sha256()
        pending: Future[None] | None = None
        with ThreadPoolExecutor(1, "digest") as pool:
            for chunk in compression.plain(self._received(digests), kind, self._blob.what):
                if self._stopped.is_set():
                    raise _StoppedError
                if pending is not None:
                    pending.result()
                pending = pool.submit(plain_hash.update, chunk)
                self._queue.put(chunk)
        digests.verify(self._blob.what)
        self.diff_id = "sha256:" + plain_hash.hexdigest()
        self.blob_digest = "sha256:" + digests.sha256.hexdigest()

    def _received(self, digests: _Digests) -> Iterator[bytes]:
        done = 0
        for chunk in self._blob.chunks():
            digests.update(chunk)
            if self._keep >= 0:
                _keep(self._keep, chunk, self._blob.what)
            done += len(chunk)
            if self._progress:
                self._progress(done, self._blob.size, self._label)
            yield chunk


class _Digests:
    """SHA-256, the name in our store, and whatever other digest the archive wants."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.sha256 = hashlib.sha256()
        self.sha512 = hashlib.sha512() if wanted.startswith("sha512:") else None

    def update(self, chunk: bytes) -> None:
        self.sha256.update(chunk)
        if self.sha512:
            self.sha512.update(chunk)

    def verify(self, what: str) -> None:
        found = (self.sha512 or self.sha256).hexdigest()
        digits = self.wanted.partition(":")[2]
        if digits and digits != found:
            raise InvalidError(f"{what}: digest does not match: want {self.wanted}, have {found}")


class _StoppedError(Exception):
    """The consumer gave up."""


def _keep(fd: int, chunk: bytes, what: str) -> None:
    try:
        trees.write_all(fd, chunk)
    except OSError as error:
        raise KernelError("store", what, error, call="write") from error


def spool(
    chunks: Iterator[bytes], directory: str, what: str, progress: Progress | None = None
) -> int:
    """Write `chunks` into a nameless file below `directory`; return its descriptor.

    Raises KernelError (ENOSPC bounds it); the kernel frees the space when the descriptor closes.
    """
    try:
        fd, path = tempfile.mkstemp(prefix=".tmp-", dir=directory)
        os.unlink(path)
    except OSError as error:
        raise KernelError("make a temporary file below", directory, error) from error
    try:
        done = 0
        for chunk in chunks:
            _keep(fd, chunk, what)
            done += len(chunk)
            if progress:
                progress(done, 0, "reading")
    except BaseException:
        os.close(fd)
        raise
    return fd
