"""The test of non-inferiority against published intervals, a numerical likelihood and its level counted out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import multinomial, norm

from certiprune.core.errors import InputError
from certiprune.report.statistics import NonInferior, Paired
from certiprune.report.statistics.noninferior import images_needed, lower_bound, score


@st.composite
def pairs(draw: st.DrawFn) -> Paired:
    images = draw(st.integers(5, 400))
    first = draw(st.integers(0, images))
    return Paired(images, first, draw(st.integers(0, images - first)))


def test_intervals_equal_the_published_ones() -> None:
    # Bentur et al. (2009), in Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), table of intervals:
    # of 21 children 7 changed one way and 1 the other, Tango's interval is (-0.517, -0.026).
    assert lower_bound(Paired(21, 7, 1), 0.975) == pytest.approx(-0.517, abs=5e-4)
    assert -lower_bound(Paired(21, 1, 7), 0.975) == pytest.approx(-0.026, abs=5e-4)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(pairs(), st.floats(-0.3, 0.3).filter(lambda d: abs(d) > 1e-3))
def test_the_statistic_is_that_of_the_constrained_likelihood(pair: Paired, difference: float) -> None:
    n, b, c = pair.images, pair.first_only, pair.second_only

    def log(count: int, p: float) -> float:
        return 0.0 if count == 0 else count * math.log(max(p, 1e-300))

    def loss(q: float) -> float:
        return -log(b, q) - log(c, q + difference) - log(n - b - c, 1 - 2 * q - difference)

    ends = (max(0.0, -difference), (1 - difference) / 2)
    q = minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-12}).x
    variance = 2 * q + difference - difference**2
    if variance < 1e-4:
        return  # the optimiser's error is as large as the variance
    expected = (c - b - n * difference) / math.sqrt(n * variance)
    assert score(pair, difference) == pytest.approx(expected, rel=2e-3, abs=2e-3)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(pairs(), st.sampled_from([0.01, 0.02, 0.1]), st.sampled_from([0.9, 0.95, 0.975]))
def test_the_bound_and_the_test_say_the_same(pair: Paired, margin: float, confidence: float) -> None:
    test = NonInferior(pair, margin)
    assert test.low(confidence) <= pair.gain
    if abs(test.low(confidence) + margin) > 1e-9:
        assert (test.low(confidence) > -margin) == (test.p_value < 1 - confidence)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(pairs())
def test_a_wider_margin_is_easier_and_no_worse_data_help(pair: Paired) -> None:
    assert NonInferior(pair, 0.05).p_value <= NonInferior(pair, 0.02).p_value
    if pair.first_only:
        better = Paired(pair.images, pair.first_only - 1, pair.second_only)
        assert NonInferior(better, 0.02).p_value <= NonInferior(pair, 0.02).p_value + 1e-12


def test_without_a_difference_the_statistic_is_mcnemars() -> None:
    # At d0 = 0 it is (c - b) / sqrt(b + c).
    assert score(Paired(100, 4, 9), 0.0) == pytest.approx(5 / math.sqrt(13))
    assert score(Paired(100, 0, 0), 0.0) == 0.0


@pytest.mark.parametrize(
    ("images", "margin", "discordant"),
    # Worst where the images are just enough for a network that answers alike.
    [(60, 0.05, 0.1), (60, 0.05, 0.3), (120, 0.02, 0.06), (52, 0.05, 0.05), (133, 0.02, 0.02)],
)
def test_the_level_is_near_what_it_says(images: int, margin: float, discordant: float) -> None:
    """Every possible result at the worst truth still to be refused, a loss of just the margin."""
    first, second = (discordant + margin) / 2, (discordant - margin) / 2
    truth = multinomial(images, [first, second, 1 - first - second])
    wrong = 0.0
    for b in range(images + 1):
        for c in range(images + 1 - b):
            if NonInferior(Paired(images, b, c), margin).p_value < 0.05:
                wrong += truth.pmf([b, c, images - b - c])
    assert wrong < 0.07


@pytest.mark.parametrize(("margin", "confidence", "needed"), [(0.01, 0.95, 268), (0.02, 0.95, 133)])
def test_how_many_images_a_margin_needs(margin: float, confidence: float, needed: int) -> None:
    assert images_needed(margin, confidence) == needed
    assert NonInferior(Paired(needed, 0, 0), margin).p_value < 1 - confidence
    assert NonInferior(Paired(needed - 1, 0, 0), margin).p_value >= 1 - confidence
    assert norm.cdf(-math.sqrt(needed * margin / (1 - margin))) == pytest.approx(
        NonInferior(Paired(needed, 0, 0), margin).p_value
    )


def test_a_better_network_needs_fewer_images() -> None:
    assert NonInferior(Paired(60, 0, 10), 0.02).p_value < 0.001


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, 2.0])
def test_a_margin_is_a_proportion(margin: float) -> None:
    with pytest.raises(InputError, match="must be more than 0 and less than 1"):
        NonInferior(Paired(10, 1, 1), margin)


def test_a_confidence_is_more_than_a_coin() -> None:
    with pytest.raises(InputError, match="the confidence 95 must be at least"):
        lower_bound(Paired(10, 1, 1), 95)
