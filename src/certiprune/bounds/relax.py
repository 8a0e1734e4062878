"""Two lines around each ReLU.

For a neuron with pre-activation bounds l <= z <= u, ``relu(z)`` lies between
    low * z        with low = 1 where l >= 0, 0 where u <= 0, else any number in [0, 1]
    up * z + gap   with up = u / (u - l), gap = -up * l where l < 0 < u; else the same as below
(Ehlers 2017; Zhang et al. 2018, CROWN). A split imposes z >= 0 (on) or z <= 0 (off): the neuron becomes stable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.preact import PreActivation


@dataclass(frozen=True)
class Lines:
    """The lines of one ReLU's neurons, all tensors of one shape [n, *shape]; ``gap >= 0``."""

    low: Tensor
    up: Tensor
    gap: Tensor


def lines(pre: PreActivation, alpha: Mapping[int, Tensor] | None = None) -> dict[int, Lines]:
    """The lines of every ReLU; ``alpha`` gives the lower slopes of unstable neurons, clamped to [0, 1].

    Without ``alpha`` the lower slope is CROWN's: 1 where the upper end is the larger one, else 0.
    """
    out = {}
    for v, lower in pre.lower.items():
        upper = pre.upper[v]
        unstable = ((lower < 0) & (upper > 0)).to(lower.dtype)
        on = (lower >= 0).to(lower.dtype)
        up = unstable * chord(lower, upper) + on
        gap = -lower * up * unstable
        slope = (upper > -lower).to(lower.dtype) if alpha is None else alpha[v].clamp(0, 1)
        out[v] = Lines(unstable * slope + on, up, gap)
    return out


def chord(lower: Tensor, upper: Tensor) -> Tensor:
    """The slope u / (u - l) of the chord over l < 0 < u, with a relative error of a few roundings."""
    # Halves, because the difference of two ends may overflow; where it underflows, a slope of 1 is still a bound.
    half = upper / 2 - lower / 2
    wide = half > 4 * torch.finfo(half.dtype).tiny
    # The quotient that is not used must not be 0 / 0 either: its gradient would be no number.
    return torch.where(wide, upper / 2 / torch.where(wide, half, 1.0), 1.0)
