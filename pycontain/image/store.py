"""The image store on disk: which images there are, what they are called, their blobs.

    blobs/sha256/HEX        manifests, configs, layers, as received and verified
    images/HEX              one compact record per image, HEX being its ID (digest of the config)
    tags/REPOSITORY/TAG     symlink to ../../images/HEX; "/" in REPOSITORY is written "+"
    lock                    shared: a load in progress; exclusive: garbage collection
    images/ (flock)         shared: a container is being made; exclusive: an image is being removed

A record appears by rename after everything it names, a tag after its record: a crash leaves an
image absent or whole. There is no file all writers share, so loads at once lose nothing. Layers are
not flushed to disk by the load itself: until they are, the record names the boot that wrote it, and
after a power cut the image counts as absent (`boot`). Unpacked
layers belong to `pycontain.rootfs`. The read side is hot: `resolve` opens one file.
"""

from __future__ import annotations

import errno
import posix

from pycontain import trees
from pycontain.errors import ConflictError, InvalidError, KernelError, NotFoundError, quote
from pycontain.image import reference
from pycontain.oci import codec
from pycontain.syscalls import constants as c
from pycontain.syscalls import kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pycontain.image.reference import Reference

_RECORD_LIMIT = 8 << 20


class Image:
    """One stored image.

    name      as docker shows it ("busybox:latest"), "" when it has none
    id        "sha256:…" of its configuration
    digest    "sha256:…" of its manifest
    config    the execution configuration (`Env`, `Cmd`, …), types already checked
    size      bytes of the unpacked layers
    layers    digests of the stored layer blobs
    created   RFC 3339, "" when unknown
    boot      ID of the boot whose page cache may still hold parts of it, "" once all is on disk
    """

    __slots__ = (
        "architecture", "boot", "chain_ids", "config", "created", "diff_ids", "digest", "id",
        "layers", "name", "os", "size", "variant",
    )  # fmt: skip

    def __init__(self, name: str, record: dict[str, Any]) -> None:
        self.name = name
        self.id: str = record["id"]
        self.digest: str = record["digest"]
        self.config: dict[str, Any] = record["config"]
        self.diff_ids: list[str] = record["diff_ids"]
        self.chain_ids: list[str] = record["chain_ids"]
        self.layers: list[str] = record["layers"]
        self.size: int = record["size"]
        self.architecture: str = record["architecture"]
        self.os: str = record["os"]
        self.variant: str = record["variant"]
        self.created: str = record["created"]
        self.boot: str = record["boot"]

    def wrong(self) -> str:
        """Return the first field that is not of its type, "" when all are."""
        for name in ("id", "digest", "architecture", "os", "variant", "created", "boot"):
            if type(getattr(self, name)) is not str:
                return name
        for name in ("diff_ids", "chain_ids", "layers"):
            found = getattr(self, name)
            if type(found) is not list or not all(type(item) is str for item in found):
                return name
        return (
            "size" if type(self.size) is not int else "" if type(self.config) is dict else "config"
        )

    def record(self) -> dict[str, Any]:
        """Return what is written to disk; the name is not part of it."""
        return {key: getattr(self, key) for key in self.__slots__ if key != "name"}


class ImageStore:
    """The images under one data root."""

    __slots__ = ("root",)

    def __init__(self, data_root: str) -> None:
        self.root = data_root

    # read side

    def hold(self) -> int:
        """Keep images from being removed until the descriptor returned is closed.

        For who makes a container: from before `resolve` until the record that names its layers is
        written. -1 when there are no images.
        """
        return self._lock(c.LOCK_SH)

    def alone(self) -> int:
        """Wait until nobody holds images; nobody can until the descriptor returned is closed."""
        return self._lock(c.LOCK_EX)

    def _lock(self, operation: int) -> int:
        path = self.root + "/images"
        try:
            fd = posix.open(path, trees.DIRECTORY)
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise KernelError("open", path, error) from None
        while True:
            try:
                kernel.flock(fd, operation)
                return fd
            except InterruptedError:
                continue
            except OSError as error:
                posix.close(fd)
                raise KernelError("lock", path, error, call="flock") from None

    def resolve(self, name: str) -> Image:
        """Return the image a name, an ID, or the beginning of an ID stands for.

        Raises NotFoundError, ConflictError when an ID's beginning is ambiguous, InvalidError for a
        name that breaks the grammar.
        """
        digits = name.removeprefix("sha256:")
        if reference.is_hex(digits) and (len(digits) == 64 or digits != name):
            return self._by_id(digits, name)
        wanted = reference.parse(name)
        if wanted.digest:
            return self._by_digest(wanted)
        image = self._read(self._tag_path(wanted), str(wanted))
        if image is None and reference.is_hex(digits) and len(digits) >= 4:
            return self._by_id(digits, name)
        if image is None:
            # Raises when the store cannot be read: then nothing is known of the image.
            self._ids()
            raise _not_found(name)
        return image

    def images(
        self, damaged: Callable[[str], object] | None = None
    ) -> list[tuple[Image, list[str]]]:
        """Return every image with all its names, newest first.

        Raises InvalidError for a damaged record; with `damaged` that is told of it instead.
        """
        names = self.names()
        found = []
        for digits in self._ids():
            try:
                image = self._read(f"{self.root}/images/{digits}", "")
            except NotFoundError:
                continue
            except InvalidError as error:
                if damaged is None:
                    raise
                damaged(str(error))
                continue
            if image is not None:
                known = sorted(names.get(image.id, []))
                image.name = known[0] if known else ""
                found.append((image, known))
        found.sort(key=lambda pair: (pair[0].created, pair[0].id), reverse=True)
        return found

    def names(self) -> dict[str, list[str]]:
        """Return image ID -> names, for every tag whose record exists."""
        found: dict[str, list[str]] = {}
        for tag, path in self._tags():
            try:
                digits = posix.readlink(path).rpartition("/")[2]
                posix.stat(path)
            except OSError:
                continue
            found.setdefault("sha256:" + digits, []).append(str(tag))
        return found

    def document(self, digest: str) -> dict[str, object]:
        """Return a stored manifest or configuration, for inspect and history."""
        return codec.load_object(self.blob(digest), f"blob {digest}")

    def blob(self, digest: str, limit: int = _RECORD_LIMIT) -> bytes:
        """Return the content of a small stored blob. Raises NotFoundError, KernelError."""
        try:
            return trees.read_file(self.blob_path(digest), limit)
        except FileNotFoundError:
            raise NotFoundError(f"blob {digest}: not in the store") from None
        except OSError as error:
            raise KernelError("read blob", self.blob_path(digest), error) from error

    def blob_path(self, digest: str) -> str:
        """Return where the blob of a `sha256:…` digest is kept."""
        return f"{self.root}/blobs/sha256/{digest.removeprefix('sha256:')}"

    def _read(self, path: str, name: str) -> Image | None:
        try:
            content = trees.read_file(path, _RECORD_LIMIT)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise KernelError("read image record", path, error) from error
        record = codec.load_object(content, f"image record {path}")
        hint = "another version of pycontain wrote it: load the image again"
        try:
            image = Image(name, record)
        except KeyError as error:
            raise InvalidError(f"image record {path}: lacks {error}", hint=hint) from None
        if wrong := image.wrong():
            raise InvalidError(f"image record {path}: {wrong} is wrong", hint=hint)
        if image.boot and image.boot != boot_id():
            why = "was not yet on disk when the machine went down"
            raise NotFoundError(f'image "{name or image.id}": {why}', hint="load it again")
        return image

    def _by_id(self, digits: str, asked: str) -> Image:
        found = [known for known in self._ids() if known.startswith(digits)]
        if len(found) > 1:
            raise ConflictError(f"image ID {quote(asked)} is ambiguous: {len(found)} images match")
        image = self._read(f"{self.root}/images/{found[0]}", "") if found else None
        if image is None:
            raise _not_found(asked)
        image.name = min(self.names().get(image.id, [""]))
        return image

    def _by_digest(self, wanted: Reference) -> Image:
        for image, names in self.images(damaged=lambda _: None):
            repositories = {reference.parse(name).repository for name in names}
            if wanted.digest in (image.digest, image.id) and wanted.repository in repositories:
                image.name = str(wanted)
                return image
        raise _not_found(str(wanted))

    def _ids(self) -> list[str]:
        return [n for n in _listing(f"{self.root}/images") if len(n) == 64 and reference.is_hex(n)]

    def _tags(self) -> Iterator[tuple[Reference, str]]:
        for repository in _listing(f"{self.root}/tags"):
            domain, _, path = repository.replace("+", "/").partition("/")
            for tag in _listing(f"{self.root}/tags/{repository}", stray=True):
                if reference.is_tag(tag):
                    where = f"{self.root}/tags/{repository}/{tag}"
                    yield reference.Reference(domain, path, tag, ""), where

    def _tag_path(self, name: Reference) -> str:
        return f"{self.root}/tags/{name.repository.replace('/', '+')}/{name.tag}"

    # write side

    def prepare(self) -> None:
        """Make the store's directories; only the owner may enter (layers hold setuid programs)."""
        for path in ("", "/blobs", "/blobs/sha256", "/images", "/tags"):
            trees.make_directories(self.root + path)

    def commit(self, image: Image) -> None:
        """Write the record: from here on the image exists."""
        path = f"{self.root}/images/{image.id.removeprefix('sha256:')}"
        try:
            trees.write_atomic(path, codec.dumps(image.record()))
        except OSError as error:
            raise KernelError("write image record", path, error) from error

    def tag(self, source: str, name: str) -> Image:
        """Give the image `source` a further name; the name moves if another image had it."""
        image = self.resolve(source)
        target = reference.parse(name)
        if target.digest:
            raise InvalidError(f'image name "{quote(name)}": a tag cannot hold a digest')
        self.point(target, image.id)
        return self.resolve(name)

    def point(self, name: Reference, image_id: str) -> None:
        """Let `name` stand for an image, atomically."""
        path = self._tag_path(name)
        directory = path.rpartition("/")[0]
        temporary = f"{directory}/.tmp-{posix.urandom(8).hex()}"
        target = f"../../images/{image_id.removeprefix('sha256:')}"
        while True:
            trees.make_directories(directory)
            try:
                posix.symlink(target, temporary)
                posix.rename(temporary, path)
                break
            except FileNotFoundError:
                continue  # the last tag of this repository was removed at the same moment
            except OSError as error:
                raise KernelError("write image name", path, error) from error
        trees.sync_directory(directory)

    def remove(
        self, name: str, *, force: bool = False, users: Iterable[tuple[str, str]] = ()
    ) -> list[str]:
        """Untag, and remove the record with its last name; return what docker prints.

        `users` are (container, image ID) of every container. Blobs and snapshots stay until garbage
        is collected. Raises NotFoundError, and ConflictError while a container uses the image or,
        by ID and without `force`, while it has several names.
        """
        try:
            image = self.resolve(name)
        except InvalidError:
            if not self._drop_damaged(name):
                raise
            return [f"Untagged: {name}"]
        names = self.names().get(image.id, [])
        by_name = name if name in names else (image.name if image.name in names else "")
        by_id = reference.is_hex(name.removeprefix("sha256:")) and not self._is_tag(name)
        if by_name and not by_id and len(names) > 1:
            return self._untag([by_name])
        if len(names) > 1 and not force:
            raise ConflictError(f"image {image.id[7:19]} has several names", hint="use --force")
        for container, used in users:
            if used == image.id:
                why = f"image {quote(name)} is used by container {quote(container)}"
                raise ConflictError(why, hint="remove the container first")
        lines = self._untag(names)
        _unlink(f"{self.root}/images/{image.id.removeprefix('sha256:')}")
        return [*lines, f"Deleted: {image.id}"]

    def _drop_damaged(self, name: str) -> bool:
        """Remove a name whose record cannot be read, and the record; return whether it was one."""
        try:
            path = self._tag_path(reference.parse(name))
            posix.stat(path)
        except (OSError, InvalidError):
            return False
        digits = posix.readlink(path).rpartition("/")[2]
        self._untag(self.names().get("sha256:" + digits, []))
        _unlink(f"{self.root}/images/{digits}")
        return True

    def _is_tag(self, name: str) -> bool:
        try:
            posix.lstat(self._tag_path(reference.parse(name)))
        except (OSError, InvalidError):
            return False
        return True

    def _untag(self, names: list[str]) -> list[str]:
        for name in names:
            path = self._tag_path(reference.parse(name))
            _unlink(path)
            try:
                posix.rmdir(path.rpartition("/")[0])
            except OSError:
                # It has other tags, or somebody else removed it.
                continue
        return [f"Untagged: {name}" for name in names]


def boot_id() -> str:
    """Return what the kernel calls this boot (random(4)), "" when it does not tell."""
    try:
        return trees.read_file("/proc/sys/kernel/random/boot_id", 64).decode().strip()
    except OSError:
        return ""


def _not_found(name: str) -> NotFoundError:
    hint = "load one with: pycontain load -i FILE; see: pycontain images"
    return NotFoundError(f'image "{quote(name)}": not found', hint=hint)


def _listing(path: str, *, stray: bool = False) -> list[str]:
    """Return the names in a directory, none when it is missing or, with `stray`, a file."""
    try:
        return sorted(posix.listdir(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        if stray and error.errno == errno.ENOTDIR:
            return []
        raise KernelError("list images", path, error) from None


def _unlink(path: str) -> None:
    try:
        trees.remove(path)
    except OSError as error:
        raise KernelError("remove", path, error, call="unlink") from None
