"""Adversarial training with several projected gradient steps.

    minimise  CE(f(x'), y),    x' <- clip(x' + step eps sign(grad_x CE(f(x'), y)))  ``steps`` times from a random start

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from certiprune.train.errors import require
from certiprune.train.losses.attack import attacked
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Pgd(AbstractLoss):
    """Cross-entropy at the point that PGD reaches from a start that is uniform in the ball.

    The attack leaves the running statistics of BatchNorm alone.

    Attributes:
        steps: how many.
        step: the length of each in units of ``eps``.
    """

    name: ClassVar[str] = "pgd"

    steps: int = 8
    step: float = 0.25

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "steps", self.steps, "at least 1", self.steps >= 1)
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)

    def __call__(self, scene: Scene) -> Terms:
        points = attacked(scene, scene.model, reach=scene.eps, steps=self.steps, step=self.step)
        return classification(scene.model(points), scene.batch.labels)
