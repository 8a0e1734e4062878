"""One row for a clause of several: the weighted mean of its rows that has the largest bound.

A clause holds where one of its rows r_i is positive, so wherever sum_i w_i r_i > 0 for some weights w >= 0 of sum 1.
Near points where one row takes over from another no single row is positive on a whole cell, but such a mean may be.
Where the rows are zonotopes of centre c_i and generators g_i, its bound is
    L(w) = w @ c - sum_g |w @ g|,
which is concave. It is raised by exponentiated subgradient steps (Kivinen and Warmuth 1997) from equal weights. The
weights are a guess like every other parameter: the trusted bound of the mean is what counts.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 30


def mixtures(centre: Tensor, generators: Tensor, clause: Tensor) -> Tensor:
    """Weights [m, clauses, rows] of each clause's rows in ``m`` cells, 0 for the rows of other clauses.

    Args:
        centre: [m, rows], the rows' centres.
        generators: [m, rows, g].
        clause: [rows] int64, the clause of each row.
    """
    count = int(clause.max()) + 1
    own = (clause == torch.arange(count).unsqueeze(1)).to(centre.dtype)
    alone = centre - generators.abs().sum(2)
    # The best single row is the least that is wanted.
    row = alone.unsqueeze(1).masked_fill(own == 0, -torch.inf).argmax(2)
    best = torch.nn.functional.one_hot(row, len(clause)).to(centre.dtype)
    if len(clause) == count:
        return best
    weight = (own / own.sum(1, keepdim=True)).expand(len(centre), -1, -1)
    value = _bound(best, centre, generators)[0]
    for step in range(_STEPS):
        here, slope = _bound(weight, centre, generators)
        better = here > value
        best, value = torch.where(better.unsqueeze(2), weight, best), torch.where(better, here, value)
        mean = (slope * weight).sum(2, keepdim=True)
        size = ((slope - mean).abs() * own).amax(2, keepdim=True).clamp(min=1e-300)
        weight = weight * ((slope - mean) / size * (2 / (1 + step) ** 0.5)).clamp(-30, 30).exp()
        weight = weight / weight.sum(2, keepdim=True)
    return best


def _bound(weight: Tensor, centre: Tensor, generators: Tensor) -> tuple[Tensor, Tensor]:
    """The bounds L [m, clauses] of weighted means, and their slopes [m, clauses, rows] in the weights."""
    mixed = weight @ generators
    slope = centre.unsqueeze(1) - mixed.sign() @ generators.transpose(1, 2)
    return (weight * slope).sum(2), slope
