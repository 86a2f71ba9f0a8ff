"""Scenario files: what is accepted, what is refused and how, and what is filled in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pycontain.errors import InvalidError, NotFoundError
from pycontain.vm.sim.predict import answer
from pycontain.vm.sim.scenario import GROUPS, load_scenario, parse_scenario, scenario_schema
from pycontain.vm.sim.units import QUANTITY_UNITS

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[4]
SCENARIOS = ROOT / "tests/data/scenarios"
GOOD: dict[str, Any] = {"name": "x", "quantity": "time", "unit": "us", "native": {"value": 1.0}}


def refused(document: dict[str, Any]) -> str:
    with pytest.raises(InvalidError) as caught:
        parse_scenario(document, "row.json")
    return str(caught.value)


def test_an_error_names_the_file_and_the_place() -> None:
    assert refused({**GOOD, "native": {"value": "1"}}).startswith("row.json: $.native.value:")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"quantity": "speed"}, "$.quantity"),
        ({"surprise": 1}, "$: unknown key surprise"),
        ({"native": {"value": -1}}, "$.native.value"),
        ({"native": {"value": 0}}, "$.native.value"),
        ({"native": {"value": True}}, "$.native.value"),
        ({"events": {"syscall": 3}}, "$.events: unknown key syscall"),
        ({"operations": {"hypercall": "1"}}, "$.operations.hypercall"),
        ({"hypervisor": {"technique": "EPT"}}, "$.hypervisor.technique"),
        ({"hypervisor": []}, "$.hypervisor: expected object, found array"),
        ({"tags": ["fast"]}, "$.tags[0]"),
        ({"hardware": {"class": "pentium"}}, "$.hardware.class"),
        ({"hardware": {"cores": 1.5}}, "$.hardware.cores"),
        ({"io": {"queue_depth": 0}}, "$.io.queue_depth"),
        ({"expected": {}}, "$.expected: value is missing"),
        ({"use": "both"}, "$.use"),
        ({"name": None}, "$.name: expected string, found null"),
    ],
)
def test_a_wrong_value_is_refused_where_it_stands(change: dict[str, Any], place: str) -> None:
    assert place in refused({**GOOD, **change})


@pytest.mark.parametrize("key", ["name", "quantity"])
def test_a_required_key_cannot_be_left_out(key: str) -> None:
    assert f"{key} is missing" in refused({k: v for k, v in GOOD.items() if k != key})


def test_a_unit_of_another_quantity_is_refused() -> None:
    assert "$.unit: GB is no unit of time" in refused({**GOOD, "unit": "GB"})


@pytest.mark.parametrize(
    "change",
    [
        {"hypervisor": {"profile": "bochs"}},
        {"constants": {"c_magic": 1}},
        {"hardware": {"class": "p4_2003"}, "hypervisor": {"profile": "kvm-qemu"}},
    ],
)
def test_names_the_model_does_not_know_are_refused_with_the_file(change: dict[str, Any]) -> None:
    assert refused({**GOOD, **change}).startswith("row.json: ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"name": "a", "quantity": "boot", "name": "a"}',
        '{"name": NaN}',
        "[" * 100_000,
        "\ufeff{}",
        "null",
    ],
)
def test_a_broken_file_is_one_error(tmp_path: Path, text: str) -> None:
    file = tmp_path / "row.json"
    file.write_text(text, "utf-8")
    with pytest.raises(InvalidError, match=r"row\.json"):
        load_scenario(file)


def test_a_missing_or_huge_file_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no scenario file"):
        load_scenario(tmp_path / "none.json")
    huge = tmp_path / "huge.json"
    huge.write_bytes(b" " * (2 << 20))
    with pytest.raises(InvalidError, match="larger than"):
        load_scenario(huge)
    with pytest.raises(InvalidError):
        load_scenario(tmp_path)


@pytest.mark.parametrize(
    ("quantity", "needed"),
    [
        ("time", "native.value"),
        ("slowdown", "native.value"),
        ("throughput", "native.value"),
        ("iops", "native.value"),
        ("density", "$.density"),
        ("downtime", "$.migration"),
        ("recovery", "$.failure"),
        ("reallocation", "$.reallocation"),
    ],
)
def test_an_input_the_quantity_needs_is_asked_for(quantity: str, needed: str) -> None:
    bare = parse_scenario({"name": "x", "quantity": quantity}, "row.json")
    with pytest.raises(InvalidError, match="needed for") as caught:
        answer(bare, draws=100)
    assert needed in str(caught.value) and "row.json" in str(caught.value)


def test_every_quantity_has_a_group_and_units() -> None:
    quantities = scenario_schema()["properties"]["quantity"]["enum"]
    assert set(quantities) == set(GROUPS) == set(QUANTITY_UNITS)


# --- what is filled in ----------------------------------------------------------------------------
def test_a_workload_class_fills_the_counts_and_says_so(sim: ModuleType) -> None:
    found = sim.scenario(workload="compile", unit="s", native={"value": 10})
    assert found.trace.forks and found.trace.minor_faults
    assert "forks" in found.estimated
    given = sim.scenario(workload="compile", unit="s", native={"value": 10}, events={"forks": 3})
    assert given.trace.forks == 3 and "forks" not in given.estimated


def test_older_hardware_does_fewer_events_a_second(sim: ModuleType) -> None:
    new = sim.scenario(workload="compile", unit="s")
    old = sim.scenario(workload="compile", unit="s", hardware={"class": "snb_2012"})
    assert old.trace.minor_faults < new.trace.minor_faults


def test_a_long_time_is_an_applications_and_a_short_one_an_operations(sim: ModuleType) -> None:
    assert sim.scenario(unit="us", native={"value": 100}).group == "micro"
    assert sim.scenario(unit="s", native={"value": 263}).group == "macro"
    assert sim.scenario(unit="s", native={"value": 263}, group="mine").group == "mine"


def test_without_a_class_missing_counts_are_zero(sim: ModuleType) -> None:
    found = sim.scenario(events={"minor_faults": 1})
    assert found.trace.syscalls == 0 and found.estimated == ()


def test_native_values_are_in_the_unit_of_the_file(sim: ModuleType) -> None:
    assert sim.scenario(unit="us").native == pytest.approx(100e-6)
    cycles = sim.scenario(unit="cycles", hardware={"clock_hz": 2e9})
    assert cycles.native == pytest.approx(50e-9)


def test_a_year_chooses_the_hardware(sim: ModuleType) -> None:
    assert sim.scenario(hardware={"year": 2015}).configuration.hardware.name == "hsw_2014"
    assert sim.scenario(hardware={"year": 2030}).configuration.hardware.name == "zen4_2023"


def test_one_core_puts_the_back_end_on_the_guests_core(sim: ModuleType) -> None:
    assert sim.scenario(hardware={"cores": 1}).configuration.shared_cpu


def test_a_given_constant_replaces_the_models(sim: ModuleType) -> None:
    found = sim.scenario(native=None, operations={"cpuid": 1}, constants={"c_exit": 9000})
    assert answer(found, draws=100).value.low > 2.9


def test_technique_type_and_path_stand_in_for_a_product(sim: ModuleType) -> None:
    found = sim.scenario(hypervisor={"technique": "HV2", "type": "1", "io_path": "inhyp"})
    assert found.configuration.technique == "HV2"
    assert found.configuration.disk_path == "inhyp"
    assert found.configuration.driver("disk") == "emulated"


def test_memory_bandwidth_is_work_and_not_a_network(sim: ModuleType) -> None:
    stream = {"quantity": "throughput", "unit": "GB/s", "native": {"value": 20}}
    assert sim.scenario(**stream).is_stream
    assert not sim.scenario(**stream, workload="memory").is_stream


# --- the rows that come with the project ----------------------------------------------------------
@pytest.mark.parametrize("file", sorted(SCENARIOS.rglob("*.json")), ids=lambda file: file.stem)
def test_a_row_of_the_project_is_complete(file: Path) -> None:
    found = load_scenario(file)
    assert found.name == file.stem
    assert found.expected is not None
    assert {"source", "tag", "use"} <= set(found.document)


def test_the_schema_is_a_json_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(scenario_schema())
    file = next(iter(sorted(SCENARIOS.rglob("*.json"))))
    jsonschema.validate(json.loads(file.read_text()), scenario_schema())
