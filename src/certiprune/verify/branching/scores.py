"""Which neuron to split: how much its relaxation costs at the bound's minimiser.

With coefficient c behind the neuron and entering value z at the minimiser of the current form, the form pays
    c (relu(z) - low z)            where c > 0,
    -c (up z + gap - relu(z))      where c < 0,
which splitting brings to 0; the intercept  -min(c, 0) gap  is what BaBSR (Bunel et al. 2020) looks at first.
"""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.bounds.optimise import Trace
from certiprune.verify.relaxation import Columns, Relaxation, Subproblems


def relaxation_cost(relaxation: Relaxation, sub: Subproblems, trace: Trace) -> Tensor:
    """The score [m, k] of each column: what its relaxation costs; -1 where a column cannot be split."""
    own = Columns.of(sub, torch.float32)
    parts = []
    for v, neuron in relaxation.index.neuron.items():
        columns, index = relaxation.index.columns[v], neuron[sub.task]
        c = trace.coeff[v].flatten(1).gather(1, index)
        z = trace.entering[v].flatten(1).gather(1, index)
        low, up, gap = own.low[:, columns], own.up[:, columns], own.gap[:, columns]
        relu = z.clamp(min=0)
        above = c.clamp(min=0) * (relu - low * z)
        below = -c.clamp(max=0) * (torch.addcmul(gap, up, z) - relu)
        parts.append(above.abs() + below.abs() - c.clamp(max=0) * gap)
    if not parts:
        return own.free
    # Where float32 overflowed, any free neuron will do; what is not free must stay out.
    return torch.where(own.free > 0, torch.cat(parts, 1).nan_to_num(0.0), -1.0)
