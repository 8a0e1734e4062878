"""Laws of clauses of several rows: whatever their weights, a mean of the rows bounds the largest of them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.bounds import Engine, preactivations
from certiprune.bounds.mix import Mix, shift
from certiprune.bounds.optimise import Adam, Parameters, Rates
from certiprune.bounds.reduced import reduce
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from certiprune.verify.clauses import Clauses, Several
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation, Relaxation
from helpers.networks import F64, Source, random_points
from helpers.reduced import NAMES, crossed, scene, subproblems, weighted
from laws.test_reduced_laws import layers_of

SEEDS = st.integers(0, 10_000)

everywhere = pytest.mark.parametrize("name", NAMES)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


@everywhere
@examples(3)
@given(SEEDS)
def test_any_weights_bound_the_largest_row_where_the_splits_hold(name: str, seed: int) -> None:
    source = Source.of(seed + 5)
    made = crossed(scene(name, seed), source, 3)
    x = random_points(seed, made.box, 400)
    z = torch.cat([t for _, t in layers_of(made.form, made.network, x)][:-1] or [x.new_zeros(len(x), 0)], 1)
    assert made.reduced.several is not None
    mix = made.reduced.several.mix
    outputs = made.network(x)
    for goals in (False, True):
        sub = weighted(subproblems(made, source, 8, goals=goals), source, 3)
        largest = (mix.matrix[sub.task] @ outputs.T + mix.offset[sub.task].unsqueeze(2)).amax(1)
        what, inside = largest, (z.unsqueeze(0) * sub.sign.unsqueeze(1) >= 0).all(2)
        if sub.goal is not None:
            # What is bounded then is the neuron, where no row is positive.
            what, inside = sub.goal.double() @ z.T, inside & (largest <= 0)
        width = sub.sign.shape[1]
        for relaxation in (made.reduced, made.layered):
            end = relaxation.ascend(sub, steps=4, rates=Rates(weight=0.3), goal=1e9)
            # Weights of any sum are brought to the sum 1, and those that are negative count as 0.
            stretched, negative = sub.theta.clone(), sub.theta.clone()
            stretched[:, width : width + 3] *= 7
            negative[:, width + 1] = -0.5
            for theta in (sub.theta, end.theta, stretched, negative):
                proved = relaxation.prove(sub.using(theta), sign_only=False).unsqueeze(1)
                assert bool((~inside | (proved <= what + 1e-12 * (1 + what.abs()))).all())


@everywhere
@examples(2)
@given(SEEDS)
def test_weights_stay_on_the_simplex_and_raise_the_bound(name: str, seed: int) -> None:
    source = Source.of(seed + 6)
    made = crossed(scene(name, seed), source, 3)
    for relaxation in (made.reduced, made.layered):
        sub = weighted(subproblems(made, source, 8), source, 3)
        width = sub.sign.shape[1]
        start = relaxation.quick_value(sub).value
        still, moved = (
            relaxation.ascend(sub, steps=30, rates=Rates(weight=rate), goal=1e9) for rate in (0.0, 0.2)
        )
        weight = moved.theta[:, width:]
        assert bool((weight >= 0).all())
        torch.testing.assert_close(weight.sum(1), torch.ones(len(sub)))
        torch.testing.assert_close(still.theta[:, width:], sub.theta[:, width:])
        assert bool((moved.value >= start - 1e-5 * (1 + start.abs())).all())
        # Not every ascent gains from weights, but all of them together do.
        assert float((moved.value - still.value).mean()) > 0


@everywhere
def test_a_form_is_the_mean_of_the_rows_that_its_trace_shows(name: str) -> None:
    source = Source.of(8)
    made = crossed(scene(name, 2), source, 4)
    for relaxation in (made.reduced, made.layered):
        sub = weighted(subproblems(made, source, 8), source, 4)
        trace = relaxation.quick_value(sub)
        assert trace.rows is not None
        mean = (trace.rows * sub.theta[:, sub.sign.shape[1] :]).sum(1)
        torch.testing.assert_close(trace.form, mean, rtol=1e-4, atol=1e-4)


def at_a_point(a: Tensor, y: Tensor) -> list[Relaxation]:
    """The clause of the rows ``a @ x`` and ``-a @ x`` at the one point ``y``, in both forms."""
    b = Builder((len(y),))
    network = b.finish(b.emit(Dense(torch.eye(len(y), dtype=F64), None), 0))
    box, engine = Box(y.unsqueeze(0), y.unsqueeze(0)), Engine.of(network)
    pre = preactivations(engine, box)
    mix = Mix(torch.stack([a, -a]).unsqueeze(0), torch.zeros(1, 2, dtype=F64))
    several = Several(mix, torch.tensor([[0.5, 0.5 + 2.0**-24]]))
    tasks = engine, box, a.unsqueeze(0), torch.zeros(1, dtype=F64), pre
    return [
        LayeredRelaxation.of(*tasks, several),
        ReducedRelaxation.of(*tasks, reduce(engine, box, pre), several),
    ]


def test_rows_that_cancel_prove_nothing_by_their_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both rows are exactly 0, but a mean of them has coefficients that are rounded in units of the rows' own."""
    source = Source.of(5)
    cases = []
    for _ in range(60):
        a = source.normal(2)
        y = torch.stack([a[1], -a[0]]) * 2.0**10
        assert sum(Fraction(p) * Fraction(q) for p, q in zip(a.tolist(), y.tolist(), strict=True)) == 0
        cases += at_a_point(a, y)
    for relaxation in cases:
        assert not bool((relaxation.prove(relaxation.root()) > 0).any())
    monkeypatch.setattr(Relaxation, "_rounded", lambda _self, _several, _sub, value: torch.zeros_like(value))
    wrong = [type(t) for t in cases if bool((t.prove(t.root()) > 0).any())]
    assert {LayeredRelaxation, ReducedRelaxation} == set(wrong)


def test_a_step_goes_towards_the_larger_rows() -> None:
    weight = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]])
    shift(weight, torch.tensor([[1.0, -1.0, -1.0], [3.0, -1.0, -1.0], [2.0, 2.0, 2.0]]), 0.1)
    torch.testing.assert_close(weight.sum(1), torch.ones(3))
    assert weight[0, 0] > 0.5 > weight[0, 1] and weight[0, 2] == 0
    # A row of no weight comes back.
    assert weight[1, 0] > 0.05
    torch.testing.assert_close(weight[2], torch.tensor([0.2, 0.3, 0.5]))


def test_a_row_that_cannot_lose_more_weight_does_not_hold_up_the_others() -> None:
    weight = torch.tensor([[0.5, 0.5, 0.0]])
    shift(weight, torch.tensor([[1.0, -1.0, -1e20]]), 0.1)
    torch.testing.assert_close(weight, torch.tensor([[0.6, 0.4, 0.0]]))


def test_slopes_that_are_no_numbers_move_nothing() -> None:
    weight = torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    shift(weight, torch.tensor([[torch.inf, -torch.inf], [torch.nan, torch.nan]]), 0.1)
    assert bool((weight == 0.5).all())


@pytest.mark.parametrize("goal", [None, torch.ones(1, 1)])
def test_steps_on_slopes_that_are_no_numbers_leave_weights_that_are(goal: Tensor | None) -> None:
    extra = [] if goal is None else [1.0]
    theta = torch.tensor([[0.3, 0.5, 0.5, *extra]])
    parameters = Parameters(theta, torch.zeros(1, 1), torch.ones(1, 1), goal)
    Adam(theta, Rates()).ascend(parameters, torch.tensor([[1.0, torch.inf, torch.nan, *extra]]))
    assert bool((parameters.weight == 0.5).all()) and float(theta[0, 0]) > 0.3


def margin() -> Margin:
    """Two questions with a clause of one row, one of three and one of two."""
    source = Source.of(3)
    scale = torch.tensor([1.0, 8.0, 1e-3, 40.0, 1.0, 3.0], dtype=F64).unsqueeze(1)
    clause = torch.tensor([0, 1, 1, 1, 2, 2])
    return Margin(source.normal(2, 6, 4) * scale, source.normal(2, 6), clause)


def test_a_task_has_its_clause_s_rows_the_most_promising_one_first() -> None:
    asked = margin()
    lower = -Source.of(4).uniform(2, 6)
    lower[1, 4] = -torch.inf
    question, clause = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2])
    made = Clauses.of(asked, question, clause, lower)
    assert made.several is not None
    mix, weight = made.several.mix, made.several.weight
    assert mix.matrix.shape == (4, 3, 4)
    for k, rows in enumerate(([0], [1, 2, 3], [1, 2, 3], [4, 5])):
        at = int(question[k])
        best = max(rows, key=lambda row: float(lower[at, row]))
        size = asked.matrix[at, rows].abs().amax(1)
        found = mix.matrix[k, : len(rows)]
        assert bool(((found.abs().amax(1) >= 0.5) & (found.abs().amax(1) <= 2)).all())
        factor = asked.matrix[at, best, 0] / made.coeff[k, 0]
        torch.testing.assert_close(made.coeff[k] * factor, asked.matrix[at, best], rtol=0, atol=0)
        torch.testing.assert_close(made.const[k] * factor, asked.offset[at, best], rtol=0, atol=0)
        # Places beyond the clause's rows repeat one of them, and start with no weight.
        assert bool((mix.matrix[k, len(rows) :] == mix.matrix[k, 0]).all())
        assert bool((weight[k, : len(rows)] > 0).all()) and not bool(weight[k, len(rows) :].any())
        assert float(weight[k].sum()) == pytest.approx(1)
        assert int(weight[k].argmax()) == 0
        assert float(made.size[k]) <= float(size.min()) * 2


def test_a_bound_of_a_mean_is_one_of_the_clause_as_it_was_given() -> None:
    asked = margin()
    question, clause = torch.tensor([0, 1]), torch.tensor([1, 2])
    made = Clauses.of(asked, question, clause, torch.zeros(2, 6, dtype=F64))
    assert made.several is not None
    source = Source.of(9)
    seen = 0
    for _ in range(200):
        weight, outputs = source.uniform(2, 3), source.normal(2, 4)
        weight[1, 2] = 0
        mean = (weight / weight.sum(1, keepdim=True) * made.several.mix.values(outputs)).sum(1)
        true = asked.clause_values(asked.values(outputs))[question, clause]
        sure = mean > 0
        seen += int(sure.sum())
        assert bool((true >= mean * made.size * (1 - 1e-12))[sure].all())
    assert seen > 50


def test_clauses_of_one_row_have_no_weights() -> None:
    asked = margin()
    made = Clauses.of(asked, torch.tensor([0, 1]), torch.tensor([0, 0]), torch.zeros(2, 6, dtype=F64))
    assert made.several is None


def test_a_constant_row_does_not_overflow() -> None:
    """A row without outputs, brought to the size of its outputs, would be infinite in float32."""
    asked = margin()
    matrix = asked.matrix.clone()
    matrix[:, 1] = 0
    lower = torch.zeros(2, 6, dtype=F64)
    made = Clauses.of(replace(asked, matrix=matrix), torch.tensor([0]), torch.tensor([1]), lower)
    assert made.several is not None
    assert bool(made.several.quick.offset.isfinite().all())
