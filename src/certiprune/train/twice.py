"""A network's outputs, quick to differentiate twice with respect to points.

Torch's second derivative of a convolution computes the weights' part as a convolution over the batch, with copies in
another layout: about twice the time of the ordinary gradient of weights, which it equals:
    back = W^T g  is linear in both, so a cotangent t of ``back`` goes
    to g as conv(t, W),   to W as the gradient of weights at (t, g).
And a ReLU's derivative is passed on by the kernel of its first one; torch's second takes ten times as long on a CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from certiprune.net.few import few, transposed
from certiprune.net.network import Network, Node, evaluate
from certiprune.net.ops import Conv, Relu

threshold_backward = torch.ops.aten.threshold_backward

_Geometry = tuple[tuple[int, int], tuple[int, int], int]


def outputs(network: Network, points: Tensor) -> Tensor:
    """``network(points)`` [n, outputs], for gradients at ``points`` [n, *shape] that are differentiated again."""

    def apply(_: int, node: Node, args: list[Tensor]) -> Tensor:
        op = node.op
        if isinstance(op, Relu):
            return _Relu.apply(args[0])
        if not isinstance(op, Conv):
            return evaluate(op, args)
        y = _Conv.apply(args[0], op.weight, (op.stride, op.padding, op.groups))
        return y if op.bias is None else y + op.bias

    return network.run(points, apply=apply)[-1]


class _Relu(torch.autograd.Function):
    """A ReLU, whose derivative at 0 is 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.relu()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _Gate.apply(grad, *ctx.saved_tensors)


class _Gate(torch.autograd.Function):
    """``grad`` where ``y`` is above 0; linear in it, and flat in ``y``."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return threshold_backward(grad, y, 0)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None]:
        return threshold_backward(cotangent, *ctx.saved_tensors, 0), None


class _Conv(torch.autograd.Function):
    """A convolution without bias."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        stride, padding, groups = geometry
        return conv2d(x, weight, None, stride, padding, 1, groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        to_x = _Back.apply(grad, weight, x, ctx.geometry) if ctx.needs_input_grad[0] else None
        to_weight = _gradients(grad, x, weight, ctx.geometry, 1) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None


class _Back(torch.autograd.Function):
    """The gradient at a convolution's input, from the one at its output; linear in that and in the weights."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, weight: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.geometry = geometry
        return _gradients(grad, x, weight, geometry, 0)

    @staticmethod
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad, weight = ctx.saved_tensors
        stride, padding, groups = ctx.geometry
        to_grad = conv2d(cotangent, weight, None, stride, padding, 1, groups)
        return to_grad, _gradients(grad, cotangent, weight, ctx.geometry, 1), None, None


def _gradients(grad: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, which: int) -> Tensor:
    """The gradient at the input (``which`` 0) or of the weights (1) of a convolution."""
    stride, padding, groups = geometry
    if which == 0 and few(weight, groups):
        return transposed(grad, weight, (x.shape[2], x.shape[3]), stride, padding)
    found = torch.ops.aten.convolution_backward(
        grad, x, weight, None, stride, padding, (1, 1), False, (0, 0), groups, (which == 0, which == 1, False)
    )
    return found[which]
