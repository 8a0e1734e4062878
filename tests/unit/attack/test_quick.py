"""The quick gradients of convolutions are the library's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

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
