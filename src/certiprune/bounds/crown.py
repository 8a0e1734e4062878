"""CROWN's walk back for training: differentiable, and not rounded outward, so it proves nothing.

It gives what ``value.dual_value`` gives for one form a box with CROWN's lines (Zhang et al. 2018), in fewer passes over
memory. With l <= z <= u before a ReLU, and u+ = max(u, 0), l- = max(-l, 0), the upper line is
    up z + up l-,    up = u+ / (u+ + l-)    (1 where the neuron is on, 0 where it is off),
the lower line z where u > -l, else 0. Coefficients c become  max(c, 0) [u > -l] + min(c, 0) up  and the constant gains
min(c, 0) up l-.  At the input the minimum over a box of centre m and radius r is  c m - |c| r.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu


def crown(network: Network, box: Box, pre: PreActivation, coeff: Tensor, const: Tensor) -> Tensor:
    """Lower bounds [n] of ``coeff @ f(x) + const`` over ``n`` boxes, with gradients to all that goes in.

    Args:
        pre: bounds of every ReLU's input, [n, *shape] each.
        coeff: [n, outputs].
        const: [n].
    """
    form = {network.output: coeff}
    total = const
    for v in range(network.output, 0, -1):
        if v not in form:
            continue
        c, node = form.pop(v), network.node(v)
        if isinstance(node.op, Relu):
            c, gained = _Back.apply(c, pre.lower[v], pre.upper[v])
            total = total + gained
        elif isinstance(node.op, Affine):
            offset = node.op.offset()
            if offset is not None:
                # Summed over positions first: an offset has mostly one number a channel.
                while offset.dim() < c.dim() - 1:
                    offset = offset.unsqueeze(0)
                flat = [d for d in range(1, c.dim()) if offset.shape[d - 1] == 1]
                total = total + ((c.sum(flat, keepdim=True) if flat else c) * offset).flatten(1).sum(1)
            c = node.op.pull(c, network.shapes[node.inputs[0]])
        for i in node.inputs:
            form[i] = form[i] + c if i in form else c
    if 0 in form:
        c = form[0]
        total = total + (c * box.centre).flatten(1).sum(1) - (c.abs() * box.half_width).flatten(1).sum(1)
    return total


class _Back(torch.autograd.Function):
    """A walk's step over a ReLU: coefficients before it, and what the constant gains [n]."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        high, low = upper.clamp(min=0), lower.clamp(max=0).neg_()
        # Where both are 0 the neuron is 0: any line will do.
        width = (high + low).clamp_(min=torch.finfo(c.dtype).tiny)
        up = high / width
        steep = torch.gt(upper, -lower, out=torch.empty_like(c))
        below = c.clamp(max=0)
        down = below * up
        ctx.save_for_backward(c, below, low, up, width, steep)
        ctx.set_materialize_grads(False)
        return torch.addcmul(down, c.clamp(min=0), steep), (down * low).flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, back: Tensor | None, gained: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        c, below, low, up, width, steep = ctx.saved_tensors
        back = torch.zeros_like(c) if back is None else back
        each = c.new_zeros(len(c)) if gained is None else gained
        each = each.reshape(-1, *[1] * (c.dim() - 1))
        # ``down`` goes into the coefficients and, times ``low``, into the constant.
        at_down = torch.addcmul(back, low, each)
        positive = torch.gt(c, 0, out=torch.empty_like(c))
        at_c = torch.lerp(at_down * up, back * steep, positive)
        # d up / d high = low / width^2, d up / d low = -high / width^2 = -up / width; both are 0 for stable neurons.
        at_up = (at_down * below).div_(width)
        at_low = (below * each).sub_(at_up).mul_(up)
        at_high = at_up.mul_(low).div_(width)
        # -low = min(lower, 0), high = max(upper, 0).
        return at_c, at_low.neg_().mul_(low > 0), at_high.mul_(up > 0)
