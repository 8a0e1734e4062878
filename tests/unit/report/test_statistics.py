"""Intervals and tests against numbers from the literature and from SciPy."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample import outcome_rows
from scipy.stats import binomtest, t, ttest_1samp

from certiprune.core.errors import InputError
from certiprune.report.statistics import OverSeeds, Paired, Proportion, anytime, holm, paired


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


@settings(derandomize=True, max_examples=50)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_intervals_equal_scipy(pair: tuple[int, int]) -> None:
    theirs = binomtest(*pair).proportion_ci(0.95, method="exact")
    assert Proportion(*pair).exact == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_exact_intervals_cover_in_at_least_what_they_say() -> None:
    for p in (0.02, 0.31, 0.5, 0.97):
        ends = [Proportion(k, 40).exact for k in range(41)]
        chances = [math.comb(40, k) * p**k * (1 - p) ** (40 - k) for k in range(41)]
        covered = sum(c for c, (low, high) in zip(chances, ends, strict=True) if low <= p <= high)
        assert covered >= 0.95


def test_a_mean_over_seeds_has_students_interval() -> None:
    values = (0.5, 0.56, 0.53)
    over = OverSeeds(values)
    assert over.interval == pytest.approx(t.interval(0.95, 2, 0.53, 0.03 / 3**0.5))
    assert over.p_value == pytest.approx(ttest_1samp(values, 0).pvalue)
    assert OverSeeds((0.1, 0.1)).p_value is None


def test_one_seed_has_no_interval() -> None:
    alone = OverSeeds.of([0.5, None, math.nan])
    assert alone is not None
    assert (alone.mean, alone.seeds, alone.interval, alone.p_value) == (0.5, 1, None, None)
    assert OverSeeds.of([None]) is None
    with pytest.raises(InputError, match="no seed"):
        OverSeeds(())


def test_the_curve_over_time_counts_what_was_there_by_then() -> None:
    # Image i takes i / 10 seconds: certified at 0.0, 0.1 and 0.6, falsified at 0.3, misclassified at 0.4.
    curve = anytime(outcome_rows("dense", 0, "ccufmuc"))
    assert [curve.lower(at) for at in (0.0, 0.1, 0.5, 0.6, 9.0)] == pytest.approx(
        [n / 7 for n in (1, 2, 2, 3, 3)]
    )
    assert [curve.upper(at) for at in (0.0, 0.3, 0.4, 9.0)] == pytest.approx([1, 6 / 7, 5 / 7, 5 / 7])
    assert curve.last == 0.6
    with pytest.raises(InputError, match="without answers"):
        anytime([])


@settings(derandomize=True, max_examples=30)
@given(st.text("cufm", min_size=1, max_size=30), st.floats(0, 4), st.floats(0, 4))
def test_the_two_curves_close_in(letters: str, one: float, other: float) -> None:
    curve, (early, late) = anytime(outcome_rows("dense", 0, letters)), sorted((one, other))
    assert 0 <= curve.lower(early) <= curve.lower(late) <= curve.upper(late) <= curve.upper(early) <= 1
    assert curve.lower(9) == pytest.approx(letters.count("c") / len(letters))
    assert curve.upper(9) == pytest.approx((letters.count("c") + letters.count("u")) / len(letters))
