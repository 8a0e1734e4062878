"""Losses between the adversarial one and that of interval bounds."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.data import Batch
from certiprune.train import losses
from certiprune.train.losses.attack import climb
from certiprune.train.losses.base import AbstractLoss
from certiprune.train.scene import Scene
from helpers.training import batch, convolutional, dense, scene

EPS = 0.1
EXPRESSIVE = ("mtl_ibp", "cc_ibp", "exp_ibp")


def value(loss: AbstractLoss, where: Scene) -> float:
    return float(loss(where).total.detach())


def sure_of(model: nn.Module, images: Tensor) -> Batch:
    with torch.no_grad():
        return Batch(images, model(images).argmax(1))


@pytest.mark.parametrize("name", EXPRESSIVE)
@pytest.mark.parametrize("build", [dense, convolutional])
def test_the_ends_of_expressive_losses_are_pgd_and_ibp(name: str, build: type) -> None:
    data = batch(6)
    for model in (build(6, norm=False), build(6).eval()):
        attacked = value(losses.build("pgd"), scene(model, data, EPS))
        certified = value(losses.build("ibp"), scene(model, data, EPS))
        low = value(losses.build(name, alpha=0.0), scene(model, data, EPS))
        high = value(losses.build(name, alpha=1.0), scene(model, data, EPS))
        assert low == pytest.approx(attacked, rel=1e-9) and high == pytest.approx(certified, rel=1e-9)
        assert attacked < certified
    # With BatchNorm by the batch, too, the certified end is IBP.
    model = build(6)
    high = value(losses.build(name, alpha=1.0), scene(model, data, EPS))
    assert high == pytest.approx(value(losses.build("ibp"), scene(model, data, EPS)), rel=1e-12)


@pytest.mark.parametrize("name", EXPRESSIVE)
def test_expressive_losses_rise_with_alpha_without_jumps(name: str) -> None:
    model, data = convolutional(7), batch(7)
    values = [value(losses.build(name, alpha=k / 20), scene(model, data, EPS)) for k in range(21)]
    assert all(a < b for a, b in pairwise(values))
    assert max(b - a for a, b in pairwise(values)) < 0.25 * (values[-1] - values[0])


def test_expressive_losses_by_their_formulas() -> None:
    model, data, alpha = convolutional(8), batch(8), 0.3
    where = scene(model, data, EPS)
    found = {name: losses.build(name, alpha=alpha)(scene(model, data, EPS)) for name in EXPRESSIVE}
    unit = torch.rand(data.images.shape, generator=where.generator).double()
    start = data.images + EPS * (2 * unit - 1)
    points = climb(where.target_of_attack, data.labels, where.box, start, steps=8, length=0.25 * EPS)
    scores = where.network(points)
    k = torch.arange(6)
    adversarial = (scores - scores[k, data.labels].unsqueeze(1)).detach()
    worst = (where.margins[0] + where.margins[1]).detach()
    each = [cross_entropy(t, data.labels, reduction="none") for t in (adversarial, worst)]
    assert bool((adversarial <= worst + 1e-12).all())
    wanted = {
        "mtl_ibp": ((1 - alpha) * each[0] + alpha * each[1]).mean(),
        "cc_ibp": cross_entropy((1 - alpha) * adversarial + alpha * worst, data.labels),
        "exp_ibp": (each[0].log() * (1 - alpha) + each[1].log() * alpha).exp().mean(),
    }
    for name, total in wanted.items():
        torch.testing.assert_close(found[name].total, total)
        assert found[name].parts["adversarial"] == pytest.approx(float(each[0].mean()))
        assert found[name].parts["interval"] == pytest.approx(float(each[1].mean()))
        assert found[name].bounds is not None
    # Convexity: cross entropy of a mean is at most the mean of both, and so is a geometric mean.
    assert float(wanted["cc_ibp"]) <= float(wanted["mtl_ibp"])
    assert float(wanted["exp_ibp"]) <= float(wanted["mtl_ibp"])


def test_a_sure_network_has_finite_losses_and_gradients() -> None:
    """Entropies of exactly 0 in single precision."""
    model, data = dense(9, norm=False).float(), batch(9)
    data = sure_of(model, data.images.float())
    with torch.no_grad():
        for parameter in model[-1].parameters():
            parameter.mul_(1e4)
    assert value(losses.build("pgd"), scene(model, data, 1e-5)) == 0.0
    for name in EXPRESSIVE:
        terms = losses.build(name)(scene(model, data, 1e-5))
        terms.total.backward()
        assert math.isfinite(float(terms.total.detach()))
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
