"""Interval bounds for training: differentiable, and not rounded outward, so they prove nothing.

Through an affine map with centre c and radius r of the input:  c' = A c + b,  r' = |A| r  (Gowal et al. 2018, IBP).
A ReLU makes of [c - r, c + r] the interval of its ends' positive parts.

The bounds hold in exact arithmetic; for proofs there is ``interval.py``, which says the same with rounding counted in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Conv, Dense, Relu

threshold_backward = torch.ops.aten.threshold_backward

Ball = tuple[Tensor, Tensor]
"""Centre and radius, [n, *shape] each."""


@dataclass(frozen=True)
class Ibp:
    """Interval bounds of a batch of boxes.

    Attributes:
        pre: what enters each ReLU.
        last: centre and radius of what the network's last operation reads.
        output: centre and radius of the outputs.
    """

    pre: PreActivation
    last: Ball
    output: Ball


def ibp(network: Network, box: Box) -> Ibp:
    """Bounds of every ReLU's input and of the outputs for ``n`` boxes, with gradients to the network's tensors."""
    values: list[Ball] = [(box.centre, box.half_width)]
    lower, upper = {}, {}
    for v, node in enumerate(network.nodes, start=1):
        (centre, radius), *others = (values[i] for i in node.inputs)
        if isinstance(node.op, Relu):
            lower[v], upper[v], centre, radius = _Rectify.apply(centre, radius)
        elif isinstance(node.op, Affine):
            centre, radius = _forward(node.op, centre), _reach(node.op, radius)
        else:
            for more, wide in others:
                centre, radius = centre + more, radius + wide
        values.append((centre, radius))
    last = network.node(network.output)
    return Ibp(PreActivation(lower, upper), values[last.inputs[0]], values[-1])


class _Rectify(torch.autograd.Function):
    """The ends l = c - r, u = c + r, and centre and radius of [relu(l), relu(u)].

    Written out because its passes over memory take nearly as long as the convolutions between them.
    """

    @staticmethod
    def forward(ctx: Any, centre: Tensor, radius: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        lower, upper = centre - radius, centre + radius
        ctx.save_for_backward(lower, upper)
        ctx.set_materialize_grads(False)
        low, high = lower.relu(), upper.relu()
        middle = torch.lerp(low, high, 0.5)
        return lower, upper, middle, high.sub_(middle)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor, Tensor]:
        lower, upper = ctx.saved_tensors
        at_lower, at_upper, at_centre, at_radius = grads
        c, r = (torch.zeros_like(lower) if t is None else t for t in (at_centre, at_radius))
        low, high = threshold_backward(c - r, lower, 0), threshold_backward(c + r, upper, 0)
        # Each end has half of these; ends that are used themselves have gradients of their own on top.
        to_centre = torch.lerp(low, high, 0.5)
        to_radius = high.sub_(to_centre)
        if at_lower is not None:
            to_centre, to_radius = to_centre.add_(at_lower), to_radius.sub_(at_lower)
        if at_upper is not None:
            to_centre, to_radius = to_centre.add_(at_upper), to_radius.add_(at_upper)
        return to_centre, to_radius


def _forward(op: Affine, centre: Tensor) -> Tensor:
    """``op.forward``, with a convolution's bias added on the way where there is one number a channel."""
    if isinstance(op, Conv) and op.bias is not None and op.bias.shape[1:] == (1, 1):
        bias = op.bias[:, 0, 0]
        return torch.nn.functional.conv2d(centre, op.weight, bias, op.stride, op.padding, 1, op.groups)
    return op.forward(centre)


def _reach(op: Affine, radius: Tensor) -> Tensor:
    """``|A| r``. (``op.absolute`` raises tiny weights and counts offsets, for proofs.)"""
    if isinstance(op, Conv):
        return torch.nn.functional.conv2d(radius, op.weight.abs(), None, op.stride, op.padding, 1, op.groups)
    if isinstance(op, Dense):
        return radius @ op.weight.abs().T
    return op.absolute().linear(radius)


def margins(network: Network, bounds: Ibp, labels: Tensor) -> Ball:
    """Centre and radius [n, classes] of every output less the one at ``labels`` [n]; the label's own is 0.

    Where the last operation is a matrix, differences of its rows are taken before the bounds (the "elision" of Gowal
    et al. 2018): with A_j - A_y for A_j and A_y apart the interval is narrower.
    """
    op = network.node(network.output).op
    if not isinstance(op, Dense):
        (centre, radius), n = bounds.output, torch.arange(len(labels), device=labels.device)
        own, reach = centre[n, labels].unsqueeze(1), radius[n, labels].unsqueeze(1)
        other = torch.ones_like(radius).scatter(1, labels.unsqueeze(1), 0.0)
        return centre - own, (radius + reach) * other
    (_, radius), (centre, _) = bounds.last, bounds.output
    middle = centre - centre.gather(1, labels.unsqueeze(1))
    difference = op.weight.unsqueeze(0) - op.weight.unsqueeze(1)
    # [label, class, in]: few for few classes, so each image picks its label's.
    return middle, torch.einsum("nci,ni->nc", difference.abs()[labels], radius)
