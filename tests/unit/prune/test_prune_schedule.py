from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.core.errors import InputError
from certiprune.prune import Ladder


def test_the_study_removes_a_fifth_of_what_is_left_in_each_of_16_rounds():
    ladder = Ladder.geometric(16, 0.2)
    assert ladder.rounds == 16
    assert ladder.keep[0] == pytest.approx(0.8)
    assert ladder.keep[15] == pytest.approx(0.028, abs=0.001)
    assert ladder.counts(1000)[:3] == (800, 640, 512)


def test_fractions_can_be_given_one_by_one():
    assert Ladder((0.5, 0.1)).counts(50) == (25, 5)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(1, 40), st.floats(0.001, 0.9), st.integers(1, 3000))
def test_counts_fall_strictly_and_stay_above_zero(rounds, rate, total):
    ladder = Ladder.geometric(rounds, rate)
    try:
        counts = ladder.counts(total)
    except InputError as error:
        assert "too few" in str(error)
        assert total * ladder.keep[-1] < rounds + 1
        return
    assert len(counts) == rounds
    assert total > counts[0]
    assert all(a > b for a, b in pairwise(counts))
    assert counts[-1] >= 1


@pytest.mark.parametrize("keep", [(), (1.0,), (0.5, 0.5), (0.5, 0.6), (0.5, 0.0), (float("nan"),)])
def test_fractions_that_do_not_fall_are_refused(keep):
    with pytest.raises(InputError, match="round"):
        Ladder(keep)


@pytest.mark.parametrize(("rounds", "rate"), [(0, 0.2), (3, 0.0), (3, 1.0), (3, 20)])
def test_wrong_rates_and_rounds_are_refused(rounds, rate):
    with pytest.raises(InputError, match=r"rate|round"):
        Ladder.geometric(rounds, rate)
