"""Gradients of every loss and penalty against finite differences, with BatchNorm by the batch.

But for GradAlign's, which holds part of its formula constant: it is compared with automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from certiprune.train import losses, penalties
from certiprune.train.losses import Penalised
from certiprune.train.scene import Scene
from helpers.networks import Source
from helpers.training import MODELS, batch, scene

EPS = 0.06
STEP = 1e-6


def assert_gradient(
    model: nn.Module, seed: int, value: Callable[[Scene], Tensor], *, scales: bool = True
) -> None:
    """The slope of ``value`` along a random direction of the parameters (without BatchNorm's, for ``scales`` false).

    Points that an attack finds move by its steps' signs only, which a step this short does not turn.
    """
    source, data = Source.of(seed), batch(seed)
    names = dict(model.named_parameters())
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)}
    along = {name: source.normal(*p.shape) * float(scales or id(p) not in norms) for name, p in names.items()}

    def at(step: float) -> Tensor:
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.add_(along[name], alpha=step)
        return value(scene(model, data, EPS, target=2 * EPS))

    found = torch.autograd.grad(at(0.0), list(names.values()), allow_unused=True, materialize_grads=True)
    slope = sum(float((g * along[name]).sum()) for name, g in zip(names, found, strict=True))
    ends = [float(at(step).detach()) for step in (STEP, -2 * STEP)]
    assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(slope, rel=1e-5, abs=1e-7)
    assert abs(slope) > 1e-6


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", sorted({*losses.names()} - {"gradalign"}))
def test_losses(name: str, kind: str) -> None:
    for seed in range(4):
        assert_gradient(MODELS[kind](seed), seed, lambda where: losses.build(name)(where).total)


@pytest.mark.parametrize("name", ["ibp", "crown_ibp", "mtl_ibp", "natural"])
def test_losses_of_a_trained_models_own_statistics(name: str) -> None:
    for kind, build in MODELS.items():
        seed = len(kind)
        assert_gradient(build(seed).eval(), seed, lambda where: losses.build(name)(where).total)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("name", penalties.names())
def test_penalties(name: str, kind: str) -> None:
    def value(where: Scene) -> Tensor:
        found = penalties.build(name)(where, None)
        assert found is not None
        return found

    for seed in range(4):
        # Of the division by gamma the penalty nrs has no gradient.
        assert_gradient(MODELS[kind](seed), seed, value, scales=name != "nrs")


@pytest.mark.parametrize("name", ["natural", "fgsm", "sabr", "crown_ibp"])
def test_losses_with_penalties(name: str) -> None:
    chosen = tuple((penalties.build(p), 0.5) for p in ("rs", "slimming", "l1", "fast_ibp"))
    for seed in range(2):
        model = MODELS["own"](seed)
        assert_gradient(model, seed, lambda where: Penalised(losses.build(name), chosen)(where).total)
