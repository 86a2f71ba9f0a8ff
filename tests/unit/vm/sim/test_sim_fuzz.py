"""Whatever stands in a scenario, the outcome is an answer or one of our errors."""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pycontain.errors import PycontainError
from pycontain.vm.sim.predict import answer
from pycontain.vm.sim.scenario import parse_scenario, scenario_schema

TEXT = (Path(__file__).parents[4] / "docs/simulator.md").read_text("utf-8")
EXAMPLES: list[dict[str, Any]] = [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
]
WORDS = st.sampled_from(
    sorted(set(re.findall(r'"([A-Za-z0-9_+/-]{1,24})"', json.dumps(scenario_schema()))))
)
NUMBERS = st.one_of(
    st.integers(-1, 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, 1e-300, 1e-9, 1e9, 1e17, 1e300]),
)
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, WORDS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=6,
)


def places(document: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the path of every value in a document."""
    if not isinstance(document, dict):
        return [path]
    return [
        path,
        *(place for key, value in document.items() for place in places(value, (*path, key))),
    ]


def replaced(document: Any, path: tuple[str, ...], value: Any) -> Any:
    """Return a copy with another value at `path`."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_damaged_scenario_is_answered_or_refused(data: st.DataObject) -> None:
    document: Any = data.draw(st.sampled_from(EXAMPLES))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(document)))
        extra = data.draw(st.booleans())
        target = (*path, data.draw(WORDS)) if extra and _is_object(document, path) else path
        document = replaced(document, target, data.draw(VALUES))
    try:
        found = answer(parse_scenario(document, "row.json"), draws=3)
    except PycontainError as error:
        assert "\n" not in str(error)
        return
    assert not math.isnan(found.value.median)
    json.dumps(found.to_json(), allow_nan=False)


def _is_object(document: Any, path: tuple[str, ...]) -> bool:
    for key in path:
        document = document[key]
    return isinstance(document, dict)
