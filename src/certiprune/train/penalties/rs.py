"""The RS loss: it pushes bounds of what enters a ReLU to one side of 0.

    RS = mean over neurons of  -tanh(1 + l u),    l <= u the bounds before the ReLU

low where l u is large: where both have the same sign, the neuron is stable. Xiao et al., "Training for faster
adversarial robustness verification via inducing ReLU stability", ICLR 2019. Bounds are those that
the loss trains on where it has any, else interval bounds of the balls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Rs(AbstractPenalty):
    """The mean of ``-tanh(1 + l u)`` over all neurons and images. It does not apply at eps 0, where l = u."""

    name: ClassVar[str] = "rs"

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        if scene.eps == 0:
            return None
        return stability(scene.bounds.pre if bounds is None else bounds, {})


def stability(bounds: PreActivation, units: Mapping[int, Tensor]) -> Tensor:
    """The mean over all neurons of ``-tanh(1 + l u / unit^2)``.

    Args:
        bounds: [n, *shape] for each ReLU.
        units: ReLU value -> what its bounds are measured in, broadcastable to its shape; 1 where it says nothing.
    """
    sums, count = [], 0
    for v, lower in bounds.lower.items():
        sums.append(torch.tanh(stable(lower, bounds.upper[v], units.get(v))).sum())
        count += lower.numel()
    return -torch.stack(sums).sum() / count if sums else torch.zeros(())


def stable(lower: Tensor, upper: Tensor, unit: Tensor | None = None) -> Tensor:
    """``1 + l u / unit^2`` of each neuron: what the loss makes large.

    Args:
        lower, upper: bounds [n, *shape].
        unit: what they are measured in, broadcastable to their shape; 1 where it is None.
    """
    product = lower * upper
    if unit is not None:
        # A channel of scale 0 is constant: any unit will do, but not 0.
        product = product / unit.square().clamp(min=1e-12)
    return 1 + product
