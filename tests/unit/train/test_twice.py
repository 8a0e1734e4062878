"""Second derivatives of a network's outputs against finite differences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from certiprune.net.network import Network, Node
from certiprune.net.ops import Conv, Relu, Reshape
from certiprune.train.twice import outputs
from helpers.networks import Source


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_outputs_and_their_second_derivatives(channels: int, stride: int) -> None:
    """With respect to points and weights; few channels and many go different ways."""
    source = Source.of(10 * channels + stride)

    def smooth(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        side = 4 if stride == 1 else 2
        ops = (
            Conv(first, None, (stride, stride), (1, 1)),
            Relu(),
            Conv(second, None),
            Relu(),
            Reshape((3 * side * side,)),
        )
        nodes = tuple(Node(op, (v,), f"n{v}") for v, op in enumerate(ops))
        network = Network(nodes, (channels, 5, 5))
        found = outputs(network, x)
        torch.testing.assert_close(found, network.run(x)[-1])
        return found.tanh()

    shapes = (2, channels, 5, 5), (4, channels, 3, 3), (3, 4, 2, 2)
    tensors = [source.normal(*shape).requires_grad_() for shape in shapes]
    assert gradcheck(smooth, tensors)
    assert gradgradcheck(smooth, tensors)
