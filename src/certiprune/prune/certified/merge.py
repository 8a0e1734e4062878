"""Two matrices around neurons that are on made one, with what that rounds kept in account.

Weights may cancel in M = B A, so its rounding is out of proportion to what is left of it. With |A* - A| <= d |A| for
what the stored weights A stand for (``net.fold``), the same for B, and k the length of the sums,
    |fl(B A) - B* A*| <= (gamma_k + 2 d + d^2) |B| |A|,
and times the largest |x| that the domain allows this is how far M x can be off: it becomes part of ``slack``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from certiprune.bounds.interval import Interval, gamma
from certiprune.net.fold import moved
from certiprune.net.network import Network
from certiprune.net.ops import Dense, raised

# More units of rounding than two weights have that are products of a few numbers each.
_PRODUCTS = 32


def merged(
    network: Network, relu: int, on: Tensor, readers: Sequence[int], values: list[Interval]
) -> dict[int, Dense]:
    """For each reader of a ReLU, the matrix (and offset) from what the layer before reads, through the units ``on``.

    Empty where the two layers are no matrices, where the products would have more weights than the two have, or where
    nothing is known of the size of the inputs.

    Args:
        network: in float64.
        relu: the ReLU's value; only ``readers`` read it, and only it reads what enters it.
        on: [units] bool.
        readers: values made of the ReLU's.
        values: bounds [1, *shape] of every value on the domain.
    """
    source = network.node(relu).inputs[0]
    first, seconds = network.node(source).op, {v: network.node(v).op for v in readers}
    matrices = {
        v: op for v, op in seconds.items() if isinstance(op, Dense) and network.node(v).inputs == (relu,)
    }
    if not isinstance(first, Dense) or len(matrices) < len(seconds):
        return {}
    inputs, outputs = first.weight.shape[1], sum(len(op.weight) for op in matrices.values())
    if outputs * inputs > int(on.sum()) * (inputs + outputs):
        return {}
    largest = torch.maximum(*(end.abs() for end in values[network.node(source).inputs[0]]))[0]
    products = {v: _product(first, op, on, largest) for v, op in matrices.items()}
    return {v: op for v, op in products.items() if op is not None} if all(products.values()) else {}


def _product(first: Dense, second: Dense, on: Tensor, largest: Tensor) -> Dense | None:
    """``second(first(x))`` through the units ``on`` for |x| <= ``largest`` [in]; None where its error has no bound."""
    a, b = first.weight[on], second.weight[:, on]
    offset = a.new_zeros(len(a)) if first.bias is None else first.bias[on]
    wide = a.new_zeros(len(a)) if first.slack is None else first.slack.expand(on.shape)[on]
    # Twice, because this is computed with rounding, too.
    unit = 2 * gamma(len(a) + _PRODUCTS, a.dtype)
    size_a, size_b = raised(a.abs()), raised(b.abs())
    lost = raised(unit * (size_b @ size_a)) @ raised(largest) + unit * (size_b @ raised(offset.abs()))
    bias, far = moved(Dense(b, second.bias, second.slack), offset.unsqueeze(0), wide.unsqueeze(0))
    slack = lost if far is None else lost + far[0]
    weight = b @ a
    if not all(bool(t.isfinite().all()) for t in (weight, bias, slack)):
        return None
    no_bias = first.bias is None and second.bias is None
    return Dense(weight, None if no_bias else bias[0], slack)
