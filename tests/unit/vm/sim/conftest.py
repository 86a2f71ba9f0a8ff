"""The builders of `simsupport` as a fixture: tests/ has no packages to import from."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="session")
def sim() -> ModuleType:
    """Return the module of builders."""
    file = Path(__file__).with_name("simsupport.py")
    spec = importlib.util.spec_from_file_location("simsupport", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
