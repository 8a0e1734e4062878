"""Certified training by interval bounds.

    minimise  CE(-m, y),    m_j <= f_y(x') - f_j(x') for every x' in the ball, by interval arithmetic (m_y = 0)

the largest cross-entropy that the interval bounds allow; Gowal et al., "On the effectiveness of interval bound
propagation for training verifiably robust models", 2018 (with the last layer's differences taken before the bounds).
With the initialisation ``ibp`` and the penalty ``fast_ibp`` it is the training of Shi et al. 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.train.errors import require
from certiprune.train.losses.base import AbstractLoss, Terms, accuracy, classification
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Ibp(AbstractLoss):
    """The worst cross-entropy by interval bounds, and a share of the natural one.

    Attributes:
        natural: the share (kappa) of the natural loss, in [0, 1).
    """

    name: ClassVar[str] = "ibp"
    certified: ClassVar[bool] = True

    natural: float = 0.0

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "natural", self.natural, "in [0, 1)", 0 <= self.natural < 1)

    def __call__(self, scene: Scene) -> Terms:
        labels = scene.batch.labels
        if scene.eps == 0:
            return classification(scene.outputs, labels)
        worst = worst_scores(scene)
        total = cross_entropy(worst, labels)
        if self.natural > 0:
            total = (1 - self.natural) * total + self.natural * cross_entropy(scene.outputs, labels)
        return Terms(total, measures(scene, worst), scene.bounds.pre)


def worst_scores(scene: Scene) -> Tensor:
    """Upper bounds [n, classes] of every output less the label's in the balls; the label's own is 0."""
    centre, radius = scene.margins
    return centre + radius


def measures(scene: Scene, worst: Tensor) -> dict[str, float]:
    """Clean accuracy, and the fraction whose worst scores [n, classes] leave the label on top."""
    labels = scene.batch.labels
    certified = float(on_top(worst.detach(), labels).float().mean())
    return {"accuracy": accuracy(scene.outputs, labels), "certified_accuracy": certified}


def on_top(worst: Tensor, labels: Tensor) -> Tensor:
    """Which images' ``labels`` [n] beat every other class by worst scores [n, classes]: a boolean tensor [n]."""
    other = worst.scatter(1, labels.unsqueeze(1), -torch.inf)
    return other.amax(1) < 0
