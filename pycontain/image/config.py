"""An image's configuration document, checked once where it comes in.

Owns the types and ranges of what is stored; what `Env`, `User` or `WorkingDir` mean to a
container is decided by `pycontain.spec`. Source: OCI image specification, config.md.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pycontain.errors import InvalidError, UnsupportedError, quote
from pycontain.image import reference
from pycontain.oci import codec

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 4 << 20
"""Bytes of a configuration, manifest or index."""
MAX_LAYERS = 127
"""What docker takes, and what overlay's options hold."""


class Config:
    """What the store needs of a configuration.

    `execution` holds the known keys of its `config`; `diff_ids` and `chain_ids` go from the lowest
    layer up.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.id = "sha256:" + hashlib.sha256(content).hexdigest()
        document = codec.load_object(content, "image config")
        self.os = _text(document, "os") or "linux"
        self.architecture = _text(document, "architecture")
        self.variant = _text(document, "variant")
        self.created = _text(document, "created")
        if self.os != "linux":
            raise UnsupportedError(f"image is for {quote(self.os)}, only linux images can run")
        self.diff_ids = _diff_ids(document)
        self.chain_ids = chain_ids(self.diff_ids)
        self.execution = _execution(document.get("config"))


def chain_id(below: list[str], diff_id: str) -> str:
    """Return the chain ID of a layer above the chain IDs `below` (config.md)."""
    if not below:
        return diff_id
    return "sha256:" + hashlib.sha256(f"{below[-1]} {diff_id}".encode()).hexdigest()


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return the chain ID of each layer: what it is together with all below it."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(chain_id(chain, diff_id))
    return chain


def _diff_ids(document: dict[str, object]) -> list[str]:
    rootfs = document.get("rootfs")
    if not isinstance(rootfs, dict) or rootfs.get("type", "layers") != "layers":
        raise InvalidError("image config: rootfs is missing or not made of layers")
    diff_ids = rootfs.get("diff_ids")
    if not isinstance(diff_ids, list) or not diff_ids:
        raise InvalidError("image config: rootfs.diff_ids is missing or empty")
    if len(diff_ids) > MAX_LAYERS:
        raise UnsupportedError(
            f"image has {len(diff_ids)} layers, at most {MAX_LAYERS} can be mounted"
        )
    for diff_id in diff_ids:
        known = isinstance(diff_id, str) and diff_id.startswith("sha256:")
        if not known or not reference.is_digest(diff_id):
            raise InvalidError(f"image config: malformed diff ID {quote(str(diff_id)[:100])}")
    return diff_ids


def _execution(value: object) -> dict[str, object]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidError(f"image config: config must be an object, not {codec.kind(value)}")
    found: dict[str, object] = {}
    for key, check in _EXECUTION.items():
        # Docker writes null for what is not set.
        if value.get(key) is None:
            continue
        if not check(value[key]):
            raise InvalidError(f"image config: config.{key} has the wrong type or holds a NUL byte")
        found[key] = value[key]
    return found


def _text(document: dict[str, object], key: str) -> str:
    value = document.get(key)
    if value is None:
        return ""
    if not _is_text(value) or len(str(value)) > 200:
        raise InvalidError(f"image config: {key} must be a short string")
    return str(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_set(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value))


def _is_map(value: object) -> bool:
    return _is_set(value) and isinstance(value, dict) and all(map(_is_text, value.values()))


_EXECUTION: dict[str, Callable[[object], bool]] = {
    "User": _is_text,
    "ExposedPorts": _is_set,
    "Env": _is_texts,
    "Entrypoint": _is_texts,
    "Cmd": _is_texts,
    "Volumes": _is_set,
    "WorkingDir": _is_text,
    "Labels": _is_map,
    "StopSignal": _is_text,
    "Healthcheck": lambda value: isinstance(value, dict),
    "Shell": _is_texts,
}
