"""Adversarial training with one step from a random start.

    minimise  CE(f(x + delta), y),
    delta = clip(eta + step eps sign(grad_x CE(f(x + eta), y))),    eta uniform in the ball

Wong et al., "Fast is better than free: revisiting adversarial training", ICLR 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from certiprune.train.errors import require
from certiprune.train.losses.attack import attacked
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Fgsm(AbstractLoss):
    """Cross-entropy at the point that one gradient step from a random start reaches.

    The start is uniform in the ball, each image and pixel on its own, the step is ``step * eps`` long, and
    both are moved back into the ball and into [0, 1]. The attack sees the model in the mode it is in and
    leaves the running statistics of BatchNorm alone. At ``eps`` 0 this is exactly the natural loss.

    Attributes:
        step: the length of the step in units of ``eps``; 1.25 in the study.
    """

    name: ClassVar[str] = "fgsm"

    step: float = 1.25

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)

    def __call__(self, scene: Scene) -> Terms:
        points = attacked(scene, scene.model, reach=scene.eps, steps=1, step=self.step)
        return classification(scene.model(points), scene.batch.labels)
