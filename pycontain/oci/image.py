"""The documents of the OCI image specification 1.1 and of docker's archive format.

Types and media types only: descriptors, manifests, indexes, image configurations. Reading, digest
checks and rules live in `pycontain.image`. Every field is optional in the types, since a document
comes from outside and is checked before it is used.
"""

from __future__ import annotations

from typing import TypedDict

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP = LAYER + "+gzip"
LAYER_ZSTD = LAYER + "+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = DOCKER_LAYER + ".gzip"

REF_NAME = "org.opencontainers.image.ref.name"

Platform = TypedDict(
    "Platform",
    {
        "architecture": str,
        "os": str,
        "os.version": str,
        "os.features": list[str],
        "variant": str,
    },
    total=False,
)


class Descriptor(TypedDict, total=False):
    """Points at a blob by digest and size."""

    mediaType: str
    digest: str
    size: int
    urls: list[str]
    annotations: dict[str, str]
    data: str
    artifactType: str
    platform: Platform


class Index(TypedDict, total=False):
    """A list of manifests, by platform."""

    schemaVersion: int
    mediaType: str
    artifactType: str
    manifests: list[Descriptor]
    subject: Descriptor
    annotations: dict[str, str]


class Manifest(TypedDict, total=False):
    """A configuration and its layers, in order."""

    schemaVersion: int
    mediaType: str
    artifactType: str
    config: Descriptor
    layers: list[Descriptor]
    subject: Descriptor
    annotations: dict[str, str]


class Healthcheck(TypedDict, total=False):
    """Docker's extension of the image configuration; times in nanoseconds."""

    Test: list[str]
    Interval: int
    Timeout: int
    StartPeriod: int
    StartInterval: int
    Retries: int


class ExecutionConfig(TypedDict, total=False):
    """`config` of an image configuration; the keys are spelt as in the specification."""

    User: str
    ExposedPorts: dict[str, dict[str, object]]
    Env: list[str]
    Entrypoint: list[str]
    Cmd: list[str]
    Volumes: dict[str, dict[str, object]]
    WorkingDir: str
    Labels: dict[str, str]
    StopSignal: str
    Healthcheck: Healthcheck
    Shell: list[str]


class RootFS(TypedDict, total=False):
    """Digests of the uncompressed layers."""

    type: str
    diff_ids: list[str]


class History(TypedDict, total=False):
    """One step of the build."""

    created: str
    author: str
    created_by: str
    comment: str
    empty_layer: bool


ImageConfig = TypedDict(
    "ImageConfig",
    {
        "created": str,
        "author": str,
        "architecture": str,
        "os": str,
        "os.version": str,
        "os.features": list[str],
        "variant": str,
        "config": ExecutionConfig,
        "rootfs": RootFS,
        "history": list[History],
    },
    total=False,
)


class DockerManifest(TypedDict, total=False):
    """One entry of manifest.json in an archive that `docker save` wrote."""

    Config: str
    RepoTags: list[str] | None
    Layers: list[str]
