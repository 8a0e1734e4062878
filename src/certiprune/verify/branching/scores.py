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
from certiprune.verify.relaxation import Relaxation, Subproblems


def relaxation_cost(relaxation: Relaxation, sub: Subproblems, trace: Trace, theta: Tensor) -> Tensor:
    """The score [m, k] of each column: what its relaxation costs; -1 where a column cannot be split."""
    parts = []
    for v, neuron in relaxation.index.neuron.items():
        columns = relaxation.index.columns[v]
        index = neuron[sub.item]
        c = trace.coeff[v].flatten(1).gather(1, index)
        z = trace.entering[v].flatten(1).gather(1, index)
        root = relaxation.quick_lines[v]
        up = root.up.flatten(1).gather(1, neuron)[sub.item]
        gap = root.gap.flatten(1).gather(1, neuron)[sub.item]
        low = theta[:, columns]
        relu = z.clamp(min=0)
        above = c.clamp(min=0) * (relu - low * z)
        below = -c.clamp(max=0) * (torch.addcmul(gap, up, z) - relu)
        parts.append(above.abs() + below.abs() - c.clamp(max=0) * gap)
    cost = torch.cat(parts, 1)
    free = relaxation.free(sub)
    return cost * free + free - 1
