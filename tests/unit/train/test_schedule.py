from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.train.schedule import EPS_SHAPES, EpsSchedule, RateSchedule

schedules = st.builds(
    EpsSchedule,
    eps=st.floats(0.001, 1.0),
    start=st.integers(0, 20),
    length=st.integers(1, 100),
    mid=st.floats(0.1, 1.0),
    shape=st.sampled_from(EPS_SHAPES[:2]),
)
rates = st.builds(
    RateSchedule,
    initial=st.floats(1e-4, 1.0),
    epochs=st.integers(1, 50),
    shape=st.just("cosine"),
    warm_up=st.just(0),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(schedule=schedules)
def test_it_is_zero_before_the_rise_and_exactly_eps_after_it(schedule: EpsSchedule) -> None:
    assert schedule.at(0) == schedule.at(schedule.start) == 0.0
    assert schedule.at(schedule.start + schedule.length) == schedule.eps
    assert schedule.at(schedule.start + schedule.length + 17.5) == schedule.eps


@settings(derandomize=True, max_examples=60, deadline=None)
@given(schedule=schedules, times=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_it_rises_without_jumps(schedule: EpsSchedule, times: list[float]) -> None:
    values = [schedule.at(schedule.start + time * schedule.length) for time in sorted(times)]
    assert values == sorted(values) and values[-1] <= schedule.eps
    steepest = (4 / schedule.mid if schedule.shape == "smoothed" else 1) * schedule.eps / schedule.length
    for time in (0.0, schedule.mid, 1.0):
        at = schedule.start + time * schedule.length
        before, after = schedule.at(at - 1e-6), schedule.at(at + 1e-6)
        assert after - before <= 2.1e-6 * steepest + 1e-12


def test_the_slope_has_no_jump_where_the_line_begins() -> None:
    schedule = EpsSchedule(1.0, 0, 1, mid=0.4)
    below = (schedule.at(0.4) - schedule.at(0.4 - 1e-6)) / 1e-6
    above = (schedule.at(0.4 + 1e-6) - schedule.at(0.4)) / 1e-6
    assert below == pytest.approx(above, rel=1e-4)
    line = (schedule.at(1.0) - schedule.at(0.7)) / 0.3
    assert line == pytest.approx(above, rel=1e-4)
    assert schedule.at(0.2) / schedule.at(0.1) == pytest.approx(16)


def test_values_by_hand() -> None:
    # scale = 1 / (0.5^4 + 4 * 0.5^3 * 0.5) = 3.2
    schedule = EpsSchedule(0.1, start=10, length=20, mid=0.5)
    assert schedule.at(15) == pytest.approx(0.1 * 3.2 * 0.25**4)
    assert schedule.at(20) == pytest.approx(0.1 * 3.2 * 0.5**4)
    assert schedule.at(25) == pytest.approx(0.1 * (0.2 + 0.8 * 0.5))


def test_a_length_of_zero_is_a_jump() -> None:
    schedule = EpsSchedule(0.3, start=2, length=0)
    assert [schedule.at(t) for t in (0, 1.99, 2, 3)] == [0.0, 0.0, 0.3, 0.3]
    assert EpsSchedule(0.3).at(0) == 0.3


def test_the_linear_rise_is_a_line_and_the_constant_one_a_jump() -> None:
    linear = EpsSchedule(0.4, start=2, length=8, shape="linear")
    assert [linear.at(t) for t in (2, 4, 6, 9, 10)] == pytest.approx([0.0, 0.1, 0.2, 0.35, 0.4])
    constant = EpsSchedule(0.4, start=2, length=8, shape="constant")
    assert [constant.at(t) for t in (0, 1.99, 2, 5)] == [0.0, 0.0, 0.4, 0.4]


def test_the_learning_rate_falls_at_each_milestone() -> None:
    schedule = RateSchedule(1.0, 6, milestones=(2, 4), decay=0.5)
    assert [schedule.at(epoch) for epoch in range(6)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    assert schedule.at(1.999) == 1.0


@settings(derandomize=True, max_examples=60, deadline=None)
@given(schedule=rates, times=st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_cosine_falls_from_the_initial_rate_to_zero(schedule: RateSchedule, times: list[float]) -> None:
    values = [schedule.at(time * schedule.epochs) for time in sorted(times)]
    assert values == sorted(values, reverse=True) and min(values) >= 0.0
    ends = [schedule.at(part * schedule.epochs) for part in (0, 0.5, 1)]
    assert ends == pytest.approx([schedule.initial, schedule.initial / 2, 0.0], abs=1e-12)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(schedule=rates, warm_up=st.integers(1, 5), time=st.floats(0, 20))
def test_warming_up_scales_the_rate_by_the_time_and_then_leaves_it(
    schedule: RateSchedule, warm_up: int, time: float
) -> None:
    warm = replace(schedule, warm_up=warm_up)
    assert warm.at(time) == pytest.approx(schedule.at(time) * min(1.0, time / warm_up), rel=1e-12, abs=0)
    assert warm.at(0) == 0.0
