"""Filtered smart branching (De Palma et al. 2021): a shortlist by score, then the candidates' children bounded."""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.bounds.optimise import Trace
from certiprune.verify.branching.scores import split_gain
from certiprune.verify.relaxation import Relaxation, even
from certiprune.verify.subproblem import Subproblems


def choose(relaxation: Relaxation, sub: Subproblems, trace: Trace, candidates: int) -> Tensor:
    """The column to split [m] of each subproblem, -1 where every neuron is fixed.

    Args:
        relaxation: the root relaxation.
        sub: m subproblems.
        trace: what their last bound saw.
        candidates: how many of the shortlist to try; with 1 the score alone decides.
    """
    score = split_gain(relaxation, sub, trace)
    if score.shape[1] == 0:
        return torch.full_like(sub.task, -1)
    best, column = score.topk(min(candidates, score.shape[1]), dim=1)
    fixed = best[:, 0] < 0
    chosen = column[:, 0]
    if candidates > 1 and score.shape[1] > 1:
        gain = _children(relaxation, sub, column, trace.value)
        gain = gain.masked_fill(best < 0, -torch.inf)
        chosen = column.gather(1, gain.argmax(1, keepdim=True))[:, 0]
    return torch.where(fixed, -1, chosen)


def _children(relaxation: Relaxation, sub: Subproblems, column: Tensor, value: Tensor) -> Tensor:
    """How good each candidate is, [m, candidates]: the product of what its two children gain as they stand, up to 0."""
    m, k = column.shape
    many = sub[torch.arange(m).repeat_interleave(k * 2)]
    sign = torch.tensor([1.0, -1.0]).repeat(m * k).unsqueeze(1)
    children = split(many, column.reshape(-1).repeat_interleave(2), sign)
    parts = []
    size = even(len(children), relaxation.part())
    for at in range(0, len(children), size):
        parts.append(relaxation.quick_value(children[at : at + size]).value)
    gain = torch.cat(parts).reshape(m, k, 2).clamp(max=0.0) - value.reshape(m, 1, 1)
    # A child that gains nothing must not hide how good the other one is.
    little = 0.1 * (-value).clamp(min=1e-6).reshape(m, 1, 1)
    return (gain.clamp(min=0) + little).prod(2)


def split(sub: Subproblems, column: Tensor, sign: Tensor) -> Subproblems:
    """The subproblems with the neuron of ``column`` [m] given ``sign`` [m, 1], its multiplier at 0."""
    where = column.unsqueeze(1)
    return Subproblems(
        sub.task, sub.theta.scatter(1, where, 0.0), sub.sign.scatter(1, where, sign), sub.lower, sub.upper
    )
