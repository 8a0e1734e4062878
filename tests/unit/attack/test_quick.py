"""The quick gradients of convolutions are the library's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils.checkpoint import checkpoint

from certiprune.attack.pgd import value_and_gradient
from certiprune.attack.quick import QuickGradients
from helpers.networks import Source


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("stride", "padding"), [(1, 0), (1, (2, 0)), (1, "same"), (2, 0), (2, 1), ((2, 1), 1), ((1, 3), (0, 2))]
)
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_every_geometry(channels: int, stride: int, padding: int | str, dilation: int, bias: bool) -> None:
    source = Source.of(channels)
    layer = nn.Conv2d(channels, 5, 3, stride, padding, dilation, bias=bias).double()
    x = source.normal(3, channels, 7, 8).requires_grad_()
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(5, 2, 2).double(), nn.Flatten())
    with QuickGradients():
        y = model(x)
    plain = model(x)
    assert torch.equal(y, plain)
    cotangent = source.normal(*y.shape)
    (mine,), (other,) = (torch.autograd.grad(t, x, cotangent) for t in (y, plain))
    torch.testing.assert_close(mine, other)


def test_groups_and_images_without_batch_are_left_to_the_library() -> None:
    source = Source.of(1)
    for shape, weight, groups in (((2, 2, 5, 5), (4, 1, 3, 3), 2), ((1, 5, 5), (4, 1, 3, 3), 1)):
        x, w = source.normal(*shape).requires_grad_(), source.normal(*weight).requires_grad_()
        found = list[Tensor]()
        for context in (QuickGradients(), torch.enable_grad()):
            with context:
                found.append(conv2d(x, w, groups=groups).sum())
        mine, other = (torch.autograd.grad(t, (x, w)) for t in found)
        assert all(torch.equal(a, b) for a, b in zip(mine, other, strict=True))


def test_a_second_derivative_is_refused() -> None:
    x, w = torch.rand(1, 1, 4, 4, requires_grad=True), torch.rand(2, 1, 3, 3)
    with QuickGradients():
        y = conv2d(x, w).square().sum()
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class Checkpointed(nn.Module):
    """A convolution whose values are computed again on the way back."""

    def __init__(self, frozen: bool) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3).requires_grad_(not frozen)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(checkpoint(self.layer, x, use_reentrant=False))


class Mixed(nn.Module):
    """A convolution in bfloat16 on images in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.layer(x)
        return y.float()


class Dynamic(nn.Module):
    """A convolution whose weights and biases the image decides on."""

    def __init__(self, bias_only: bool) -> None:
        super().__init__()
        self.bias_only = bias_only

    def forward(self, x: Tensor) -> Tensor:
        level = x.mean((0, 2, 3))
        weight = torch.ones(2, 2, 3, 3) * (1.0 if self.bias_only else level[:, None, None, None])
        return conv2d(x, weight, level)


@pytest.mark.parametrize(
    "model",
    [Checkpointed(False), Checkpointed(True), Mixed(), Dynamic(False), Dynamic(True)],
    ids=["checkpointed", "checkpointed, frozen", "mixed", "dynamic", "dynamic bias"],
)
def test_models_that_do_more_with_a_convolution(model: nn.Module) -> None:
    def objective(points: Tensor) -> Tensor:
        return model(points).square().flatten(1).sum(1)

    x = Source.of(2).uniform(2, 2, 5, 6).float()
    values, mine = value_and_gradient(objective, x)
    plain = objective(x.requires_grad_())
    (other,) = torch.autograd.grad(plain.sum(), x)
    assert torch.equal(values, plain.detach())
    torch.testing.assert_close(mine, other)


def test_numbers_of_numpy_are_numbers() -> None:
    x, weight = torch.rand(1, 1, 6, 6, requires_grad=True), torch.rand(2, 1, 3, 3)
    with QuickGradients():
        y = conv2d(x, weight, None, np.int64(2), np.int64(1))  # type: ignore[call-overload]
        (mine,) = torch.autograd.grad(y.square().sum(), x)
    (other,) = torch.autograd.grad(conv2d(x, weight, None, 2, 1).square().sum(), x)
    torch.testing.assert_close(mine, other)
