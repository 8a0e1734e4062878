"""Certified training by CROWN-IBP with loss fusion.

For z_j = f_j - f_y with interval bounds l_j <= z_j <= u_j the exponential lies below its chord, e^z <= a_j z + b_j, so
    sum_j e^{z_j} <= sum_j a_j z_j + b_j <= U,
U from one walk back of the single form sum_j a_j z_j (CROWN's lines around the ReLUs' interval bounds): the bound of
the cross entropy itself, at a cost that does not depend on the number of classes. With the interval's own sum
V = sum_j e^{u_j},
    minimise  log(beta U + (1 - beta) V),    beta = 1 - eps / eps_end    (so it ends as IBP).

Zhang et al., "Towards stable and efficient training of verifiably robust neural networks", ICLR 2020 (CROWN-IBP);
Xu et al., "Automatic perturbation analysis for scalable certified robustness and beyond", NeurIPS 2020,
section 3.3 (loss fusion).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from certiprune.bounds.crown import crown
from certiprune.train.errors import require
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.losses.ibp import measures, worst_scores
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class CrownIbp(AbstractLoss):
    """The bound of the cross entropy by one walk back, annealed to the interval bound as eps rises.

    Attributes:
        start: beta at eps 0, in [0, 1].
        end: beta at the final eps; 0 ends as IBP, 1 with ``start`` 1 is CROWN-IBP throughout.
    """

    name: ClassVar[str] = "crown_ibp"
    certified: ClassVar[bool] = True

    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        for option in ("start", "end"):
            value = getattr(self, option)
            require(f"loss {self.name}", option, value, "in [0, 1]", 0 <= value <= 1)

    def __call__(self, scene: Scene) -> Terms:
        labels = scene.batch.labels
        if scene.eps == 0:
            return classification(scene.outputs, labels)
        beta = self.end + (self.start - self.end) * scene.left
        total = fused(scene, beta).mean()
        return Terms(total, measures(scene, worst_scores(scene)) | {"beta": beta}, scene.bounds.pre)


def fused(scene: Scene, beta: float) -> Tensor:
    """Upper bounds [n] of each ball's largest cross entropy: ``log(beta U + (1 - beta) V)``."""
    centre, radius = scene.margins
    low, high = centre - radius, centre + radius
    # Everything times e^-top, which chords commute with, so that nothing overflows.
    top = high.detach().amax(1, keepdim=True)
    above = (high - top).exp()
    interval = above.sum(1)
    if beta == 0:
        return interval.log() + top[:, 0]
    width = high - low
    flat = width < 1e-6
    slope = torch.where(flat, above, (above - (low - top).exp()) / torch.where(flat, 1.0, width))
    const = above - slope * high
    form = slope.scatter_add(1, scene.batch.labels.unsqueeze(1), -slope.sum(1, keepdim=True))
    walked = -crown(scene.network, scene.box, scene.bounds.pre, -form, -const.sum(1))
    return (beta * walked + (1 - beta) * interval).log() + top[:, 0]
