"""JSON in and out, strict, through the C scanner and encoder of `_json`.

Owns how every JSON document of the project is read and written: bundles, state, image manifests and
configs. What the fields mean is left to the caller. The `json` package is not imported (it costs
1.2 ms through `re`) unless a malformed document has to be described.

Stricter than `json.loads`: UTF-8 only, no NaN or infinity, no duplicate key, no lone surrogate,
nothing after the document; what is wrong is one InvalidError with the document and the offset.
"""

from __future__ import annotations

import _json

from pycontain.errors import InvalidError, PycontainError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_BLANK = " \t\n\r"


def loads(data: bytes, what: str, *, lone_surrogates: bool = False) -> object:
    """Return the value of one JSON document; `what` names it in the error ("config.json").

    `lone_surrogates` admits what `dumps` makes of a path that is not UTF-8: for our own files only.
    Raises InvalidError.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _invalid(what, "not valid UTF-8", error.start) from None
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = _scan(text, start)
    except StopIteration as stop:
        raise _invalid(what, _unexpected(text, stop.value), stop.value) from None
    except _RefusedError as error:
        raise InvalidError(f"{what}: {error.args[0]}") from None
    except RecursionError:
        raise InvalidError(f"{what}: nested too deep") from None
    except (ValueError, SystemError):
        _explain(what, text, start)
    rest = text[end:].lstrip(_BLANK) if end < len(text) else ""
    if rest:
        raise _invalid(what, "unexpected text after the document", len(text) - len(rest))
    if not lone_surrogates and "\\u" in text:
        _refuse_lone_surrogates(value, what)
    return value


def load_object(data: bytes, what: str, *, lone_surrogates: bool = False) -> dict[str, object]:
    """As `loads`, for a document that must be an object."""
    value = loads(data, what, lone_surrogates=lone_surrogates)
    if not isinstance(value, dict):
        raise InvalidError(f"{what}: must be an object, not {kind(value)}")
    return value


def dumps(value: object, *, sort: bool = False) -> bytes:
    """Return `value` as compact ASCII JSON; `sort` orders the keys (for digests).

    Raises InvalidError for a value that is no JSON (NaN, nesting beyond the interpreter's limit).
    """
    encode = _encode_sorted if sort else _encode
    try:
        return "".join(encode(value, 0)).encode("ascii")
    except RecursionError:
        raise InvalidError("document nested too deep to be written") from None
    except ValueError as error:
        raise InvalidError(f"document cannot be written as JSON: {error}") from None


def kind(value: object) -> str:
    """Return the JSON name of the type of `value`, with its article, for messages."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "a boolean"
    return _KINDS.get(type(value), "an unknown type")


_KINDS: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a fractional number",
    list: "an array",
    dict: "an object",
}


class _RefusedError(Exception):
    """A hook below refuses the document; carries the reason."""


class _Context:
    """What `_json.make_scanner` reads its settings from."""

    strict = True
    object_hook = None
    parse_int = int

    @staticmethod
    def object_pairs_hook(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            _refuse_duplicate(pairs)
        return found

    @staticmethod
    def parse_float(text: str) -> float:
        number = float(text)
        if number - number != 0.0:
            raise _RefusedError(f"number {text[:40]} is out of range")
        return number

    @staticmethod
    def parse_constant(text: str) -> NoReturn:
        raise _RefusedError(f"{text} is no JSON number")


def _refuse_duplicate(pairs: list[tuple[str, object]]) -> NoReturn:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _RefusedError(f"duplicate key {key[:80]!r}")
        seen.add(key)
    raise _RefusedError("duplicate key")


def _default(value: object) -> NoReturn:
    raise ValueError(f"a value of type {type(value).__name__}")


_scan = _json.make_scanner(_Context)  # type: ignore[arg-type]
_encode = _json.make_encoder(
    None, _default, _json.encode_basestring_ascii, None, ":", ",", False, False, False
)
_encode_sorted = _json.make_encoder(
    None, _default, _json.encode_basestring_ascii, None, ":", ",", True, False, False
)


def _invalid(what: str, why: str, offset: int) -> PycontainError:
    return InvalidError(f"{what}: {why} at offset {offset}")


def _unexpected(text: str, offset: int) -> str:
    if offset >= len(text):
        return "empty" if not text.strip(_BLANK) else "ends too early"
    return f"no JSON value begins with {text[offset]!r}"


def _explain(what: str, text: str, start: int) -> NoReturn:
    # Before 3.12 the scanner describes an error only when json.decoder is loaded already, and
    # raises a bare SystemError otherwise: load it and scan again.
    import json.decoder
    import re

    try:
        _scan(text, start)
    except json.decoder.JSONDecodeError as error:
        why = error.msg[:1].lower() + error.msg[1:]
        raise _invalid(what, why.removesuffix(" at"), error.pos) from None
    except ValueError:
        found = re.search(r"[0-9]{4300,}", text)
        offset = found.start() if found else 0
        raise _invalid(what, "number with too many digits", offset) from None
    raise InvalidError(f"{what}: malformed JSON")


def _refuse_lone_surrogates(value: object, what: str) -> None:
    plain = _json.make_encoder(
        None, _default, _json.encode_basestring, None, ":", ",", False, False, False
    )
    try:
        "".join(plain(value, 0)).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidError(f"{what}: lone surrogate escape (\\ud800 to \\udfff)") from None


def dumps_indented(value: object, indent: str = "  ") -> bytes:
    """Return `value` as JSON for people: one field a line, keys in their order, a newline last."""
    return (_indented(value, indent, "\n") + "\n").encode("ascii")


def _indented(value: object, indent: str, newline: str) -> str:
    inner = newline + indent
    if isinstance(value, dict) and value:
        fields = [
            f"{_json.encode_basestring_ascii(str(k))}: {_indented(v, indent, inner)}"
            for k, v in value.items()
        ]
        return "{" + inner + ("," + inner).join(fields) + newline + "}"
    if isinstance(value, list) and value:
        items = [_indented(item, indent, inner) for item in value]
        return "[" + inner + ("," + inner).join(items) + newline + "]"
    return dumps(value).decode("ascii")
