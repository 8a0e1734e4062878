"""Interval bounds with rounding counted in.

Through an affine map with centre c and radius r of the input:  centre' = A c + b,  radius' = |A| r.
The error of computing these in floating point is at most gamma_k (|A| |x| + |b|), |x| the largest magnitude in the box,
with gamma_k = k u / (1 - k u) and k the length of the sums (Higham 2002, section 3.1); it is added to the radius.
Products that underflow lose more than this: sizes other than zero are raised, so that gamma_k times them covers it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu, raised

Interval = tuple[Tensor, Tensor]


def gamma(terms: int, dtype: torch.dtype) -> float:
    """The relative error bound of a sum of ``terms`` products in ``dtype``."""
    k = (terms + 8) * torch.finfo(dtype).eps / 2
    return k / (1 - k) if k < 1 else math.inf


def step(network: Network, value: int, args: list[Interval]) -> Interval:
    """Bounds of one value from bounds of what it reads."""
    op = network.node(value).op
    if isinstance(op, Relu):
        (low, high) = args[0]
        return low.clamp(min=0), high.clamp(min=0)
    if isinstance(op, Affine):
        (low, high) = args[0]
        size = op.absolute()
        # Halves, because a sum or a difference of two ends may overflow.
        centre, radius = low / 2 + high / 2, high / 2 - low / 2
        largest = raised(torch.maximum(low.abs(), high.abs()))
        slack = gamma(op.fan_in, low.dtype) * size.forward(largest)
        middle, reach = op.forward(centre), size.linear(radius) + 2 * slack
        return _known(middle - reach, middle + reach)
    low, high = args[0]
    largest = torch.maximum(low.abs(), high.abs())
    for other_low, other_high in args[1:]:
        low, high = low + other_low, high + other_high
        largest = largest + torch.maximum(other_low.abs(), other_high.abs())
    slack = gamma(len(args), low.dtype) * largest
    return _known(low - slack, high + slack)


def _known(low: Tensor, high: Tensor) -> Interval:
    """The ends, infinite where they overflowed to NaN: nothing is known there, least of all that a ReLU is off."""
    inf = torch.inf
    return low.nan_to_num(-inf, inf, -inf), high.nan_to_num(inf, inf, -inf)


def interval(network: Network, box: Box) -> tuple[PreActivation, Interval]:
    """Bounds of every ReLU's input and of the outputs, for every point of the boxes (Gowal et al. 2018, IBP)."""
    values: list[Interval] = [(box.lower, box.upper)]
    lower, upper = {}, {}
    for v, node in enumerate(network.nodes, start=1):
        args = [values[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            lower[v], upper[v] = args[0]
        values.append(step(network, v, args))
    return PreActivation(lower, upper), values[-1]
