"""Every example of docs/simulator.md is a scenario the model answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pycontain.vm.sim.predict import answer
from pycontain.vm.sim.scenario import parse_scenario, scenario_schema

TEXT = (Path(__file__).parents[4] / "docs/simulator.md").read_text("utf-8")
EXAMPLES: list[dict[str, Any]] = [
    json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
]


@pytest.mark.parametrize("document", EXAMPLES, ids=lambda document: document["name"])
def test_an_example_is_answered(document: dict[str, Any]) -> None:
    found = answer(parse_scenario(document, "docs/simulator.md"), draws=100)
    assert 0 < found.value.low <= found.value.median <= found.value.high
    assert found.to_json()["kind"] == "SIMULATED"


def test_every_quantity_has_an_example_or_is_named_beside_one() -> None:
    shown = {document["quantity"] for document in EXAMPLES} | {"migration_time", "migrated_bytes"}
    assert shown == set(scenario_schema()["properties"]["quantity"]["enum"])


def test_every_key_of_a_scenario_is_explained() -> None:
    for key in scenario_schema()["properties"]:
        assert f"`{key}`" in TEXT, key


def test_every_key_of_every_section_is_listed() -> None:
    for name, section in scenario_schema()["properties"].items():
        for key in section.get("properties", {}):
            if name != "operations":
                assert f"`{key}`" in TEXT, f"{name}.{key}"
