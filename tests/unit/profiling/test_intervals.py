from __future__ import annotations

import math
import statistics
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vovnet.profiling.intervals import difference_interval, mean_interval, median_interval


def coin(count: int, outside: int) -> float:
    """The probability that at most `outside` of `count` fair coins show heads."""
    return sum(math.comb(count, heads) for heads in range(outside + 1)) / 2**count


# The median -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [9, 10, 17, 20, 30, 44, 60, 100, 201])
def test_ends_of_an_interval_are_those_of_the_binomial(count: int) -> None:
    alternating = [
        *chain(*zip(range(count // 2), range(count // 2, count), strict=False)),
        *range(2 * (count // 2), count),
    ]
    low, high = median_interval(alternating)
    assert high == count - 1 - low
    assert coin(count, int(low)) <= 0.025, "it covers 95 %"
    assert coin(count, int(low) + 2) > 0.025, "and is not two values too wide at an end"


@pytest.mark.parametrize("values", [[3.0], [3.0, 1.0], [2.0, 5.0, 1.0, 4.0, 3.0], [1, 9, 2, 8, 3, 7, 4, 6]])
def test_the_interval_of_few_values_is_all_of_them(values: list[float]) -> None:
    assert median_interval(values) == (min(values), max(values))


def test_correlated_values_have_a_wider_interval() -> None:
    quiet = [1.0 + 0.001 * (step * 7 % 40) for step in range(40)]
    shifted = sorted(quiet)
    assert median_interval(shifted) == (min(quiet), max(quiet))
    assert median_interval(quiet)[0] > min(quiet)
    assert median_interval([2.0] * 30) == (2.0, 2.0)


def test_the_interval_of_correlated_values_contains_the_median_nearly_as_often_as_it_claims() -> None:
    noise, held, coin_held, count = np.random.default_rng(3), 0, 0, 40
    for _ in range(400):
        values = [noise.standard_normal()]
        for step in noise.standard_normal(count - 1):
            values.append(0.5 * values[-1] + 0.75**0.5 * step)
        low, high = median_interval(values)
        held += low <= 0 <= high
        coin_held += sorted(values)[13] <= 0 <= sorted(values)[-14]
    assert held / 400 > 0.91 > 0.88 > coin_held / 400


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60))
def test_an_interval_contains_its_median(values: list[float]) -> None:
    low, high = median_interval(values)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


# The mean -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_the_interval_contains_the_mean(values: list[float]) -> None:
    low, high = mean_interval(values) or (0, 0)
    assert low <= statistics.mean(values) + 1e-9
    assert high >= statistics.mean(values) - 1e-9


@pytest.mark.parametrize(("trials", "quantile"), [(2, 12.7062), (5, 2.7764), (6, 2.5706), (10, 2.2622), (31, 2.0423)])
def test_the_interval_is_students(trials: int, quantile: float) -> None:
    values = [float(value) for value in range(trials)]
    low, high = mean_interval(values) or (0, 0)
    assert (high - low) / 2 == pytest.approx(quantile * statistics.stdev(values) / trials**0.5, rel=2e-3)


# The difference of two means ------------------------------------------------------------------------------------------


def test_interval_of_a_difference_is_that_of_welch() -> None:
    """With equal variances and numbers it is the pooled one, at n + m - 2 degrees of freedom."""
    low, high = difference_interval([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    assert (low + high) / 2 == pytest.approx(-10.0)
    assert (high - low) / 2 == pytest.approx(2.7764 * math.sqrt(2 / 3))
    low, high = difference_interval([1.0, 2.0, 3.0], [5.0, 5.0, 5.0])  # all the variance is on one side
    assert (high - low) / 2 == pytest.approx(4.3027 * math.sqrt(1 / 3))
    assert difference_interval([2.0, 2.0], [1.0, 1.0]) == (1.0, 1.0)
    assert difference_interval([2.0], [1.0, 1.0]) is None


def test_interval_of_a_difference_covers_it_as_often_as_it_claims() -> None:
    noise = np.random.default_rng(5)
    intervals = [difference_interval(list(noise.normal(3, 1, 3)), list(noise.normal(1, 4, 5))) for _ in range(2000)]
    assert 0.94 < sum(low <= 2 <= high for low, high in intervals) / len(intervals) < 0.985
