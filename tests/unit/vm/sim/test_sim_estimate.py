"""Constants, draws, intervals, the tornado, and numbers as they are printed."""

from __future__ import annotations

import math
import re
import statistics
from itertools import pairwise
from pathlib import Path

import pytest

from pycontain.errors import InvalidError, NotFoundError
from pycontain.vm.sim import render
from pycontain.vm.sim.constants import Constant, Costs, load_constants, read_toml
from pycontain.vm.sim.estimate import interval, rounded, tornado
from pycontain.vm.sim.hardware import classes

CONSTANTS = load_constants("zen4_2023")


@pytest.mark.parametrize("class_", list(classes()))
def test_every_constant_has_a_range_a_unit_a_tag_and_a_source(class_: str) -> None:
    for constant in load_constants(class_):
        assert constant.low <= constant.value <= constant.high
        assert constant.unit and constant.source


@pytest.mark.parametrize("class_", list(classes()))
def test_the_unit_of_a_constant_follows_from_its_name(class_: str) -> None:
    units = {
        "c": ("cycles", "cycles/byte"),
        "t": ("s", "s/MB", "s/GiB"),
        "b": ("s/byte",),
        "m": ("MiB",),
        "n": ("count", "bytes"),
        "p": ("count", "ratio"),
    }
    for constant in load_constants(class_):
        allowed = units.get(constant.name.partition("_")[0], ("ratio", "exponent"))
        if constant.name not in ("phi_light", "phi_memory", "phi_random", "nu"):
            assert constant.unit in allowed, constant.name


def test_every_constant_is_used_by_the_model_or_a_profile() -> None:
    package = Path(render.__file__).parent
    files = [*package.glob("*.py"), *package.glob("data/profiles/*.toml")]
    words = set(re.findall(r"\w+", " ".join(file.read_text("utf-8") for file in files)))
    assert [name for name in CONSTANTS.names() if name not in words] == []


def test_a_class_replaces_only_its_own_constants() -> None:
    old, new = load_constants("p4_2003"), CONSTANTS
    assert old["c_bt_pf"].value != new["c_bt_pf"].value
    assert old["c_hc_pv"] == new["c_hc_pv"]


def test_a_constant_outside_its_range_is_refused() -> None:
    with pytest.raises(InvalidError, match="c_x"):
        Constant(name="c_x", value=5, low=6, high=7, unit="cycles", tag="A", source="-")


def test_an_unknown_constant_is_an_error() -> None:
    with pytest.raises(NotFoundError):
        Costs(CONSTANTS)["c_none"]


def test_a_broken_data_file_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("a = = 1")
    with pytest.raises(InvalidError, match=r"c\.toml"):
        read_toml(file)
    with pytest.raises(NotFoundError):
        read_toml(tmp_path / "none.toml")


def test_draws_stay_in_the_range_and_keep_the_default_as_median() -> None:
    draws = [Costs(CONSTANTS, draw=index)["c_usr"] for index in range(1000)]
    assert min(draws) >= CONSTANTS["c_usr"].low and max(draws) <= CONSTANTS["c_usr"].high
    assert statistics.median(draws) == pytest.approx(CONSTANTS["c_usr"].value, rel=0.02)


def test_draws_are_uniform_in_the_logarithm_on_each_side() -> None:
    constant = CONSTANTS["c_usr"]
    above = [math.log(constant.draw(0.5 + step / 200)) for step in range(100)]
    steps = {round(b - a, 9) for a, b in pairwise(above)}
    assert len(steps) == 1


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    def model(costs: Costs) -> float:
        return costs["c_exit"] + costs["c_dev"]

    first = interval(model, CONSTANTS)
    assert first == interval(model, CONSTANTS)
    assert first != interval(model, CONSTANTS, seed=1)
    assert first.low < first.median < first.high


def test_two_constants_are_drawn_independently() -> None:
    pairs = [
        (Costs(CONSTANTS, draw=i)["c_exit"], Costs(CONSTANTS, draw=i)["c_dev"]) for i in range(1000)
    ]
    assert abs(statistics.correlation(*zip(*pairs, strict=True))) < 0.1


def test_the_tornado_names_the_constants_that_matter_most_first() -> None:
    found = tornado(
        lambda costs: 100 * costs["c_dev"] + costs["c_exit"] + 0 * costs["nu"], CONSTANTS
    )
    assert [each.constant for each in found] == ["c_dev", "c_exit"]
    assert found[0].low < found[0].high


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1200"), (0.01234, "0.012"), (1.0, "1"), (97.4, "97"), (0, "0"), (996, "1000")],
)
def test_a_simulated_number_has_two_significant_digits(value: float, text: str) -> None:
    assert render.number(value) == text


def test_times_and_sizes_take_the_unit_a_reader_expects() -> None:
    assert render.seconds(0.0123) == "12 ms"
    assert render.seconds(4.2e-7) == "420 ns"
    assert render.size(3 * 2**20) == "3 MiB"
    assert render.percent(0.0213) == "2.1 %"


def test_rounding_keeps_infinity_and_sign() -> None:
    assert rounded(math.inf) == math.inf
    assert rounded(-0.0256) == -0.026
