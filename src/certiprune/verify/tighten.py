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
from certiprune.core.box import round_down, round_up
from certiprune.verify.relaxation import Relaxation
from certiprune.verify.subproblem import Subproblems

# Where the ascent starts for the property's multiplier; with one already near its best value few steps suffice.
_MULTIPLIER = 0.5


@dataclass(frozen=True)
class Tightened:
    """``sub``: the subproblems with better bounds; ``empty`` [m]: where no point violates the form."""

    sub: Subproblems
    empty: Tensor


def tighten(
    relaxation: Relaxation, sub: Subproblems, chosen: Tensor, *, steps: int, rates: Rates
) -> Tightened:
    """Bound chosen neurons again for each of ``m`` subproblems.

    Args:
        relaxation: of the subproblems' tasks.
        sub: m subproblems; the form and the signs are the constraints.
        chosen: [m, k] boolean, which columns; those that are not free are passed over.
        steps: ascent iterations for each neuron.
        rates: of the ascent.
    """
    found = (chosen & (sub.free > 0)).nonzero()
    if len(found) == 0:
        return Tightened(sub, torch.zeros(len(sub), dtype=torch.bool))
    lower, upper = sub.lower.clone(), sub.upper.clone()
    for part in found.split(max(1, relaxation.batch() // 2)):
        row, column = part.unbind(1)
        both = sub[row.repeat(2)]
        sign = torch.ones(len(row), dtype=sub.sign.dtype, device=sub.sign.device)
        bound = _bound(relaxation, both, column.repeat(2), torch.cat([sign, -sign]), steps, rates)
        low, high = bound.chunk(2)
        # Not ``maximum``: where float32 overflowed the bound is NaN, and a NaN end would pass for a stable neuron.
        lower[row, column] = torch.fmax(lower[row, column], round_down(low, torch.float32))
        upper[row, column] = torch.fmin(upper[row, column], round_up(-high, torch.float32))
    better = Subproblems(sub.task, sub.theta, sub.sign, lower, upper)
    return Tightened(better, (lower > upper).any(1))


def _bound(
    relaxation: Relaxation, sub: Subproblems, column: Tensor, sign: Tensor, steps: int, rates: Rates
) -> Tensor:
    """Rigorous lower bounds [m] of ``sign`` [m] times what enters each subproblem's ``column`` [m]."""
    goal = torch.zeros_like(sub.sign).scatter(1, column.unsqueeze(1), sign.unsqueeze(1))
    theta = torch.nn.functional.pad(sub.theta, (0, 1), value=_MULTIPLIER)
    asked = Subproblems(sub.task, theta, sub.sign, sub.lower, sub.upper, goal)
    end = relaxation.ascend(asked, steps=steps, rates=rates, goal=float("inf"))
    return relaxation.prove(asked.using(end.theta), sign_only=False)
