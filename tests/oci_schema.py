"""The runtime specification's own JSON schema, where Debian's package of it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import referencing
from referencing.jsonschema import DRAFT4

PACKAGE = "golang-github-opencontainers-specs-dev"
DIRECTORY = Path("/usr/share/gocode/src/github.com/opencontainers/runtime-spec/schema")


class Schema:
    """One schema file and the files it refers to."""

    def __init__(self, name: str) -> None:
        if not DIRECTORY.is_dir():
            pytest.skip(f"needs Debian's {PACKAGE}")
        registry: Any = referencing.Registry().with_resources(
            (path.name, DRAFT4.create_resource(json.loads(path.read_text())))
            for path in DIRECTORY.glob("*.json")
        )
        self.resolver = registry.resolver(name)
        self.root = registry.contents(name)
        self._validator = jsonschema.Draft4Validator({"$ref": name}, registry=registry)

    def faults(self, document: Any) -> list[str]:
        """Return what the schema has against `document`, one line a fault."""
        found = self._validator.iter_errors(document)
        return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in found]
