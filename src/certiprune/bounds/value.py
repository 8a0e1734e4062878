"""The trusted bound: CROWN, alpha-CROWN and beta-CROWN in one pure function.

For a linear form c over a value, walk back to the input. At a ReLU h = relu(z) with lines low, up, gap (``relax.py``)
    c h >= max(c, 0) low z + min(c, 0) (up z + gap),
so coefficients become c' = max(c, 0) low + min(c, 0) up and the constant gains min(c, 0) gap. A split of sign s
(+1: z >= 0, -1: z <= 0) with multiplier beta >= 0 adds  -beta s z <= 0  (Wang et al. 2021). At the input
    min over the box = sum max(c, 0) lower + min(c, 0) upper.
Weak duality: whatever the slopes in [0, 1] and the multipliers >= 0, the result is a lower bound of the form on that
part of the box where the splits hold. Rounding is bounded as in ``interval.py``, weighed by |c|, and subtracted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.interval import gamma
from certiprune.bounds.relax import Lines
from certiprune.bounds.rows import Rows
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu


@dataclass(frozen=True)
class Push:
    """Multipliers of the splits of one ReLU: ``amount`` = -beta * s is added to the coefficients at ``index``.

    Both are [m, k]; ``index`` counts the ReLU's neurons flat, and the amount is 0 where nothing is split.
    """

    index: Tensor
    amount: Tensor


def dual_value(
    network: Network,
    box: Box,
    rows: Rows,
    lines: Mapping[int, Lines],
    *,
    seen: bool = False,
    pushes: Mapping[int, Push] | None = None,
    sizes: Mapping[int, Tensor] | None = None,
) -> Tensor:
    """Lower bounds [m] of the forms ``rows`` on their boxes (where the splits behind ``pushes`` hold).

    Args:
        network: the network, in the precision of the computation.
        box: the boxes; form k is about box ``rows.owner[k]``.
        lines: each ReLU's lines: one item for each box, or, with ``seen``, already as the forms see them.
        seen: whether ``lines`` hold one item for each form.
        pushes: the splits' multipliers; only with forms over whole values.
        sizes: from ``magnitudes``; rounding is subtracted when given, which makes the result rigorous.

    Returns:
        Bounds that hold in exact arithmetic if ``sizes`` is given, else up to rounding.
    """
    form = {rows.plan.start: rows.coeff}
    total = rows.const.clone()
    eps = rows.coeff.dtype
    # Every value adds once to ``total`` or to the coefficients of another, so all sums grow by the way's length.
    steps = len(rows.plan.order)
    error = total.abs() * gamma(steps, eps)

    def lose(value: int, c: Tensor, terms: int) -> None:
        if sizes is not None:
            lost = (c.abs() * rows.take(sizes[value], value)).flatten(1).sum(1)
            error.add_(lost, alpha=gamma(terms + steps, eps))

    for v in rows.plan.order:
        c = form.pop(v)
        if v == 0:
            low, high = rows.take(box.lower, 0), rows.take(box.upper, 0)
            ends = c.clamp(min=0) * low + c.clamp(max=0) * high
            total = total + ends.flatten(1).sum(1)
            lose(0, c, c[0].numel())
            break
        node = network.node(v)
        if isinstance(node.op, Relu):
            here = lines[v]
            low, up, gap = (t if seen else rows.take(t, v) for t in (here.low, here.up, here.gap))
            below = c.clamp(max=0)
            total = total + (below * gap).flatten(1).sum(1)
            lose(v, c, c[0].numel())
            back = c.clamp(min=0) * low + below * up
            if pushes is not None and v in pushes:
                push = pushes[v]
                flat = back.flatten(1).scatter_add(1, push.index, push.amount)
                back = flat.reshape(back.shape)
                if sizes is not None:
                    entering = rows.take(sizes[node.inputs[0]], node.inputs[0]).flatten(1)
                    reach = (push.amount.abs() * entering.gather(1, push.index)).sum(1)
                    error.add_(reach, alpha=gamma(push.amount.shape[1] + 4, eps))
            _gather(form, node.inputs[0], rows.carry(v, node.inputs[0], back, network))
            continue
        if isinstance(node.op, Affine):
            b = node.op.offset()
            if b is not None:
                total = total + (c * rows.constant(b, v, network)).flatten(1).sum(1)
            lose(v, c, c[0].numel() + _fan(network, v))
        for i, back in rows.pull(network, v, c):
            _gather(form, i, back)
    return total - 2 * error if sizes is not None else total


def _gather(form: dict[int, Tensor], value: int, c: Tensor) -> None:
    form[value] = form[value] + c if value in form else c


def _fan(network: Network, value: int) -> int:
    """The longest sum of ``A^T c`` or ``A x`` at an affine value."""
    op, source = network.node(value).op, network.shapes[network.node(value).inputs[0]]
    assert isinstance(op, Affine)
    out = network.shapes[value]
    if len(out) == 3 and len(source) == 3:
        weight = getattr(op, "weight", None)
        return op.fan_in + (weight.shape[0] * math.prod(weight.shape[2:]) if weight is not None else 1)
    return op.fan_in + math.prod(out)


def magnitudes(network: Network, box: Box, lines: Mapping[int, Lines]) -> dict[int, Tensor]:
    """How large each value's terms can be while the ReLUs move between their lines: value -> [n, *shape].

    At an affine value this bounds |A| |x| + |b|, at a ReLU |z| + gap (0 where it is off), at the input |x|.
    Splits only switch neurons to one of their lines' ends, so these also hold below a split.
    """
    sizes = {0: torch.maximum(box.lower.abs(), box.upper.abs())}
    for v, node in enumerate(network.nodes, start=1):
        args = [sizes[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            sizes[v] = (args[0] + lines[v].gap) * (lines[v].up > 0).to(args[0].dtype)
        elif isinstance(node.op, Affine):
            sizes[v] = node.op.absolute().forward(args[0])
        else:
            sizes[v] = torch.stack(args).sum(0)
    return sizes
