"""Which neuron to split: an estimate of how much each of its two children gains, from the last walk alone.

With coefficient c behind the neuron and z what enters it at the minimiser, its lines give the bound the term c h, where
h = up z + gap if c < 0 and h = low z if c > 0. Split off the term is 0, split on it is c z, and while the minimiser
stays where it is the bound gains
    off:  max(-c h, 0)          on:  max(c (z - h), 0).
A tree grows by what its worse and its better children gain together, so the score is the product of the two (the rule
of mixed-integer solvers; Achterberg, Koch and Martin 2005), each counted up to twice what the bound is short of 0:
more does not help. BaBSR's intercept (Bunel et al. 2020), -min(c, 0) gap, which is both gains where z = 0, breaks ties.
"""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.bounds.optimise import Trace
from certiprune.verify.relaxation import Relaxation
from certiprune.verify.subproblem import Columns, Subproblems

_TIE = 1e-6


def split_gain(relaxation: Relaxation, sub: Subproblems, trace: Trace) -> Tensor:
    """The score [m, k] of each column: the larger the better to split; -1 where a column cannot be split."""
    own = Columns.of(sub, torch.float32)
    c, z = relaxation.seen(sub, trace)
    below, above = c.clamp(max=0), c.clamp(min=0)
    term = below * (own.up * z + own.gap) + above * own.low * z
    most = (-2 * trace.value).clamp(min=1e-6).unsqueeze(1)
    off = torch.minimum((-term).clamp(min=0), most)
    on = torch.minimum((c * z - term).clamp(min=0), most)
    score = off * on - _TIE * below * own.gap
    # Where float32 overflowed any free neuron will do, but what is not free must stay out.
    return torch.where(own.free > 0, score.nan_to_num(0.0), -1.0)
