"""JSON is read strictly and written compactly."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import InvalidError
from pycontain.oci import codec

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.text(st.characters(codec="utf-8")), inner, max_size=4
    ),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert codec.loads(codec.dumps(value), "x") == value


@given(VALUES)
def test_the_standard_library_reads_the_same(value: object) -> None:
    assert json.loads(codec.dumps(value)) == value
    assert json.loads(codec.dumps_indented(value)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "empty at offset 0"),
        (b"  \n", "empty at offset 3"),
        (b"{", "offset 1"),
        (b'{"a":1} x', "unexpected text after the document at offset 8"),
        (b'{"a":1,"a":2}', "duplicate key 'a'"),
        (b'[{"b":1,"b":2}]', "duplicate key 'b'"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"1e999", "out of range"),
        (b"-1e999", "out of range"),
        (b"9" * 5000, "too many digits at offset 0"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits at offset 6"),
        (b'"\xff"', "not valid UTF-8 at offset 1"),
        (b"[" * 100000, "nested too deep"),
        (b'{"a":' * 100000, "nested too deep"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udcff":1}', "lone surrogate"),
        (b'{"a" 1}', "expecting ':' delimiter at offset 5"),
        (b'"a\nb"', "invalid control character at offset 2"),
        (b'"abc', "unterminated string"),
        (b"[1,]", "no JSON value begins with ']' at offset 3"),
        (b"\xef\xbb\xbf{}", "no JSON value begins with"),
        (b"01", "unexpected text"),
        (b"nul", "no JSON value begins with 'n'"),
    ],
)
def test_a_broken_document_is_one_line_with_its_name(text: bytes, why: str) -> None:
    with pytest.raises(InvalidError) as caught:
        codec.loads(text, "config.json")
    message = str(caught.value)
    assert message.startswith("config.json: ")
    assert why in message
    assert "\n" not in message


def test_surrogate_pairs_are_one_character() -> None:
    assert codec.loads(b'"\\ud83d\\ude00"', "x") == "\N{GRINNING FACE}"


def test_our_own_files_may_hold_a_path_that_is_not_utf8() -> None:
    path = b"/tmp/\xff".decode("utf-8", "surrogateescape")
    assert codec.loads(codec.dumps(path), "state.json", lone_surrogates=True) == path


def test_white_space_around_the_document_is_fine() -> None:
    assert codec.loads(b"\r\n\t {} \n", "x") == {}


def test_an_object_is_demanded_by_load_object() -> None:
    with pytest.raises(InvalidError, match="must be an object, not an array"):
        codec.load_object(b"[]", "config.json")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", {"a": object()}])
def test_what_is_no_json_is_not_written(value: object) -> None:
    with pytest.raises(InvalidError):
        codec.dumps(value)


def test_sorted_keys_make_equal_documents_equal_bytes() -> None:
    assert codec.dumps({"b": 1, "a": 2}, sort=True) == b'{"a":2,"b":1}'
    assert codec.dumps({"b": 1, "a": 2}) == b'{"b":1,"a":2}'


@pytest.mark.parametrize(
    ("value", "word"),
    [(None, "null"), (True, "a boolean"), (1, "a number"), (1.5, "a fractional number"),
     ("", "a string"), ([], "an array"), ({}, "an object")],
)  # fmt: skip
def test_kinds_are_named_in_words(value: object, word: str) -> None:
    assert codec.kind(value) == word
