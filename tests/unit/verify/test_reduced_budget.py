"""The reduced form keeps to the budget: one that does not fit is not made, one that takes too long is given up."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from certiprune.bounds.intermediate import OutOfTime
from certiprune.bounds.reduced import Reduced, reduce
from certiprune.core.margin import Margin
from certiprune.verify import Budget, Cascade, Problem, Reason, Verdict, cascade, decide, forms
from helpers.networks import F64, random_points
from helpers.reduced import Scene, scene

SECONDS = 20.0
BARE = Cascade(attack_steps=0, attack_restarts=0, alpha_steps=0, tighten_steps=0)


def hard_questions(made: Scene) -> Problem:
    """The same question about the box twice, which only a search decides."""
    least = float(made.network(random_points(1, made.box, 500))[:, 0].min())
    row = torch.eye(made.network.outputs, dtype=F64)[:1].expand(2, 1, -1)
    margin = Margin(row, torch.full((2, 1), 0.01 - least, dtype=F64), torch.zeros(1, dtype=torch.int64))
    return Problem(made.reduced.box, margin, made.reduced.box.centre)


def test_a_form_that_does_not_fit_in_the_memory_is_not_made() -> None:
    made = scene("mlp", 1)
    engine, pre = made.reduced.engine, made.reduced.pre[slice(0, 1)]
    assert forms.reducible(engine, pre)
    numbers = sum(layer.matrix.numel() for layer in made.form.layers)
    assert not forms.reducible(replace(engine, memory=12 * numbers), pre)


def test_rows_are_not_made_after_the_deadline() -> None:
    made = scene("mlp", 1)
    engine, pre = made.reduced.engine, made.reduced.pre[slice(0, 1)]
    assert reduce(engine, made.box, pre, deadline=time.perf_counter() + SECONDS).width == made.form.width
    with pytest.raises(OutOfTime):
        reduce(engine, made.box, pre, deadline=time.perf_counter() - 1)


def test_a_question_whose_form_takes_too_long_is_given_up_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def late_once(*args: object, deadline: float) -> Reduced:
        asked.append(deadline)
        return reduce(*args, deadline=0.0 if len(asked) == 1 else deadline)  # type: ignore[arg-type]

    monkeypatch.setattr(cascade, "reduce", late_once)
    problem = hard_questions(scene("mlp", 1))
    found = decide(scene("mlp", 1).network, problem, budget=Budget(seconds=SECONDS), how=BARE)
    late, other = sorted(found, key=lambda outcome: outcome.index)
    assert (late.verdict, late.reason) == (Verdict.UNKNOWN, Reason.TIME)
    assert other.verdict in (Verdict.CERTIFIED, Verdict.FALSIFIED)
    assert all(deadline <= time.perf_counter() + SECONDS for deadline in asked)
