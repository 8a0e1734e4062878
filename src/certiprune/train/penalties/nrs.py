"""The study's NRS loss: the RS loss of the bounds before BatchNorm.

    NRS = mean over neurons of  -tanh(1 + l u / gamma^2),    gamma the scale of the neuron's BatchNorm channel

without a gradient through the division: of z = gamma x + beta it is the RS loss of z / gamma. It is high where a
neuron is unstable and its channel unimportant. Li et al., "Can pruning improve certified robustness of neural
networks?", TMLR 2023. Where a ReLU has no BatchNorm right before it gamma is 1, and the term that of the RS loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.penalties.rs import stability
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Nrs(AbstractPenalty):
    """The mean of ``-tanh(1 + l u / gamma^2)`` over all neurons and images. It does not apply at eps 0."""

    name: ClassVar[str] = "nrs"

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        if scene.eps == 0:
            return None
        return stability(scene.bounds.pre if bounds is None else bounds, scene.scales)
