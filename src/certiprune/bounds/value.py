"""The trusted bound: CROWN, alpha-CROWN and beta-CROWN in one pure function.

For a linear form c over a value, walk back to the input. At a ReLU h = relu(z) with lines low, up, gap (``relax.py``)
    c h >= max(c, 0) low z + min(c, 0) (up z + gap),
so coefficients become c' = max(c, 0) low + min(c, 0) up and the constant gains min(c, 0) gap. A split of sign s
(+1: z >= 0, -1: z <= 0) with multiplier beta >= 0 adds  -beta s z <= 0  (Wang et al. 2021). At the input
    min over the box = sum max(c, 0) lower + min(c, 0) upper.
Weak duality: whatever the slopes in [0, 1] and the multipliers >= 0, the result is a lower bound of the form on that
part of the box where the splits hold.

Rounding. Let c be the computed coefficients over z = A h + b. Then c z = (A^T c) h + c b for the true values
h, so with |fl(A^T c) - A^T c| <= gamma_k |A|^T |c| the step loses at most gamma_k |c| (|A| |h| + |b|), k the number
of terms summed and |h| the largest that the activation is in the box (Higham 2002, section 3.1). The same holds at a
ReLU and at the input. The losses are added up and subtracted; they also cover weights rounded to the precision of the
computation. Sums are taken dimension by dimension, which keeps k small in whatever order a library adds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.interval import gamma
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines
from certiprune.bounds.rows import Rows, gather
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Conv, Dense, Relu


@dataclass(frozen=True)
class Push:
    """What is added to the coefficients of what enters one ReLU: ``amount`` at ``index``, such as -beta * s of a split.

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
    precision = rows.coeff.dtype
    steps = rows.plan.additions(network)
    error = total.abs() * gamma(steps, precision) + UNDERFLOW

    def lose(value: int, c: Tensor, terms: int) -> None:
        if sizes is not None:
            lost = c.abs().add_(UNDERFLOW).mul_(rows.share(sizes[value], value)).flatten(1).sum(1)
            error.add_(lost, alpha=gamma(terms + steps, precision))

    for v in rows.plan.order:
        c = form.pop(v)
        if v == 0:
            low, high = rows.share(box.lower, 0), rows.share(box.upper, 0)
            total = total + _sum(c.clamp(min=0).mul_(low).add_(c.clamp(max=0).mul_(high)))
            lose(0, c, _terms(c))
            break
        node = network.node(v)
        if isinstance(node.op, Relu):
            here = lines[v]
            low, up, gap = (t if seen else rows.share(t, v) for t in (here.low, here.up, here.gap))
            below = c.clamp(max=0)
            total = total + _sum(below * gap)
            lose(v, c, _terms(c))
            back = c.clamp(min=0).mul_(low).add_(below.mul_(up))
            if pushes is not None and v in pushes:
                push = pushes[v]
                back = back.flatten(1).scatter_add(1, push.index, push.amount).reshape(back.shape)
                if sizes is not None:
                    entering = rows.take(sizes[node.inputs[0]], node.inputs[0]).flatten(1)
                    reach = (push.amount.abs() * entering.gather(1, push.index)).sum(1)
                    error.add_(reach, alpha=gamma(steps, precision))
            gather(form, [(node.inputs[0], rows.carry(v, node.inputs[0], back, network))])
            continue
        if isinstance(node.op, Affine):
            b = node.op.offset()
            if b is not None:
                total = total + _sum(c * rows.constant(b, v, network))
            lose(v, c, _terms(c) + pulled_terms(node.op))
        gather(form, rows.pull(network, v, c))
    if sizes is None:
        return total
    value = total - 2 * error
    # What overflowed proves nothing. The allowances do not show it: parts of several values may each be finite, and be
    # infinite together before parts that are below 0 are added.
    return torch.where(value.isfinite(), value, -torch.inf)


# Products too small for the precision lose up to 2^-126 (float32) each: of a form's value, or of a coefficient. Times
# ``gamma``, which is above 2^-21 there, this is more than 2^-126 for each term of a sum of less than 2^20.
UNDERFLOW = 1e-25


def _sum(t: Tensor) -> Tensor:
    """Everything but the first dimension summed, last dimension first."""
    while t.dim() > 1:
        t = t.sum(-1)
    return t


def _terms(t: Tensor) -> int:
    """How many additions a term takes part in when ``_sum`` sums ``t``."""
    return sum(t.shape[1:])


def pulled_terms(op: Affine) -> int:
    """How many terms ``op.pull`` adds up in one entry."""
    if isinstance(op, Conv):
        out, _, kh, kw = op.weight.shape
        return (out // op.groups) * math.ceil(kh / op.stride[0]) * math.ceil(kw / op.stride[1])
    return op.weight.shape[0] if isinstance(op, Dense) else 1


def magnitudes(
    network: Network, box: Box, pre: PreActivation, dtype: torch.dtype = torch.float64
) -> dict[int, Tensor]:
    """How large each value's terms can be in the boxes: value -> [n, *shape], for rounding in ``dtype``.

    At an affine value this bounds |A| |h| + |b|, at a ReLU |z| + gap (0 where it is off), at the input |x|. ReLUs that
    ``pre`` does not bound, and values that need them, are left out.
    """
    sizes = {0: torch.maximum(box.lower.abs(), box.upper.abs())}
    active = {0: sizes[0]}
    for v, node in enumerate(network.nodes, start=1):
        if isinstance(node.op, Relu):
            if v not in pre.lower:
                continue
            lower, upper = pre.lower[v], pre.upper[v]
            active[v] = upper.clamp(min=0)
            sizes[v] = (torch.maximum(lower.abs(), upper) - lower.clamp(max=0)) * (upper > 0).to(upper.dtype)
        elif all(i in active for i in node.inputs):
            args = [active[i] for i in node.inputs]
            op = node.op
            sizes[v] = (
                op.absolute(dtype).forward(args[0]) if isinstance(op, Affine) else torch.stack(args).sum(0)
            )
            active[v] = sizes[v]
    return sizes
