"""JSON in, checked against a JSON Schema: the part of the schema language our files use.

Owns reading and checking. Errors name the file and the JSON path; a duplicate key, an unknown
key, a NaN or a wrong type is an error, never ignored.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from pycontain.errors import InvalidError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 20
Schema = dict[str, Any]


def load_json(path: Path) -> Any:
    """Return a JSON document of at most 1 MiB; anything wrong with it is InvalidError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise NotFoundError(f"no scenario file {path}") from None
    except OSError as error:
        raise InvalidError(f"read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise InvalidError(f"{path}: larger than {MAX_BYTES} bytes")
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str) -> Any:
    """Parse strictly: duplicate keys, NaN, bad UTF-8 and too much nesting are InvalidError."""
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidError(f"{where}: not JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key!r} stands twice")
        found[key] = value
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def check(value: Any, schema: Schema, where: str, path: str = "$") -> None:
    """Raise InvalidError at the first place where `value` breaks `schema`."""
    _check_type(value, schema, where, path)
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidError(f"{where}: {path}: {value!r} is not one of {_listed(schema['enum'])}")
    if isinstance(value, dict):
        _check_object(value, schema, where, path)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check(item, schema.get("items", {}), where, f"{path}[{index}]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_number(value, schema, where, path)


def _check_type(value: Any, schema: Schema, where: str, path: str) -> None:
    wanted = schema.get("type")
    if wanted and not _is(value, wanted):
        raise InvalidError(f"{where}: {path}: expected {wanted}, found {_named(value)}")


def _is(value: Any, wanted: str) -> bool:
    match wanted:
        case "object":
            return isinstance(value, dict)
        case "array":
            return isinstance(value, list)
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return number and math.isfinite(value)


def _named(value: Any) -> str:
    if value is None:
        return "null"
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
    return names.get(type(value), "number")


def _check_object(value: dict[str, Any], schema: Schema, where: str, path: str) -> None:
    properties = schema.get("properties", {})
    extra = schema.get("additionalProperties", True)
    for key in schema.get("required", ()):
        if key not in value:
            raise InvalidError(f"{where}: {path}: {key} is missing")
    for key, item in value.items():
        if key in properties:
            check(item, properties[key], where, f"{path}.{key}")
        elif extra is False:
            raise InvalidError(
                f"{where}: {path}: unknown key {key}", hint="known: " + ", ".join(properties)
            )
        elif isinstance(extra, dict):
            check(item, extra, where, f"{path}.{key}")


def _check_number(value: float, schema: Schema, where: str, path: str) -> None:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high = schema.get("maximum", 1e18)
    if (low is not None and value < low) or (above is not None and value <= above) or value > high:
        bound = f"at least {low}" if low is not None else f"more than {above}"
        raise InvalidError(f"{where}: {path}: {value} is out of range ({bound}, at most {high:g})")


def _listed(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values)
