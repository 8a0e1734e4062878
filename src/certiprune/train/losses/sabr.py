"""Certified training on small boxes.

    minimise  CE(-m, y),    m the interval bounds' margins for the box of radius lambda eps around x',
    x' found by PGD among the points from which that box stays inside the ball: |x' - x| <= (1 - lambda) eps

Interval bounds of the whole ball regularise more than robustness needs; a small box at an adversarial point does not.
Mueller et al., "Certified training: small boxes are all you need" (SABR), ICLR 2023. lambda 1 is IBP, lambda 0 is PGD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch.nn.functional import cross_entropy

from certiprune.bounds.ibp import ibp, margins
from certiprune.core.box import Box
from certiprune.train.errors import require
from certiprune.train.losses.attack import attacked
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.losses.ibp import measures
from certiprune.train.scene import Scene, ball


@dataclass(frozen=True)
class Sabr(AbstractLoss):
    """The worst cross-entropy by interval bounds in a small box at an adversarial point.

    Attributes:
        ratio: the small box's radius in units of ``eps`` (lambda), in [0, 1].
        steps: of the attack.
        step: the length of each in units of the radius that the attack moves in.
    """

    name: ClassVar[str] = "sabr"
    certified: ClassVar[bool] = True

    ratio: float = 0.4
    steps: int = 8
    step: float = 0.25

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "ratio", self.ratio, "in [0, 1]", 0 <= self.ratio <= 1)
        require(f"loss {self.name}", "steps", self.steps, "at least 1", self.steps >= 1)
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)

    def __call__(self, scene: Scene) -> Terms:
        labels = scene.batch.labels
        if scene.eps == 0:
            return classification(scene.outputs, labels)
        model, reach = scene.target_of_attack, (1 - self.ratio) * scene.eps
        centre = attacked(scene, model, reach=reach, steps=self.steps, step=self.step)
        small = ball(centre, self.ratio * scene.eps)
        # Rounding may put an end a little outside of the ball.
        small = Box(scene.box.clamp(small.lower), scene.box.clamp(small.upper))
        bounds = ibp(scene.network, small)
        middle, radius = margins(scene.network, bounds, labels)
        worst = middle + radius
        parts = measures(scene, worst)
        # In small boxes nothing is certified.
        parts["small_box_accuracy"] = parts.pop("certified_accuracy")
        return Terms(cross_entropy(worst, labels), parts, bounds.pre)
