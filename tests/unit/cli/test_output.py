"""What cells say."""

from __future__ import annotations

import pytest

from pycontain.cli import output


@pytest.mark.parametrize(
    "text",
    ["", "no time", "1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "1970-01-01T01:00:00+01:00"],
)
def test_a_time_nobody_knows_is_not_available(text: str) -> None:
    assert output.age(text) == "N/A"


def test_an_age_is_in_dockers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 3 * 3600.0)
    assert output.age("1970-01-01T00:00:01Z") == "2 hours ago"
