"""Quantiles, bootstrap intervals and verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.bench.stats import (
    Ratio,
    ecdf,
    noise_floor,
    quantile,
    ratio_of_medians,
    summarise,
    verdict,
)

TIMES = st.lists(st.floats(min_value=1e-6, max_value=1e3), min_size=1, max_size=60)


def test_the_median_lies_between_minimum_and_maximum():
    summary = summarise([3.0, 1.0, 2.0])
    assert (summary.minimum, summary.median, summary.maximum) == (1.0, 2.0, 3.0)


def test_a_99th_percentile_needs_a_hundred_samples():
    few, many = summarise(list(range(1, 100))), summarise(list(range(1, 201)))
    assert few.p99_is_maximum and few.p99 == 99
    assert not many.p99_is_maximum and 197 < many.p99 < 200


@given(TIMES)
def test_a_summary_is_ordered(values):
    summary = summarise(values)
    assert summary.minimum <= summary.median <= summary.p99 <= summary.maximum


def test_quantiles_interpolate():
    assert quantile([0.0, 10.0], 0.25) == 2.5
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_the_same_samples_give_the_same_interval():
    first = ratio_of_medians([1.0, 1.1, 1.2, 1.3], [0.9, 1.0, 1.1])
    assert first == ratio_of_medians([1.0, 1.1, 1.2, 1.3], [0.9, 1.0, 1.1])


@given(TIMES, TIMES)
def test_the_interval_holds_a_ratio_of_resampled_medians(values, base):
    ratio = ratio_of_medians(values, base)
    assert ratio is not None
    assert 0 <= ratio.low <= ratio.high
    assert min(values) / max(base) <= ratio.value <= max(values) / min(base)


def test_one_run_bounds_nothing():
    ratio = ratio_of_medians([2.0], [1.0, 1.0])
    assert ratio is not None and ratio.value == 2.0
    assert (ratio.low, ratio.high) == (0.0, float("inf"))


def test_nothing_is_a_multiple_of_zero():
    assert ratio_of_medians([1.0], [0.0]) is None
    assert ratio_of_medians([], [1.0]) is None


def test_the_noise_floor_is_the_further_end_of_the_a_a_interval():
    assert noise_floor(Ratio(value=1.0, low=0.8, high=1.01)) == pytest.approx(0.25)
    assert noise_floor(Ratio(value=1.0, low=0.99, high=1.3)) == pytest.approx(0.3)
    assert noise_floor(Ratio(value=1.0, low=0.0, high=1.3)) == float("inf")


def test_half_as_long_is_noise_where_twice_as_long_is():
    floor = noise_floor(Ratio(value=0.6, low=0.36, high=1.6))
    assert verdict(Ratio(value=0.52, low=0.35, high=0.99), floor) == "no difference shown"


def test_without_an_a_a_arm_everything_is_noise():
    assert noise_floor(None) == float("inf")
    assert verdict(Ratio(value=9.0, low=8.0, high=10.0), noise_floor(None)) == "no difference shown"


@pytest.mark.parametrize(
    ("ratio", "floor", "expected"),
    [
        (Ratio(value=1.5, low=1.4, high=1.6), 0.1, "slower"),
        (Ratio(value=0.5, low=0.4, high=0.6), 0.1, "faster"),
        (Ratio(value=1.05, low=1.04, high=1.06), 0.1, "no difference shown"),
        (Ratio(value=1.5, low=0.9, high=2.0), 0.1, "no difference shown"),
        (Ratio(value=0.95, low=0.94, high=0.96), 0.1, "no difference shown"),
        (None, 0.1, "not comparable"),
    ],
)
def test_a_verdict_needs_an_interval_outside_the_noise(ratio, floor, expected):
    assert verdict(ratio, floor) == expected


def test_equal_arms_are_not_called_different():
    same = [1.0 + index % 7 / 100 for index in range(40)]
    ratio = ratio_of_medians(same, same[::-1])
    assert verdict(ratio, noise_floor(ratio)) == "no difference shown"


def test_the_distribution_ends_at_one():
    steps = ecdf([2.0, 1.0])
    assert steps == [(1.0, 0.5), (2.0, 1.0)]
