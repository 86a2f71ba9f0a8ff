"""What a load that is refused says, and what it leaves: nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pycontain.engine import unpack
from pycontain.errors import PycontainError

if TYPE_CHECKING:
    from pathlib import Path


def is_empty(root: Path) -> bool:
    """Tell whether nothing but the store's own directories is left."""
    files = [p for p in root.rglob("*") if not p.is_dir() and p.name not in ("lock", "driver")]
    return not files and not [
        p for p in (root / "snapshots").iterdir() if p.name not in ("l", "driver")
    ]


def refused(root: Path, source: Path, *, name: str = "") -> str:
    with pytest.raises(PycontainError) as caught:
        unpack.load(str(root), str(source), name=name)
    assert str(caught.value).isprintable()
    assert is_empty(root)
    return str(caught.value)
