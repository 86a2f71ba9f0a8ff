"""From an archive to committed snapshots and an image record: load, import, remove.

Owns the order in which the store and the snapshots change: blobs, snapshots, record, names; each
appears whole or not at all, so a kill at any moment leaves the image absent or complete. What was
added without a record is garbage, collected at the next chance under the exclusive lock.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from pycontain import cures
from pycontain.engine import mountpoints
from pycontain.engine.store import Store
from pycontain.errors import InvalidError, KernelError, PycontainError, UsageError, quote
from pycontain.image import archive, blobs, config, layer, opening, pipeline, reference
from pycontain.image.config import Config
from pycontain.image.source import StreamSource
from pycontain.image.store import Image, ImageStore, boot_id
from pycontain.oci import codec
from pycontain.oci import image as oci
from pycontain.rootfs import probe, userns
from pycontain.rootfs.snapshotter import Snapshotter
from pycontain.rootfs.stage import Stages

if TYPE_CHECKING:
    from pycontain.image.archive import Candidate
    from pycontain.image.layer import Unpacked
    from pycontain.image.pipeline import Blob, Progress

Notice = Callable[[str], None]


def load(
    data_root: str,
    source: str,
    *,
    name: str = "",
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> list[Image]:
    """Load every image of an archive; return them as stored, one per name.

    `source` is a path (docker-archive, OCI archive, OCI layout directory, or with `name` a plain
    rootfs tar) or "-" for standard input. `name` replaces the names the archive has.
    `progress(done, total, label)` counts bytes, total 0 when unknown; `notice` takes warnings.
    Raises InvalidError for anything broken or hostile, KernelError when the host fails, and leaves
    nothing behind then.
    """
    return _work(_load, (data_root, source, name, progress), source, notice)


def import_rootfs(
    data_root: str,
    source: str,
    name: str,
    *,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Image:
    """Make an image of one layer from a root file system's tar (a path or "-")."""
    return _work(_import, (data_root, source, name, progress), source, notice)[0]


def import_from_host(
    data_root: str, name: str, binaries: list[str], *, notice: Notice | None = None
) -> Image:
    """Make an image of programs of this host and what they need to run; see `build.from_host`."""
    from pycontain.image import build

    layer, command = build.host_layer(binaries, 0)
    with tempfile.TemporaryDirectory(prefix="pycontain-") as directory:
        path = f"{directory}/image.tar"
        build.write_archive(path, name, layer, command, 0, compress=False)
        return load(data_root, path, name=name, notice=notice)[0]


def remove(data_root: str, name: str, *, force: bool = False) -> list[str]:
    """Remove an image or one of its names and what only it needs; see `ImageStore.remove`."""
    images, containers = ImageStore(data_root), Store(data_root, "")
    held = images.alone()
    try:
        # No container is being made now: each that uses the image has its record.
        users = [(record.name, record.image_id) for record in containers.records()]
        lines = images.remove(name, force=force, users=users)
    finally:
        if held >= 0:
            os.close(held)
    collect(data_root)
    return lines


def collect(data_root: str) -> bool:
    """Remove what no image needs; False when a load is under way, which will do it."""
    if os.geteuid() != 0:
        # Snapshots hold files of subordinate ids.
        return bool(userns.run(_collect, data_root))
    return _collect(data_root)


def _collect(data_root: str) -> bool:
    try:
        return _sweep(ImageStore(data_root), Stages(Snapshotter(data_root)))
    except OSError as error:
        raise KernelError("collect garbage", error.filename or data_root, error) from error


def _sweep(store: ImageStore, stages: Stages) -> bool:
    store.prepare()
    stages.prepare()
    with blobs.lock(store, exclusive=True, wait=False) as alone:
        if alone:
            images = [image for image, _ in store.images(damaged=lambda _: None)]
            kept = {d for i in images for d in (i.id, i.digest, *i.layers)}
            stored = blobs.Blobs(store)
            stored.sweep(kept)
            stored.settle(images)
            # An image may be gone, damaged or replaced while a container still stands on it.
            live = {chain_id for image in images for chain_id in image.chain_ids}
            for record in Store(store.root, "").records():
                live.update(record.chain_ids)
            stages.sweep(live)
        return alone


def _work(
    task: Callable[..., dict[str, Any]],
    arguments: tuple[object, ...],
    source: str,
    notice: Notice | None,
) -> list[Image]:
    """Run a task as root: of the host, or of a user namespace; return the images it stored."""
    try:
        if os.geteuid() == 0:
            done = task(*arguments, None)
        else:
            done = cast("dict[str, Any]", userns.run(task, *arguments, userns.id_maps().count))
    except OSError as error:
        raise KernelError("load", error.filename or source, error) from error
    for text in done["notices"] if notice else ():
        cast("Notice", notice)(text)
    return [Image(name, record) for name, record in done["images"]]


def _load(
    data_root: str, source: str, name: str, progress: Progress | None, ids: int | None
) -> dict[str, Any]:
    loader = _Loader(data_root, progress, ids)
    return loader.result(loader.load(source, name))


def _import(
    data_root: str, source: str, name: str, progress: Progress | None, ids: int | None
) -> dict[str, Any]:
    loader = _Loader(data_root, progress, ids)
    return loader.result([loader.import_rootfs(source, name)])


class _Loader:
    """One load. `ids` is how many user ids are mapped, None for all of them."""

    def __init__(self, data_root: str, progress: Progress | None, ids: int | None) -> None:
        self.root = data_root
        self.store = ImageStore(data_root)
        self.blobs = blobs.Blobs(self.store)
        self.snapshots = Snapshotter(data_root)
        self.stages = Stages(self.snapshots)
        self.progress = progress
        self.notices: list[str] = []
        self.ids = ids
        self.driver = ""

    def result(self, images: list[Image]) -> dict[str, Any]:
        """Return the outcome as plain data: it may have to leave a child process."""
        found = [[image.name, image.record()] for image in images]
        return {"images": found, "notices": self.notices}

    @contextmanager
    def working(self) -> Iterator[None]:
        """Clear what a crash left, keep collectors out, and give back the space after a failure."""
        _collect(self.root)
        try:
            with blobs.lock(self.store):
                self.driver = probe.write_driver(self.stages.path)
                yield
        except BaseException as error:
            if isinstance(error, KernelError) and error.number in cures.FULL:
                error.hint = cures.cure(error.number, self.root)
            self.give_back()
            raise

    def load(self, source: str, name: str) -> list[Image]:
        target = reference.parse(name) if name else None
        if target and target.digest:
            raise UsageError(f"{quote(name)}: an image cannot be loaded under a digest")
        with (
            self.working(),
            opening.opened(source, self.root, self.progress, rootfs=bool(name)) as opened,
        ):
            files = opened.files
            found = archive.candidates(files, opened.what) if files else []
            if not found:
                return [self.rootfs(opened.whole, opened.what, name)]
            if name and len(found) > 1:
                raise UsageError(f"{opened.what}: holds {len(found)} images, one name given")
            # Every name is checked before the first layer is read.
            names = [[target] if target else _names(c) for c in found]
            return [i for c, n in zip(found, names, strict=True) for i in self.image(c, n)]

    def import_rootfs(self, source: str, name: str) -> Image:
        reference.parse(name)
        with self.working(), opening.whole(source, self.root, self.progress) as whole:
            return self.rootfs(whole, whole.what, name)

    def give_back(self) -> None:
        """Free what a failed load has stored; the first error is the one to report."""
        try:
            _collect(self.root)
        except (OSError, PycontainError):
            # The next load or removal collects it.
            return

    def rootfs(self, whole: Blob | None, what: str, name: str) -> Image:
        """Store an image of one layer that nobody has described."""
        if whole is None or not name:
            hint = "to load a plain root file system, name it: -t NAME"
            raise InvalidError(f"{what}: no image archive (manifest.json or oci-layout)", hint=hint)
        digest, diff_id = self.layer(whole, [], "", "root file system")
        content = codec.dumps(
            {
                "architecture": archive.host_architecture(),
                "os": "linux",
                "config": {},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
                "history": [{"comment": "imported root file system"}],
            },
            sort=True,
        )
        return self.record(Config(content), b"", [digest], [reference.parse(name)])[0]

    def image(self, candidate: Candidate, names: list[reference.Reference]) -> list[Image]:
        """Store one image of an archive."""
        settings = candidate.config
        if settings.architecture not in ("", archive.host_architecture()):
            self.notices.append(f"image is for {quote(settings.architecture)}, this machine is not")
        digests = []
        for n, (blob, diff_id) in enumerate(zip(candidate.layers, settings.diff_ids, strict=True)):
            label = f"layer {n + 1}/{len(candidate.layers)}"
            digests.append(self.layer(blob, settings.chain_ids[:n], diff_id, label)[0])
        return self.record(settings, candidate.manifest, digests, names)

    def record(
        self,
        settings: Config,
        manifest: bytes,
        digests: list[str],
        names: list[reference.Reference],
    ) -> list[Image]:
        """Write what makes an image of stored layers: documents, record, names, in this order."""
        self.blobs.put(settings.content)
        record = {
            "id": settings.id,
            "digest": self.blobs.put(manifest or self.manifest(settings, digests)),
            "config": settings.execution,
            "diff_ids": settings.diff_ids,
            "chain_ids": settings.chain_ids,
            "layers": digests,
            "size": sum(map(self.stages.size, settings.chain_ids)),
            "architecture": settings.architecture,
            "os": settings.os,
            "variant": settings.variant,
            "created": settings.created,
            "boot": boot_id(),
        }
        if self.driver.startswith("overlay") and settings.chain_ids:
            mountpoints.make(self.snapshots, settings.chain_ids)
        self.store.commit(Image("", record))
        for name in names:
            self.store.point(name, settings.id)
        return [Image(str(name), record) for name in names] or [Image("", record)]

    def manifest(self, settings: Config, digests: list[str]) -> bytes:
        """Return a manifest for an image that came without one (docker-archive)."""
        layers = [self.descriptor(oci.LAYER, digest) for digest in digests]
        document = {
            "schemaVersion": 2,
            "mediaType": oci.MANIFEST,
            "config": self.descriptor(oci.CONFIG, settings.id),
            "layers": layers,
        }
        return codec.dumps(document, sort=True)

    def descriptor(self, media_type: str, digest: str) -> dict[str, object]:
        size = os.stat(self.store.blob_path(digest)).st_size
        return {"mediaType": media_type, "digest": digest, "size": size}

    def layer(self, blob: Blob, below: list[str], diff_id: str, label: str) -> tuple[str, str]:
        """Verify one layer, keep its blob, and unpack it above the chain IDs `below`.

        `diff_id` "" accepts any. Returns the blob's digest and the diff ID.
        """
        done = None
        with self.blobs.incoming() as (fd, temporary):
            keep = -1 if self.blobs.has(blob.digest) else fd
            with (
                self.stages.stage() as (directory, commit),
                pipeline.Pass(blob, keep, self.progress, label) as chunks,
            ):
                source = StreamSource(iter(chunks), f"{blob.what}: {label}")
                if not diff_id or not self.stages.has(config.chain_id(below, diff_id)):
                    done = self.unpack(source, directory, below)
                source.drain()
                _check_diff_id(chunks.diff_id, diff_id, blob.what)
                if done:
                    commit(config.chain_id(below, chunks.diff_id), done.size)
            if keep >= 0:
                self.blobs.commit(temporary, chunks.blob_digest)
        if done:
            self.notices += [f"{blob.what}: {count} {what}" for what, count in done.skipped.items()]
        return chunks.blob_digest, chunks.diff_id

    def unpack(self, source: StreamSource, directory: str, below: list[str]) -> Unpacked:
        lowers = [self.snapshots.diff(chain_id) for chain_id in reversed(below)]
        userxattr = "userxattr" in self.driver
        return layer.unpack(source, directory, lowers, userxattr=userxattr, ids=self.ids)


def _names(candidate: Candidate) -> list[reference.Reference]:
    found = [reference.parse(name) for name in candidate.names]
    if any(name.digest for name in found):
        raise InvalidError("archive names an image by digest")
    return found


def _check_diff_id(found: str, wanted: str, what: str) -> None:
    if wanted and found != wanted:
        raise InvalidError(f"{what}: diff ID does not match: want {wanted}, layer has {found}")
