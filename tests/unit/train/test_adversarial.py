"""Adversarial losses: where their points lie, and what they say worked out by automatic differentiation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.attack import frozen_statistics
from certiprune.core.rng import generator
from certiprune.data import Batch
from certiprune.train import losses
from certiprune.train.losses.base import AbstractLoss
from certiprune.train.scene import Scene
from helpers.networks import Source
from helpers.training import MODELS, batch, convolutional, dense, scene

EPS = 0.1


class Watched(nn.Module):
    """Remembers the points that the loss looks at, in order."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, list[Tensor]()

    def forward(self, points: Tensor) -> Tensor:
        if isinstance(points, Tensor):  # and not what stands for one while the model is traced
            self.seen.append(points.detach().clone())
        return self.inner(points)


def value(loss: AbstractLoss, where: Scene) -> float:
    return float(loss(where).total.detach())


def slope(model: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    points = points.detach().requires_grad_()
    (found,) = torch.autograd.grad(cross_entropy(model(points), labels, reduction="sum"), points)
    return found


def drawn(images: Tensor, radius: float, seed: int = 0) -> Tensor:
    unit = torch.rand(images.shape, generator=generator(seed, "loss")).to(images)
    return radius * (2 * unit - 1)


@pytest.mark.parametrize("name", ["fgsm", "n_fgsm", "pgd", "gradalign"])
@pytest.mark.parametrize("kind", MODELS)
def test_an_attack_leaves_the_model_as_one_pass_does(name: str, kind: str) -> None:
    """Running statistics move on by the points trained on, once; nothing else changes."""
    model, data = MODELS[kind](1), batch(1)
    watched, other = Watched(model), copy.deepcopy(model)
    terms = losses.build(name)(scene(watched, data, EPS))
    torch.testing.assert_close(
        cross_entropy(other(watched.seen[-1]), data.labels),
        terms.total - (0.2 * terms.parts["gradalign"] if name == "gradalign" else 0),
    )
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), other.buffers(), strict=True))
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training and getattr(m, "track_running_stats", True) for m in model.modules())


@pytest.mark.parametrize("name", ["fgsm", "pgd", "gradalign"])
def test_points_stay_in_the_ball_and_in_the_images(name: str) -> None:
    for eps in (0.02, 0.4):
        watched, data = Watched(convolutional(2)), batch(2)
        losses.build(name)(scene(watched, data, eps))
        for points in watched.seen:
            assert float((points - data.images).abs().max()) <= eps * (1 + 1e-12)
            assert float(points.min()) >= 0 and float(points.max()) <= 1


def test_pgd_goes_as_its_formula_says() -> None:
    for model in (convolutional(3), convolutional(3).eval()):
        data, watched = batch(3), Watched(model)
        reference = copy.deepcopy(model)
        losses.build("pgd", steps=3, step=0.4)(scene(watched, data, EPS))
        low, high = (data.images - EPS).clamp(0, 1), (data.images + EPS).clamp(0, 1)
        points = torch.minimum(torch.maximum(data.images + drawn(data.images, EPS), low), high)
        assert len(watched.seen) == 4
        for seen in watched.seen[:-1]:
            torch.testing.assert_close(seen, points)
            points = points + 0.4 * EPS * slope(reference, points, data.labels).sign()
            points = torch.minimum(torch.maximum(points, low), high)
        torch.testing.assert_close(watched.seen[-1], points)


@pytest.mark.parametrize("seed", range(3))
def test_more_steps_of_pgd_find_a_larger_loss(seed: int) -> None:
    model, data = convolutional(seed).eval(), batch(seed, 40)
    values = [value(losses.build("natural"), scene(model, data, EPS))]
    for steps in (1, 3, 8):
        values.append(value(losses.build("pgd", steps=steps), scene(model, data, EPS)))
    assert all(a < b for a, b in pairwise(values))


def test_n_fgsm_leaves_the_ball_but_not_the_images() -> None:
    watched, data = Watched(convolutional(4)), batch(4, 30)
    losses.build("n_fgsm")(scene(watched, data, EPS))
    start, reached = watched.seen
    away = (reached - data.images).abs()
    assert float(away.max()) > 2.5 * EPS and float(away.max()) <= 3 * EPS * (1 + 1e-12)
    assert float((away > EPS).double().mean()) > 0.3
    assert float(reached.min()) == 0.0 and float(reached.max()) == 1.0
    assert float(start.min()) >= 0 and float(start.max()) <= 1


@pytest.mark.parametrize("width", [0.0, 0.5, 2.0])
def test_the_noise_of_n_fgsm_is_uniform_in_its_width(width: float) -> None:
    data = Batch(torch.full((50, 1, 4, 4), 0.5).double(), torch.zeros(50).long())
    watched = Watched(dense(5))
    losses.build("n_fgsm", noise=width)(scene(watched, data, EPS))
    noise = watched.seen[0] - 0.5
    assert float(noise.abs().max()) <= width * EPS
    assert float(noise.abs().mean()) == pytest.approx(width * EPS / 2, rel=0.1)
    assert float(noise.mean()) == pytest.approx(0, abs=0.1 * width * EPS)
    torch.testing.assert_close(noise, drawn(data.images, width * EPS))


def test_the_step_of_n_fgsm_is_as_long_as_asked() -> None:
    data = Batch(torch.full((5, 1, 4, 4), 0.5).double(), torch.arange(5) % 3)
    watched = Watched(dense(5, norm=False))
    losses.build("n_fgsm", step=1.7)(scene(watched, data, EPS))
    start, reached = watched.seen
    moved = reached - start
    torch.testing.assert_close(moved, 1.7 * EPS * slope(watched.inner, start, data.labels).sign())


def by_the_images(model: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor]:
    """``model`` with every BatchNorm that is in training mode going by the statistics of ``images``, with gradients."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.training]
    seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def look(layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].transpose(0, 1).flatten(1)
        seen[layer] = x.mean(1), x.var(1, correction=0)

    def instead(layer: nn.Module, args: tuple[Tensor, ...], _: Tensor) -> Tensor:
        tail = (-1,) + (1,) * (args[0].dim() - 2)
        mean, var = (t.detach().reshape(tail) for t in seen[layer])
        weight, bias = (t.reshape(tail) for t in layer.parameters())
        return (args[0] - mean) / (var + layer.eps).sqrt() * weight + bias

    hooks = [norm.register_forward_pre_hook(look) for norm in norms]
    with frozen_statistics(model):
        model(images)
    for hook in hooks:
        hook.remove()

    def run(points: Tensor) -> Tensor:
        hooks = [norm.register_forward_hook(instead) for norm in norms]
        with frozen_statistics(model):
            outputs = model(points)
        for hook in hooks:
            hook.remove()
        return outputs

    return run


def reference_gradalign(model: nn.Module, data: Batch, step: float) -> tuple[Tensor, Tensor]:
    """The loss at the points trained on, and 1 - cos, written anew."""
    network = by_the_images(model, data.images)
    images, labels = data
    low, high = (images - EPS).clamp(0, 1), (images + EPS).clamp(0, 1)
    start = torch.minimum(torch.maximum(images + drawn(images, EPS), low), high)
    found = []
    for points in (images.clone(), start):
        points = points.requires_grad_()
        # The mean's gradient is the sum's divided by n: the same direction.
        loss = cross_entropy(network(points), labels)
        found.append(torch.autograd.grad(loss, points, create_graph=True)[0].flatten(1))
    here, there = found[0].detach(), found[1]
    # An image whose gradient is 0 is at right angles to all.
    lengths = [t.norm(dim=1).clamp(min=1e-8) for t in (here, there)]
    cosine = (here * there).sum(1) / (lengths[0] * lengths[1])
    reached = start.detach() + step * EPS * there.detach().reshape(images.shape).sign()
    reached = torch.minimum(torch.maximum(reached, low), high)
    return cross_entropy(model(reached), labels), 1 - cosine.mean()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", MODELS)
def test_gradalign_by_automatic_differentiation(kind: str, training: bool) -> None:
    model, data = MODELS[kind](4).train(training), batch(4)
    attacked, apart = reference_gradalign(model, data, 1.25)
    assert float(apart.detach()) > 1e-3
    terms = losses.build("gradalign", weight=3.0)(scene(model, data, EPS))
    torch.testing.assert_close(terms.total, attacked + 3.0 * apart)
    assert terms.parts["gradalign"] == pytest.approx(float(apart.detach()))
    parameters = list(model.parameters())
    wanted = torch.autograd.grad(attacked + 3.0 * apart, parameters)
    for mine, other in zip(torch.autograd.grad(terms.total, parameters), wanted, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)


def test_gradalign_without_weight_is_fgsm() -> None:
    model, data = convolutional(7).eval(), batch(7)
    aligned = value(losses.build("gradalign", weight=0.0), scene(model, data, EPS))
    assert aligned == value(losses.build("fgsm"), scene(model, data, EPS))


def test_gradients_of_one_direction_are_aligned() -> None:
    """Of two linear scores the gradient is a multiple of the rows' difference, everywhere."""
    model, data = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double(), batch(8, classes=2)
    terms = losses.build("gradalign")(scene(model, data, EPS))
    assert terms.parts["gradalign"] == pytest.approx(0, abs=1e-12)
    bent = losses.build("gradalign")(scene(dense(8, norm=False, classes=2), data, EPS))
    assert bent.parts["gradalign"] > 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_gradalign_where_an_image_has_no_gradient(dtype: torch.dtype) -> None:
    """A network whose ReLUs are all off has a gradient of exactly 0, which has no direction."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, 3)).to(dtype)
    with torch.no_grad():
        model[1].weight.copy_(Source.of(1).normal(4, 16))
        model[1].bias.copy_(-0.1 * model[1].weight.clamp(min=0).sum(1))
    images = batch(9, 12).images.to(dtype)
    images[:3] = 0.0
    data = Batch(images, batch(9, 12).labels)
    gradients = slope(model, images, data.labels).flatten(1).norm(dim=1)
    assert bool((gradients[:3] == 0).all()) and bool((gradients > 0).any())
    terms = losses.build("gradalign")(scene(model, data, 0.02))
    terms.total.backward()
    assert bool(terms.total.isfinite())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("name", ["fgsm", "n_fgsm", "pgd", "gradalign", "sabr", "mtl_ibp"])
def test_the_generator_is_all_of_the_randomness(name: str) -> None:
    model, data = convolutional(1).eval(), batch(1)
    loss = losses.build(name)
    one, same, other = (loss(scene(model, data, EPS, seed=seed)).total for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


@pytest.mark.parametrize("name", ["fgsm", "n_fgsm", "pgd", "sabr", "mtl_ibp"])
def test_images_are_attacked_one_by_one(name: str) -> None:
    """Without BatchNorm the loss of a batch is the mean over its images' own."""
    model, data = convolutional(2, norm=False), batch(2)
    loss, seen = losses.build(name), list[Tensor]()
    total = loss(scene(model, data, EPS)).total
    for k in range(6):
        alone = scene(model, Batch(data.images[k : k + 1], data.labels[k : k + 1]), EPS)
        # The numbers that this image got in the batch.
        torch.rand(k, 1, 4, 4, generator=alone.generator)
        seen.append(loss(alone).total)
    torch.testing.assert_close(torch.stack(seen).mean(), total)
