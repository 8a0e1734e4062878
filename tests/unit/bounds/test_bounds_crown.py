"""CROWN's walk for training against the trusted function, and derivatives against differences."""

from __future__ import annotations

import pytest
import torch

from certiprune.bounds.crown import _Back, crown
from certiprune.bounds.ibp import ibp
from certiprune.bounds.relax import lines
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import dual_value
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.core.rng import generator
from certiprune.net import lower
from certiprune.net.zoo import ModelSpec, build
from certiprune.train.twice import outputs


@pytest.mark.parametrize("name", ["cnn_small", "cnn7", "resnet", "mlp"])
@pytest.mark.parametrize("eps", [0.0, 0.01, 0.3])
def test_it_equals_the_trusted_function_without_rounding(name: str, eps: float) -> None:
    shape, source = (1, 16, 16), generator(1, name)
    network = lower(build(ModelSpec(name, shape, 5, (0.3,), (0.4,), 0.25), generator=source), shape=shape)
    x = torch.rand(3, *shape, generator=source, dtype=torch.float64)
    box = Box((x - eps).clamp(0, 1), (x + eps).clamp(0, 1))
    coeff = torch.randn(3, 5, generator=source, dtype=torch.float64)
    const = torch.randn(3, generator=source, dtype=torch.float64)
    pre = ibp(network, box).pre
    rows = Rows(plan(network, network.output), None, coeff, const)
    wanted = dual_value(network, box, rows, lines(pre))
    torch.testing.assert_close(crown(network, box, pre, coeff, const), wanted, rtol=1e-10, atol=1e-10)


def test_the_step_over_a_relu_has_the_gradients_of_its_formula() -> None:
    source = generator(2, "relu")
    c, lower_end, width = (
        torch.randn(4, 9, generator=source, dtype=torch.float64, requires_grad=True) for _ in range(3)
    )

    def step(c: torch.Tensor, low: torch.Tensor, width: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return _Back.apply(c, low, low + width.abs())

    with torch.no_grad():
        unstable = (lower_end < 0) & (lower_end + width.abs() > 0)
    assert bool(unstable.any()) and not bool(unstable.all())
    assert torch.autograd.gradcheck(step, (c, lower_end, width))
    for which in (0, 1):
        assert torch.autograd.gradcheck(lambda *a, k=which: step(*a)[k], (c, lower_end, width))


def test_a_neuron_that_is_0_gains_nothing_and_has_finite_gradients() -> None:
    zero = torch.zeros(1, 1, requires_grad=True)
    c = torch.tensor([[-2.0]], requires_grad=True)
    back, gained = _Back.apply(c, zero, zero)
    assert float(back.detach()) == 0 and float(gained.detach()) == 0
    (back.sum() + gained.sum()).backward()
    assert bool(torch.isfinite(zero.grad).all()) and bool(torch.isfinite(c.grad).all())


@pytest.mark.parametrize("name", ["cnn_small", "cnn7", "resnet"])
def test_outputs_to_differentiate_twice_are_the_network(name: str) -> None:
    shape, source = (1, 16, 16), generator(3, name)
    module = build(ModelSpec(name, shape, 5, (0.3,), (0.4,), 0.25), generator=source).float()
    x = torch.rand(3, *shape, generator=source)
    grads = []
    for twice in (False, True):
        module.zero_grad()
        network = lower(module, shape=shape, dtype=torch.float32)
        points = x.clone().requires_grad_()
        found = outputs(network, points) if twice else network(points)
        (slope,) = torch.autograd.grad(found.square().sum(), points, create_graph=True)
        slope.square().sum().backward()
        grads.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 4
    for mine, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
