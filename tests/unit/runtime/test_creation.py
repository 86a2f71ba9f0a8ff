"""Undoing a creation: every step is tried, whatever the one before met."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pycontain.errors import PycontainError
from pycontain.runtime import creation


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), PycontainError("broken")])
def test_a_step_that_fails_does_not_keep_the_others_from_being_done(error: Exception) -> None:
    done: list[str] = []

    def fail() -> None:
        done.append("failed")
        raise error

    steps: list[Callable[[], object]] = [lambda: done.append("first"), fail]
    creation._undo([*steps, lambda: done.append("last")])
    assert done == ["last", "failed", "first"]
