"""Completion of names of containers, images and volumes; silent on failure, as a shell wants it."""

from __future__ import annotations

from pycontain import paths
from pycontain.engine import volumes
from pycontain.engine.store import Store
from pycontain.errors import PycontainError
from pycontain.image.store import ImageStore


def names(word: str, beginning: str) -> list[str]:
    """Return the names for a positional shown as `word` (CONTAINER, …) that begin like this."""
    try:
        if word == "CONTAINER":
            known = [record.name for record in Store(paths.data_root(), paths.run_root()).records()]
        elif word == "IMAGE":
            store = ImageStore(paths.data_root())
            known = [name for _, every in store.images() for name in every]
        elif word == "VOLUME":
            known = [volume.name for volume in volumes.every(paths.data_root())]
        else:
            known = []
    except PycontainError:
        return []
    return [name for name in known if name.startswith(beginning)]
