"""Which neuron to split: what its relaxation's intercept costs the bound.

With coefficient c behind the neuron, the bound pays  -min(c, 0) gap  for the upper line's intercept, which either split
brings to 0: the part of BaBSR's score (Bunel et al. 2020) that decides. Where no intercept is paid, what the lower line
costs at the minimiser, c (relu(z) - low z), breaks the tie.
"""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.bounds.optimise import Trace
from certiprune.verify.relaxation import Relaxation
from certiprune.verify.subproblem import Columns, Subproblems

_TIE = 1e-3


def relaxation_cost(relaxation: Relaxation, sub: Subproblems, trace: Trace) -> Tensor:
    """The score [m, k] of each column: what its relaxation costs; -1 where a column cannot be split."""
    own = Columns.of(sub, torch.float32)
    c, z = relaxation.seen(sub, trace)
    lower_line = c.clamp(min=0) * (z.clamp(min=0) - own.low * z).abs()
    score = _TIE * lower_line - c.clamp(max=0) * own.gap
    # Where float32 overflowed any free neuron will do, but what is not free must stay out.
    return torch.where(own.free > 0, score.nan_to_num(0.0), -1.0)
