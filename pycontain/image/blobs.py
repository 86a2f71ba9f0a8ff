"""Blobs on their way into the store and out of it, and the lock that keeps the two apart.

Cold half of the store. A blob gets its name only when its digest is verified.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pycontain import trees
from pycontain.errors import KernelError
from pycontain.syscalls import kernel

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pycontain.image.store import Image, ImageStore


_SETTLED_SECONDS = 60


class Blobs:
    """The blobs of one store, for those who write it."""

    def __init__(self, store: ImageStore) -> None:
        self.store = store
        self.path = f"{store.root}/blobs/sha256"

    def has(self, digest: str) -> bool:
        """Tell whether the blob of a `sha256:…` digest is stored."""
        return digest.startswith("sha256:") and os.path.isfile(self.store.blob_path(digest))

    def put(self, content: bytes) -> str:
        """Store a small document; return its digest."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if not self.has(digest):
            try:
                trees.write_atomic(self.store.blob_path(digest), content)
            except OSError as error:
                raise KernelError("store blob", self.store.blob_path(digest), error) from error
        return digest

    @contextmanager
    def incoming(self) -> Iterator[tuple[int, str]]:
        """Give a descriptor to write a blob to and its temporary path, removed unless committed."""
        path = f"{self.path}/.tmp-{os.urandom(8).hex()}"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise KernelError("store blob", path, error) from error
        try:
            yield fd, path
        finally:
            os.close(fd)
            trees.remove(path)

    def commit(self, temporary: str, digest: str) -> None:
        """Give a verified blob its name."""
        os.rename(temporary, self.store.blob_path(digest))

    def sweep(self, live: Collection[str]) -> None:
        """Remove blobs and records not in `live`, names of nothing, and what a crash left."""
        for directory in (f"{self.store.root}/images", self.path):
            for name in os.listdir(directory):
                if "sha256:" + name not in live:
                    trees.remove(f"{directory}/{name}")
        for name in os.listdir(self.store.root):
            if name.startswith(".tmp-"):
                trees.remove(f"{self.store.root}/{name}")
        for path, _, files in os.walk(f"{self.store.root}/tags"):
            for name in files:
                if name.startswith(".tmp-") or not os.path.exists(f"{path}/{name}"):
                    trees.remove(f"{path}/{name}")

    def settle(self, images: Iterable[Image]) -> None:
        """Note in the records of older images that all of them is on disk, once it is.

        The kernel writes dirty pages back within about 30 s by itself (vm.dirty_expire_centisecs),
        so that a minute later syncfs(2) has next to nothing left to do.
        """
        waiting = [image for image in images if image.boot and self._age(image) > _SETTLED_SECONDS]
        if not waiting:
            return
        fd = os.open(self.store.root, trees.DIRECTORY)
        try:
            kernel.syscall("syncfs", fd)
        finally:
            os.close(fd)
        for image in waiting:
            image.boot = ""
            self.store.commit(image)

    def _age(self, image: Image) -> float:
        path = f"{self.store.root}/images/{image.id.removeprefix('sha256:')}"
        return time.time() - os.stat(path).st_mtime


@contextmanager
def lock(store: ImageStore, *, exclusive: bool = False, wait: bool = True) -> Iterator[bool]:
    """Hold the store's lock; gives False when `wait` is off and somebody else holds it.

    Shared while blobs and snapshots are added that no record names yet, exclusive to remove such.
    """
    path = f"{store.root}/lock"
    operation = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise KernelError("open lock", path, error) from error
    try:
        try:
            fcntl.flock(fd, operation)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(fd)
