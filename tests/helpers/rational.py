"""Networks in rational arithmetic, on the weights as they are stored: the judge of every question about rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.net.ops import Affine, Relu

Numbers = list[Fraction]


def fractions(t: Tensor) -> Numbers:
    """The entries of ``t``, exactly."""
    return [Fraction(v) for v in t.flatten().tolist()]


def exact_values(network: Network, x: Sequence[Fraction]) -> list[Numbers]:
    """Every value of ``network`` (flat) at the input ``x`` (flat)."""
    values = [list(x)]
    for v, node in enumerate(network.nodes, start=1):
        args = [values[i] for i in node.inputs]
        if isinstance(node.op, Affine):
            values.append(_affine(node.op, args[0], network.shapes[node.inputs[0]], network.shapes[v]))
        elif isinstance(node.op, Relu):
            values.append([max(z, Fraction(0)) for z in args[0]])
        else:
            values.append([sum(parts, Fraction(0)) for parts in zip(*args, strict=True)])
    return values


def exact_worst(network: Network, margin: Margin, x: Tensor) -> Fraction:
    """The smallest clause value of the one property at the point ``x`` [*shape]."""
    outputs = exact_values(network, fractions(x))[-1]
    best: dict[int, Fraction] = {}
    for clause, row, offset in zip(
        margin.clause.tolist(), margin.matrix[0], fractions(margin.offset[0]), strict=True
    ):
        value = sum((a * y for a, y in zip(fractions(row), outputs, strict=True)), offset)
        best[clause] = max(best.get(clause, value), value)
    return min(best.values())


def _affine(op: Affine, x: Numbers, source: tuple[int, ...], target: tuple[int, ...]) -> Numbers:
    """``A x + b``; a column of A is what one unit vector becomes, which no sum can round."""
    size = math.prod(source)
    columns = op.linear(torch.eye(size, dtype=torch.float64).reshape(size, *source)).flatten(1)
    offset = op.offset()
    out = [Fraction(0)] * math.prod(target) if offset is None else fractions(offset.expand(target))
    for number, column in zip(x, columns, strict=True):
        if number:
            for k in column.nonzero()[:, 0].tolist():
                out[k] += number * Fraction(float(column[k]))
    return out
