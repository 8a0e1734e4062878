from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from certiprune.attack import descend, fgsm, label_margin, pgd
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator


def network(seed: int, inputs: int = 6, classes: int = 3) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, classes)).double()


def balls(n: int, seed: int = 0, inputs: int = 6, eps: float = 0.2) -> Box:
    return Box.ball(torch.rand(n, inputs, generator=generator(seed, "centres")).double(), eps)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), steps=st.integers(8, 12))
def test_the_worst_corner_of_a_linear_objective_is_found_exactly(seed: int, n: int, steps: int) -> None:
    weight = torch.randn(n, 5, generator=generator(seed, "weight")).double()
    box = balls(n, seed, inputs=5)
    result = pgd(
        lambda x: (weight * x).sum(1), box, steps=steps, step_size=0.25, restarts=1, generator=generator(seed)
    )
    corner = torch.where(weight > 0, box.lower, box.upper)
    assert torch.equal(result.points, corner)
    assert torch.equal(result.values, (weight * corner).sum(1))


@settings(derandomize=True, max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), restarts=st.integers(1, 3), steps=st.integers(0, 4))
def test_points_stay_inside_and_values_belong_to_them(seed: int, restarts: int, steps: int) -> None:
    objective = label_margin(network(seed), torch.tensor([0, 1, 2, 0]))
    box = balls(4, seed)
    begin = torch.rand(4, 6, generator=generator(seed, "start")).double()
    result = pgd(
        objective, box, steps=steps, step_size=0.5, restarts=restarts, generator=generator(seed), start=begin
    )
    assert bool(box.contains(result.points).all())
    assert torch.equal(objective(result.points), result.values)
    assert bool((result.values <= objective(box.clamp(begin))).all())


def test_more_restarts_never_make_the_result_worse() -> None:
    objective = label_margin(network(1), torch.tensor([0, 1, 2, 0]))
    few, many = (
        pgd(objective, balls(4), steps=3, step_size=0.3, restarts=k, generator=generator(5)) for k in (1, 4)
    )
    assert bool((many.values <= few.values).all())


@settings(derandomize=True, max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), stop=st.sampled_from([None, 0.0]), order=st.permutations(range(5)))
def test_an_item_does_not_depend_on_its_companions(seed: int, stop: float | None, order: list[int]) -> None:
    model, box, labels = network(seed), balls(5, seed, eps=0.3), torch.tensor([0, 1, 2, 0, 1])

    def attack(chosen: Tensor) -> tuple[Tensor, Tensor]:
        result = pgd(
            label_margin(model, labels[chosen]), box[chosen], steps=4, step_size=0.3, restarts=2,
            generator=generator(seed, "attack"), stop_at=stop,
        )  # fmt: skip
        return result.points, result.values

    points, values = attack(torch.arange(5))
    shuffled, _ = attack(torch.tensor(order))
    torch.testing.assert_close(shuffled, points[order])
    for item in range(5):
        alone, value = attack(torch.tensor([item]))
        torch.testing.assert_close(alone[0], points[item])
        torch.testing.assert_close(value[0], values[item])


def test_the_generator_moves_on_by_the_same_amount_when_the_attack_ends_early() -> None:
    after = []
    for stop in (None, 1e9):
        source = generator(3)
        pgd(lambda x: x.sum(1), balls(2), steps=2, step_size=1.0, restarts=3, generator=source, stop_at=stop)
        after.append(torch.rand(1, generator=source))
    assert torch.equal(*after)


def test_it_stops_once_every_item_is_violated() -> None:
    calls = []

    def objective(points: Tensor) -> Tensor:
        calls.append(len(points))
        return points.sum(1) - 10.0

    result = pgd(
        objective, balls(3), steps=50, step_size=0.1, restarts=9, generator=generator(0), stop_at=0.0
    )
    assert calls == [3]
    assert bool((result.values <= 0).all())


def test_a_done_item_keeps_its_first_violation_while_others_go_on() -> None:
    box = Box(torch.zeros(2, 1), torch.ones(2, 1))
    shift = torch.tensor([-2.0, 5.0])
    start = torch.full((2, 1), 0.75)
    result = pgd(
        lambda x: x.sum(1) + shift, box, steps=4, step_size=0.5, restarts=0, generator=generator(0),
        start=start, stop_at=0.0,
    )  # fmt: skip
    assert result.points.flatten().tolist() == [0.75, 0.0]


@pytest.mark.parametrize("random", [False, True])
def test_fgsm_is_one_step_with_a_step_of_one_and_a_quarter_half_widths(random: bool) -> None:
    model, box, labels = network(4), balls(4), torch.tensor([0, 1, 2, 0])
    objective = label_margin(model, labels)
    got = fgsm(objective, box, generator=generator(9) if random else None)
    restarts, start = (1, None) if random else (0, box.centre)
    same = pgd(
        objective, box, steps=1, step_size=1.25, restarts=restarts, generator=generator(9), start=start
    )
    assert torch.equal(got.points, same.points)
    if not random:
        by_hand = box.clamp(descend(objective, box.centre, 1.25 * box.half_width))
        better = objective(by_hand) < objective(box.centre)
        assert bool(better.any()) and torch.equal(got.points[better], by_hand[better])


def test_parameters_get_no_gradient_and_keep_the_one_they_have() -> None:
    model = network(2)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    with torch.no_grad():
        objective = label_margin(model, torch.tensor([0]))
        result = pgd(objective, balls(1), steps=3, step_size=0.4, restarts=1, generator=generator(0))
    assert bool((model[0].weight.grad == 1).all()) and model[2].weight.grad is None
    assert not result.points.requires_grad and not result.values.requires_grad
    assert float(result.values) < float(objective(balls(1).centre).detach())


def test_an_objective_without_gradient_is_searched_by_its_starts_alone() -> None:
    box = balls(2)
    flat = pgd(lambda x: torch.ones(2), box, steps=2, step_size=1.0, restarts=1, generator=generator(0))
    assert flat.values.tolist() == [1.0, 1.0] and bool(box.contains(flat.points).all())
    partly = pgd(
        lambda x: x.detach().sum(1) + network(0)[2].bias.sum(), box, steps=2, step_size=1.0, restarts=1,
        generator=generator(0),
    )  # fmt: skip
    assert bool(partly.values.isfinite().all())


def test_nan_is_never_a_best_value() -> None:
    box = balls(2)
    result = pgd(
        lambda x: x.sum(1) * torch.tensor([torch.nan, 1.0]), box, steps=1, step_size=1.0, restarts=1,
        generator=generator(0),
    )  # fmt: skip
    assert result.values[0] == torch.inf and result.values[1].isfinite()
    assert bool(box.contains(result.points).all())


def test_no_items_at_all() -> None:
    box = Box(torch.zeros(0, 3), torch.ones(0, 3))
    result = pgd(
        lambda x: x.sum(1), box, steps=2, step_size=1.0, restarts=1, generator=generator(0), stop_at=0.0
    )
    assert result.points.shape == (0, 3) and result.values.shape == (0,)


def test_wrong_numbers_are_refused() -> None:
    box = balls(1)
    with pytest.raises(InputError, match="no restarts needs a start"):
        pgd(lambda x: x.sum(1), box, steps=1, step_size=1.0, restarts=0, generator=generator(0))
    with pytest.raises(InputError, match="step_size > 0: 1, 1, 0"):
        pgd(lambda x: x.sum(1), box, steps=1, step_size=0, restarts=1, generator=generator(0))
