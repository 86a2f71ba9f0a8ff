"""Image archives in, candidates out: docker-archive, OCI archive, OCI layout, plain rootfs tar.

Owns the documents inside (manifest.json, index.json, manifests) and which of several images is
meant. A candidate's layers are blobs still to be read: their digests are verified in the one pass
that unpacks them. Sources: OCI image specification (image-layout.md, manifest.md,
image-index.md); docker's image/spec v1.2 for manifest.json.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, NotFoundError, UnsupportedError, quote
from pycontain.image import config, reference
from pycontain.oci import codec, image

if TYPE_CHECKING:
    from pycontain.image.files import Files
    from pycontain.image.pipeline import Blob

_MAX_DEPTH = 4
_LAYERS = (
    image.LAYER, image.LAYER_GZIP, image.LAYER_ZSTD, image.DOCKER_LAYER, image.DOCKER_LAYER_GZIP,
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
)  # fmt: skip
_NAMES = ("io.containerd.image.name", image.REF_NAME)
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


class Candidate:
    """One image of an archive, its documents verified and its layers not yet read.

    `names` are as the archive has them, not yet parsed: the caller may have a better one.
    `manifest` is b"" where the format has none.
    """

    def __init__(
        self, names: list[str], manifest: bytes, content: bytes, layers: list[Blob]
    ) -> None:
        self.names = names
        self.manifest = manifest
        self.config = config.Config(content)
        self.layers = layers
        if len(layers) != len(self.config.diff_ids):
            known = len(self.config.diff_ids)
            raise InvalidError(f"image has {len(layers)} layers and {known} diff IDs")


def host_architecture() -> str:
    """Return this machine's architecture as images spell it ("amd64")."""
    machine = os.uname().machine
    return _MACHINES.get(machine, machine)


def candidates(files: Files, what: str) -> list[Candidate]:
    """Return the images of an archive; none means it is no image archive.

    Raises InvalidError for a broken or hostile one.
    """
    if files.blob("oci-layout") and files.blob("index.json"):
        return _Layout(files, what).candidates()
    manifest = files.blob("manifest.json")
    if manifest:
        return _docker(files, manifest, what)
    if files.blob("repositories"):
        hint = "save it again with docker 1.10 or newer"
        raise UnsupportedError(f"{what}: docker's format before 1.10 (no manifest.json)", hint=hint)
    return []


def _docker(files: Files, manifest: Blob, what: str) -> list[Candidate]:
    entries = codec.loads(manifest.read(config.LIMIT), f"{what}: manifest.json")
    if not isinstance(entries, list) or not entries:
        raise InvalidError(f"{what}: manifest.json must be a list of images")
    return [_docker_image(files, entry, what) for entry in entries]


def _docker_image(files: Files, entry: object, what: str) -> Candidate:
    if not isinstance(entry, dict):
        raise InvalidError(f"{what}: manifest.json must hold objects")
    paths, tags = entry.get("Layers"), entry.get("RepoTags") or []
    path = entry.get("Config")
    if not _is_texts(paths) or not _is_texts(tags) or not isinstance(path, str):
        raise InvalidError(f"{what}: manifest.json lacks Config or Layers, or has wrong types")
    assert isinstance(paths, list) and isinstance(tags, list)
    content = _member(files, path, what).read(config.LIMIT)
    return Candidate(tags, b"", content, [_member(files, layer, what) for layer in paths])


def _member(files: Files, path: str, what: str) -> Blob:
    directory, _, digits = path.rpartition("/")
    algorithm = directory.removeprefix("blobs/") if directory.startswith("blobs/") else ""
    digest = f"{algorithm}:{digits}" if algorithm else ""
    if digest and not reference.is_digest(digest):
        raise InvalidError(f"{what}: malformed digest in {quote(path[:300])}")
    blob = files.blob(path, digest)
    if blob is None:
        raise InvalidError(f"{what}: member {quote(path[:300])} is missing or no regular file")
    return blob


class _Layout:
    """An OCI layout: index.json and blobs/ALGORITHM/HEX."""

    def __init__(self, files: Files, what: str) -> None:
        self.files = files
        self.what = what

    def candidates(self) -> list[Candidate]:
        top = self.files.blob("index.json")
        assert top is not None
        index = self.parse(top.read(config.LIMIT), "index.json")
        found: dict[str, list[dict[str, Any]]] = {}
        for descriptor in self.manifests(index, "index.json"):
            if not _is_attestation(descriptor):
                found.setdefault(_name(descriptor), []).append(descriptor)
        if not found:
            raise InvalidError(f"{self.what}: index.json names no image")
        return [self.image(name, self.choose(group, name)) for name, group in found.items()]

    def image(self, name: str, descriptor: dict[str, Any], depth: int = 0) -> Candidate:
        content = self.blob(descriptor).read(config.LIMIT)
        where = str(descriptor["digest"])
        document = self.parse(content, where)
        if "manifests" in document:
            if depth >= _MAX_DEPTH:
                raise InvalidError(f"{self.what}: indexes nested deeper than {_MAX_DEPTH}")
            listed = [d for d in self.manifests(document, where) if not _is_attestation(d)]
            return self.image(name, self.choose(listed, name), depth + 1)
        return self.manifest(name, content, document, where)

    def manifest(
        self, name: str, content: bytes, document: dict[str, Any], where: str
    ) -> Candidate:
        settings, layers = document.get("config"), document.get("layers")
        if not isinstance(settings, dict) or not isinstance(layers, list):
            raise InvalidError(f"{self.what}: {where}: not an image manifest")
        if settings.get("mediaType") not in (image.CONFIG, image.DOCKER_CONFIG):
            kind = quote(str(settings.get("mediaType"))[:100])
            raise UnsupportedError(f"{self.what}: {where} is no container image but {kind}")
        blobs = []
        for layer in layers:
            if not isinstance(layer, dict) or layer.get("mediaType") not in _LAYERS:
                kind = quote(
                    str(layer.get("mediaType") if isinstance(layer, dict) else layer)[:100]
                )
                raise UnsupportedError(f"{self.what}: {where}: unknown layer type {kind}")
            blobs.append(self.blob(layer))
        names = [name] if name else []
        return Candidate(names, content, self.blob(settings).read(config.LIMIT), blobs)

    def choose(self, descriptors: list[dict[str, Any]], name: str) -> dict[str, Any]:
        """Return the one that fits this machine."""
        if len(descriptors) == 1 and "platform" not in descriptors[0]:
            return descriptors[0]
        wanted = host_architecture()
        fitting = [d for d in descriptors if _platform(d) in (("linux", wanted), ("", ""))]
        if not fitting:
            found = ", ".join(sorted({"/".join(_platform(d)) for d in descriptors})) or "nothing"
            shown = quote(name or self.what)
            raise NotFoundError(f"{shown}: no image for linux/{wanted}, only {quote(found[:200])}")
        return fitting[0]

    def manifests(self, index: dict[str, Any], where: str) -> list[dict[str, Any]]:
        found = index.get("manifests")
        if not isinstance(found, list) or not all(isinstance(d, dict) for d in found):
            raise InvalidError(f"{self.what}: {where}: manifests must be a list of descriptors")
        return found

    def parse(self, content: bytes, where: str) -> dict[str, Any]:
        document = codec.load_object(content, f"{self.what}: {where}")
        # CVE-2021-41190: a document read as a manifest here and as an index there.
        if "manifests" in document and ("layers" in document or "config" in document):
            raise InvalidError(f"{self.what}: {where} is a manifest and an index at once")
        if document.get("schemaVersion", 2) != 2:
            raise UnsupportedError(f"{self.what}: {where}: schema version 1 is not supported")
        return document

    def blob(self, descriptor: dict[str, Any]) -> Blob:
        digest, size = descriptor.get("digest"), descriptor.get("size")
        if not isinstance(digest, str) or not reference.is_digest(digest):
            raise InvalidError(f"{self.what}: malformed digest {quote(str(digest)[:200])}")
        blob = self.files.blob("blobs/" + digest.replace(":", "/"), digest)
        if blob is None:
            raise InvalidError(f"{self.what}: blob {digest} is missing")
        if type(size) is not int or size != blob.size:
            raise InvalidError(f"{self.what}: blob {digest} has {blob.size} bytes, want {size}")
        return blob


def _name(descriptor: dict[str, Any]) -> str:
    annotations = descriptor.get("annotations")
    if not isinstance(annotations, dict):
        return ""
    found = next((annotations[key] for key in _NAMES if annotations.get(key)), "")
    if not isinstance(found, str):
        raise InvalidError("annotation of the image's name must be a string")
    return found


def _is_attestation(descriptor: dict[str, Any]) -> bool:
    annotations = descriptor.get("annotations")
    kind = annotations.get("vnd.docker.reference.type") if isinstance(annotations, dict) else None
    return kind == "attestation-manifest" or _platform(descriptor) == ("unknown", "unknown")


def _platform(descriptor: dict[str, Any]) -> tuple[str, str]:
    found = descriptor.get("platform")
    if not isinstance(found, dict):
        return "", ""
    return str(found.get("os", "")), str(found.get("architecture", ""))


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
