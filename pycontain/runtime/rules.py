"""The checks config.json is described with: one function per kind of value.

A rule takes a value and raises RuleError when it does not fit; the rules for arrays and objects
add their place on the way out, so nothing is paid for a place while all is well. `validate` holds
the table.
"""

from __future__ import annotations

from pycontain.oci.codec import kind
from pycontain.runtime.relations import RuleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Rule: TypeAlias = Callable[[object], None]


def boolean(value: object) -> None:
    if value is not True and value is not False:
        raise RuleError(f"must be a boolean, not {kind(value)}")


def text(value: object) -> None:
    if type(value) is not str:
        raise RuleError(f"must be a string, not {kind(value)}")
    if "\0" in value:
        raise RuleError("must not hold a NUL byte")


def filled(value: object) -> None:
    text(value)
    if not value:
        raise RuleError("must not be empty")


def absolute(value: object) -> None:
    filled(value)
    if value[0] != "/":  # type: ignore[index]
        raise RuleError(f"must be an absolute path, not {value!r}")


def absolute_or_empty(value: object) -> None:
    text(value)
    if value and value[0] != "/":  # type: ignore[index]
        raise RuleError(f"must be an absolute path, not {value!r}")


def integer(low: int, high: int) -> Rule:
    def rule(value: object) -> None:
        if type(value) is not int:
            raise RuleError(f"must be a whole number, not {kind(value)}")
        if not low <= value <= high:
            raise RuleError(f"must be {low} to {high}, not {value}")

    return rule


def one_of(*words: str, wrong: str = "unknown value") -> Rule:
    known = frozenset(words)

    def rule(value: object) -> None:
        if type(value) is not str:
            raise RuleError(f"must be a string, not {kind(value)}")
        if value not in known:
            raise RuleError(f"{wrong} {value!r}, must be one of {', '.join(words)}")

    return rule


def texts(value: object) -> None:
    if type(value) is not list:
        raise RuleError(f"must be an array, not {kind(value)}")
    try:
        # One join finds a wrong type or a NUL byte at C speed: a seccomp profile holds 400 names.
        if "\0" not in "".join(value):
            return
    except TypeError:
        pass
    each(value, text)


def each(value: Iterable[object], rule: Rule) -> None:
    for index, item in enumerate(value):
        try:
            rule(item)
        except RuleError as bad:
            raise bad.at(index) from None


def array(rule: Rule) -> Rule:
    def check(value: object) -> None:
        if type(value) is not list:
            raise RuleError(f"must be an array, not {kind(value)}")
        each(value, rule)

    return check


def mapping(rule: Rule) -> Rule:
    """An object whose keys are free, not empty and without NUL."""

    def check(value: object) -> None:
        if type(value) is not dict:
            raise RuleError(f"must be an object, not {kind(value)}")
        for key, item in value.items():
            try:
                filled(key)
                rule(item)
            except RuleError as bad:
                raise bad.at(key) from None

    return check


def record(fields: dict[str, Rule], *required: str) -> Rule:
    """An object with known fields; `required` ones must be there."""

    def check(value: object) -> None:
        if type(value) is not dict:
            raise RuleError(f"must be an object, not {kind(value)}")
        nulls = None
        for key, item in value.items():
            if item is None:
                nulls = True
                continue
            rule = fields.get(key)
            if rule is not None:
                try:
                    rule(item)
                except RuleError as bad:
                    raise bad.at(key) from None
        if nulls:
            for key in [key for key, item in value.items() if item is None]:
                del value[key]
        for key in required:
            if key not in value:
                raise RuleError("is missing").at(key)

    return check
