"""Pre-activation bounds of the part of a box that could still violate the property.

A proof by contradiction may assume what it refutes: where a form m(x) (a row of the property) is not positive and the
splits hold, any gamma >= 0 gives
    z_j(x)  >=  z_j(x) + gamma m(x) - sum_i beta_i s_i z_i(x)  >=  its dual value,
so a neuron may be bounded with the property and the splits as constraints (Kotha et al. 2023). A bound proved this way
holds only there; crossed bounds say that no such point exists, which proves the form positive.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.optimise import Rates
from certiprune.bounds.preact import PreActivation
from certiprune.verify.relaxation import Relaxation, Subproblems


@dataclass(frozen=True)
class Tightened:
    """``pre``: bounds for each subproblem's violating part; ``empty`` [m]: where there is no such part."""

    pre: PreActivation
    empty: Tensor


def tighten(
    relaxation: Relaxation, sub: Subproblems, relus: list[int], *, steps: int, rates: Rates
) -> Tightened:
    """Bound the unstable neurons of ``relus`` again for each of ``m`` subproblems.

    Args:
        relaxation: its rows are the subproblems' boxes and known bounds.
        sub: m subproblems; the form and the signs are the constraints.
        relus: which ReLU values.
        steps: ascent iterations for each neuron.
        rates: of the ascent.
    """
    lower = {v: t[sub.item].flatten(1).clone() for v, t in relaxation.pre.lower.items()}
    upper = {v: t[sub.item].flatten(1).clone() for v, t in relaxation.pre.upper.items()}
    free = relaxation.free(sub) > 0
    for v in relus:
        columns = relaxation.index.columns[v]
        found = free[:, columns].nonzero()
        size = max(1, relaxation.batch() // 2)
        for part in found.split(size):
            row, column = part.unbind(1)
            neuron = relaxation.index.neuron[v][sub.item[row], column]
            for sign, ends in ((1.0, lower[v]), (-1.0, upper[v])):
                bound = _bound(relaxation, sub[row], column + columns.start, sign, steps, rates)
                known = ends[row, neuron]
                ends[row, neuron] = torch.maximum(known, bound) if sign > 0 else torch.minimum(known, -bound)
    crossed = [(lower[v] > upper[v]).any(1) for v in relus]
    empty = torch.stack(crossed).any(0) if crossed else torch.zeros(len(sub), dtype=torch.bool)
    shape = {v: (len(sub), *t.shape[1:]) for v, t in relaxation.pre.lower.items()}
    pre = PreActivation(
        {v: t.reshape(shape[v]) for v, t in lower.items()}, {v: t.reshape(shape[v]) for v, t in upper.items()}
    )
    return Tightened(pre, empty)


def _bound(
    relaxation: Relaxation, sub: Subproblems, column: Tensor, sign: float, steps: int, rates: Rates
) -> Tensor:
    """Rigorous lower bounds [m] of ``sign`` times the entering value of each row's ``column``."""
    goal = torch.zeros_like(sub.sign).scatter(1, column.unsqueeze(1), sign)
    start = torch.nn.functional.pad(sub.theta, (0, 1))
    asked = Subproblems(sub.item, sub.coeff, sub.const, start, sub.sign, goal)
    end = relaxation.ascend(asked, steps=steps, rates=rates, goal=float("inf"))
    return relaxation.prove(Subproblems(sub.item, sub.coeff, sub.const, end.theta, sub.sign, goal))
