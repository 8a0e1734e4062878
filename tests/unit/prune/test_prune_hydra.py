"""HYDRA against a training of scores written with torch's own means, and on a problem that magnitude gets wrong."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.prune import Calibration, Group, Groups, scores, select
from certiprune.train import losses
from certiprune.train.scene import Scene
from helpers.networks import Source
from helpers.scoring import batches, calibration, scored, weights
from helpers.training import convolutional, dense, own


class Top(torch.autograd.Function):
    """1 for the ``k`` largest of a flat tensor, else 0; gradients pass as if it were the identity."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, k: int) -> Tensor:
        chosen = torch.zeros_like(values)
        chosen[values.topk(k).indices] = 1.0
        return chosen

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def learned(model: nn.Module, mask: Mask, data: Calibration, keep: int, epochs: int) -> dict[str, Tensor]:
    """Scores by torch's autograd and SGD, on one batch an epoch; global ranking."""
    model = copy.deepcopy(model).train()
    mask.apply_(model)
    frozen = {name: model.get_parameter(name).detach() for name in mask}
    found = {
        name: (weight * math.sqrt(6 / weight[0].numel()) / weight.abs().max()).requires_grad_()
        for name, weight in frozen.items()
    }
    optimizer = torch.optim.SGD(found.values(), lr=0.1, momentum=0.9)
    kept = torch.cat([keep.flatten() for keep in mask.values()])
    (batch,) = batches(data)
    for epoch in range(epochs):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * (epoch + 0.5) / epochs))
        sizes = torch.cat([s.abs().flatten() for s in found.values()])
        chosen = Top.apply(torch.where(kept, sizes, -torch.inf), keep)
        parts = chosen.split([weight.numel() for weight in frozen.values()])
        named = {
            name: weight * part.reshape(weight.shape)
            for (name, weight), part in zip(frozen.items(), parts, strict=True)
        }
        optimizer.zero_grad()
        cross_entropy(functional_call(model, named, (batch.images,)), batch.labels).backward()
        optimizer.step()
    return {name: s.detach().abs() for name, s in found.items()}


@pytest.mark.parametrize("build", [dense, convolutional, own])
@pytest.mark.parametrize("share", [1.0, 0.7])
def test_scores_are_learned_straight_through_the_choice(build: Any, share: float) -> None:
    model, data, source = build(2), calibration(12, size=12), Source.of(1)
    mask = Mask({n: source.uniform(*kept.shape) <= share for n, kept in weights(model).items()})
    keep = mask.kept // 3
    found = scored("hydra", model, mask, data, keep=keep, epochs=15)
    wanted = learned(model, mask, data, keep, 15)
    start = learned(model, mask, data, keep, 0)
    for name, kept in mask.items():
        torch.testing.assert_close(found[name][kept], wanted[name][kept])
        assert (wanted[name] - start[name]).abs().max() > 0.01, "something was learned"


def planted() -> tuple[nn.Module, Split, Mask]:
    """A network whose small weights read what tells the class, and whose large ones read noise."""
    source = generator(3, "planted")
    labels = torch.arange(60) % 3
    images = torch.rand(60, 1, 4, 4, generator=source)
    images.flatten(1)[:, :3] = torch.nn.functional.one_hot(labels, 3).float()
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3, bias=False), nn.ReLU(), nn.Linear(3, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(1 + torch.rand(3, 16, generator=source))
        model[1].weight[:, :3] = 0.3 * torch.eye(3)
        model[3].weight.copy_(4 * torch.eye(3))
    return model, Split(images, labels), Mask.ones(model, ["1.weight"])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("loss", "eps"), [("natural", 0.0), ("ibp", 0.02)])
def test_it_finds_the_weights_that_matter_where_magnitude_does_not(loss: str, eps: float, seed: int) -> None:
    model, split, mask = planted()
    data, keep = Calibration(split, losses.build(loss), eps, 20), 6
    (batch,) = Calibration(split, batch_size=60).ordered(generator(0))

    def kept(method: str, **options: object) -> tuple[Tensor, float]:
        found = scored(method, model, mask, data, keep=keep, seed=seed, **options)
        chosen = select(found, mask, keep=keep)
        pruned = copy.deepcopy(model)
        chosen.apply_(pruned)
        terms = data.loss(Scene.of(pruned, batch, eps=eps, generator=generator(0)))
        return chosen["1.weight"][:, :3].diag(), float(terms.total.detach())

    (few, blind), (useful, mine) = kept("magnitude"), kept("hydra", epochs=30)
    assert mine < 0.75 * blind
    assert useful.all()
    assert not few.any()


def test_the_scope_is_how_weights_are_chosen_while_scores_are_learned() -> None:
    model, data = dense(3), calibration(12, size=12)
    mask = weights(model)
    keep = mask.kept // 4
    world, layer = (
        scored("hydra", model, mask, data, keep=keep, scope=scope, epochs=3) for scope in ("global", "layer")
    )
    assert any(not torch.equal(world[name], layer[name]) for name in mask)
    one = Mask.ones(model, ["1.weight"])  # of one layer there is only one ranking
    world, layer = (
        scored("hydra", model, one, data, keep=9, scope=scope, epochs=3) for scope in ("global", "layer")
    )
    assert torch.equal(world["1.weight"], layer["1.weight"])


def test_every_step_is_told() -> None:
    model, told = dense(1), list[tuple[int, int]]()
    data = replace(calibration(14, size=6), progress=lambda done, total: told.append((done, total)))
    scored("hydra", model, weights(model), data, keep=20, epochs=4)
    assert told == [(step, 12) for step in range(1, 13)]


def test_a_layer_of_zeros_has_scores_of_zero() -> None:
    model = dense(3)
    nn.init.zeros_(model[4].weight)
    found = scored("hydra", model, weights(model), calibration(12), keep=20, epochs=1)
    assert not found["4.weight"].any()
    assert found["1.weight"].any()


def test_wrong_use_is_explained() -> None:
    model, data = dense(1), calibration(12)
    mask = weights(model)
    with pytest.raises(InputError, match="cannot keep 0"):
        scored("hydra", model, mask, data, keep=0)
    groups = Groups({"1": Group(6, ("1.weight",))})
    with pytest.raises(InputError, match=r"hydra ranks weights, not channels .* use granularity weights"):
        scores.build("hydra").score_units(model, groups, groups.ones(), data, keep=2, generator=generator(0))
    with pytest.raises(ModelError, match="not all finite"):
        scored("hydra", model, mask, data, keep=20, learning_rate=1e308)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("epochs", 0, "a whole number, at least 1, not 0"),
        ("epochs", 2.5, "a whole number, at least 1, not 2.5"),
        ("learning_rate", 0.0, "above 0, not 0.0"),
        ("learning_rate", "fast", "above 0, not 'fast'"),
        ("learning_rate", float("inf"), "above 0, not inf"),
        ("momentum", 1.0, r"in \[0, 1\), not 1.0"),
        ("momentum", True, r"in \[0, 1\), not True"),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: object, text: str) -> None:
    with pytest.raises(InputError, match=f"the option {option} of the pruning method hydra must be {text}"):
        scores.build("hydra", **{option: value})


def test_an_unknown_scope_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        InputError, match="option scope of the pruning method hydra is 'layers'; did you mean layer"
    ):
        scores.build("hydra", scope="layers")
