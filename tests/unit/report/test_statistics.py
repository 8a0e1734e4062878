"""Intervals and tests against numbers from the literature and from SciPy."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from certiprune.core.errors import InputError
from certiprune.report.statistics import Paired, Proportion, holm, paired


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe (1998), table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1.0),
    ],
)
def test_wilson_intervals_equal_the_published_ones(count: int, total: int, low: float, high: float) -> None:
    proportion = Proportion(count, total)
    assert proportion.low == pytest.approx(low, abs=5e-5)
    assert proportion.high == pytest.approx(high, abs=5e-5)


@settings(derandomize=True, max_examples=50)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_equal_scipy_and_hold_the_estimate(pair: tuple[int, int]) -> None:
    proportion = Proportion(*pair)
    theirs = binomtest(*pair).proportion_ci(0.95, method="wilson")
    assert (proportion.low, proportion.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert 0.0 <= proportion.low <= proportion.value <= proportion.high <= 1.0


@pytest.mark.parametrize(("count", "total"), [(0, 0), (3, 2), (-1, 5)])
def test_what_is_no_proportion_is_refused(count: int, total: int) -> None:
    with pytest.raises(InputError, match="is no proportion"):
        Proportion(count, total)


@pytest.mark.parametrize(
    ("first_only", "second_only", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 32), (1, 7, 2 * 9 / 256), (10, 2, 2 * 79 / 4096)],
)
def test_mcnemar_equals_the_binomial_tail(first_only: int, second_only: int, p: float) -> None:
    assert Paired(100, first_only, second_only).p_value == pytest.approx(p, rel=1e-12)


@settings(derandomize=True, max_examples=40)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_is_symmetric_and_equals_scipy(first: int, second: int) -> None:
    p = Paired(600, first, second).p_value
    assert p == Paired(600, second, first).p_value
    if first + second:
        assert p == pytest.approx(binomtest(first, first + second).pvalue, rel=1e-9)


def test_mcnemar_of_many_images_does_not_overflow() -> None:
    assert 0.0 < Paired(10_000, 1000, 1300).p_value < 1e-8


def test_the_interval_of_a_paired_gain() -> None:
    # n = 100, only dense 3, only pruned 12, by hand: lost = 4/102, won = 13/102.
    low, high = Paired(100, 3, 12).interval
    assert (low, high) == pytest.approx((0.010881, 0.165590), abs=1e-6)
    assert Paired(100, 3, 12).gain == pytest.approx(0.09)
    assert Paired(1, 0, 1).interval[1] <= 1.0


def test_only_shared_images_are_paired() -> None:
    first = {0: True, 1: True, 2: False, 3: False, 9: True}
    second = {0: True, 1: False, 2: True, 3: False, 4: True}
    assert paired(first, second) == Paired(images=4, first_only=1, second_only=1)
    assert paired({0: True}, {1: True}) is None


def test_holm_adjusts_in_the_given_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
