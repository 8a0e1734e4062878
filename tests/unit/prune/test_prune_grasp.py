"""GraSP against Hessians that are written down or made of the loss's values alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from certiprune.core.mask import Mask
from certiprune.prune import Calibration, select
from certiprune.prune.scores import grasp
from certiprune.train import losses
from helpers.networks import Source
from helpers.scoring import batches, calibration, interval, scored, weights
from helpers.training import convolutional, dense, own, shaken


def smooth(seed: int) -> nn.Module:
    """A network without kinks."""
    layers = [nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)]
    return shaken(nn.Sequential(*layers), seed)


def hessian_scores(model: nn.Module, mask: Mask, data: Calibration) -> dict[str, Tensor]:
    """w (H g) with the whole Hessian of the summed natural loss, by torch, over the mask's kept weights."""
    model = copy.deepcopy(model).train()
    mask.apply_(model)
    shapes = {name: keep.shape for name, keep in mask.items()}
    kept = torch.cat([keep.flatten() for keep in mask.values()])
    flat = torch.cat([model.get_parameter(name).detach().flatten() for name in mask])

    def loss(values: Tensor) -> Tensor:
        parts = values.split([shape.numel() for shape in shapes.values()])
        named = {n: part.reshape(shape) for (n, shape), part in zip(shapes.items(), parts, strict=True)}
        outputs = [cross_entropy(functional_call(model, named, (b.images,)), b.labels) for b in batches(data)]
        return torch.stack(outputs).sum()

    gradient = torch.autograd.functional.jacobian(loss, flat) * kept
    found = flat * (torch.autograd.functional.hessian(loss, flat) @ gradient)
    parts = found.split([shape.numel() for shape in shapes.values()])
    return {n: part.reshape(shape) for (n, shape), part in zip(shapes.items(), parts, strict=True)}


def some(model: nn.Module, share: float) -> Mask:
    source = Source.of(5)
    return Mask({name: source.uniform(*keep.shape) < share for name, keep in weights(model).items()})


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("build", [smooth, dense, convolutional, own])
def test_it_is_the_weight_times_hessian_times_gradient(
    build: Callable[[int], nn.Module], share: float
) -> None:
    model, data = build(3), calibration(14)
    mask = some(model, share)
    found, wanted = scored("grasp", model, mask, data), hessian_scores(model, mask, data)
    for name in mask:
        torch.testing.assert_close(
            found[name], wanted[name], rtol=1e-5, atol=1e-5 * float(wanted[name].abs().max())
        )
        assert wanted[name].abs().max() > 1e-4


def test_it_is_the_change_of_the_gradients_length_when_a_weight_goes() -> None:
    model, data = smooth(3), calibration(12, size=12)
    found = scored("grasp", model, weights(model), data)
    (batch,) = batches(data)

    def squared(changed: nn.Module) -> float:
        parameters = [p for p in changed.parameters() if p.dim() > 1]
        loss = cross_entropy(changed(batch.images), batch.labels)
        return sum(float(g.square().sum()) for g in torch.autograd.grad(loss, parameters))

    for name in found:
        for place in range(3):
            ends = []
            for c in (1 - 1e-4, 1 + 1e-4):  # a little of the weight removed, and added
                changed = copy.deepcopy(model)
                changed.get_parameter(name).data.view(-1)[place] *= c
                ends.append(squared(changed))
            # Removing what has a high score takes most from the length.
            assert (ends[1] - ends[0]) / 2e-4 == pytest.approx(
                2 * float(found[name].view(-1)[place]), rel=1e-5, abs=1e-9
            )


def test_under_interval_bounds_it_is_that_losss_own_curvature() -> None:
    eps, layer, h = 0.05, "3.weight", 1e-4
    model = shaken(nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 3)), 2)
    data = calibration(8, loss=losses.build("ibp"), eps=eps, size=8)
    mask, value, (batch,) = weights(model), interval(eps), batches(data)
    found = scored("grasp", model, mask, data)[layer]

    def at(moves: dict[str, Tensor]) -> float:
        changed = copy.deepcopy(model)
        for name, move in moves.items():
            changed.get_parameter(name).data += move
        return value(changed, batch)

    def unit(name: str, place: int) -> Tensor:
        direction = torch.zeros_like(model.get_parameter(name).data)
        direction.view(-1)[place] = h
        return direction

    gradient = {
        name: torch.tensor(
            [(at({name: unit(name, k)}) - at({name: -unit(name, k)})) / (2 * h) for k in range(keep.numel())],
            dtype=torch.float64,
        ).reshape(keep.shape)
        for name, keep in mask.items()
    }
    wanted = []
    for k in range(found.numel()):
        corners = []
        for a in (1, -1):
            for b in (1, -1):
                moves = {name: b * h * g for name, g in gradient.items()}
                moves[layer] = moves[layer] + a * unit(layer, k)
                corners.append(a * b * at(moves))
        wanted.append(float(model.get_parameter(layer).data.view(-1)[k]) * sum(corners) / (4 * h * h))
    torch.testing.assert_close(
        found, torch.tensor(wanted, dtype=torch.float64).reshape(3, 3), rtol=1e-4, atol=1e-6
    )
    clean = scored("grasp", model, mask, calibration(8, size=8))[layer]
    assert (clean - found).abs().max() > 0.1 * found.abs().max()


def test_a_kink_within_the_step_is_stepped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = convolutional(3), calibration(14)
    mask = weights(model)
    wanted = hessian_scores(model, mask, data)
    largest = max(float(t.abs().max()) for t in wanted.values())

    def off(steps: tuple[float, ...]) -> float:
        monkeypatch.setattr(grasp, "_STEPS", steps)
        found = scored("grasp", model, mask, data)
        return max(float((found[name] - wanted[name]).abs().max()) for name in mask) / largest

    assert off((0.1,)) > 0.1  # so long a step meets kinks
    assert off((0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)) < 1e-3


def test_the_gradient_survives_the_selection_better_than_a_random_one() -> None:
    model, data = smooth(6), calibration(12, size=12)
    mask = weights(model)
    (batch,) = batches(data)

    def length(kept: Mask) -> float:
        pruned = copy.deepcopy(model)
        kept.apply_(pruned)
        cross_entropy(pruned(batch.images), batch.labels).backward()
        slopes = [pruned.get_parameter(n).grad.masked_fill(~keep, 0) for n, keep in kept.items()]
        return sum(float(slope.square().sum()) for slope in slopes)

    keep = round(0.7 * mask.kept)
    mine = length(select(scored("grasp", model, mask, data), mask, keep=keep))
    others = [
        length(select(scored("random", model, mask, None, seed=seed), mask, keep=keep)) for seed in range(10)
    ]
    assert mine > max(others)


def test_without_a_gradient_all_scores_are_zero() -> None:
    model = dense(1)
    for parameter in (model[5].weight, model[5].bias, model[7].weight):
        nn.init.zeros_(parameter)
    found = scored("grasp", model, weights(model), calibration(12))
    assert not any(scores.any() for scores in found.values())
