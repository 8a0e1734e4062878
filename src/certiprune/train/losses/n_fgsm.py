"""Adversarial training with one step from strong noise, without projection.

    minimise  CE(f(x + eta + step eps sign(grad_x CE(f(x + eta), y))), y),    eta uniform in [-noise eps, noise eps]

The noise is larger than the ball and nothing is moved back into it, which avoids catastrophic overfitting without the
double backpropagation of GradAlign. De Jorge et al., "Make some noise: reliable and efficient single-step adversarial
training", NeurIPS 2022. Points are kept in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from certiprune.attack import descend, frozen_statistics, negative_cross_entropy
from certiprune.train.errors import require
from certiprune.train.losses.attack import noise
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class NFgsm(AbstractLoss):
    """Cross-entropy at a noisy point after one step; see the formula above.

    Attributes:
        step: the length of the step in units of ``eps``; 1 in the paper.
        noise: the half width of the noise in units of ``eps``; 2 in the paper.
    """

    name: ClassVar[str] = "n_fgsm"

    step: float = 1.0
    noise: float = 2.0

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)
        require(f"loss {self.name}", "noise", self.noise, "at least 0", self.noise >= 0)

    def __call__(self, scene: Scene) -> Terms:
        images, labels = scene.batch
        if scene.eps > 0:
            start = (images + noise(images, self.noise * scene.eps, scene.generator)).clamp(0, 1)
            with frozen_statistics(scene.model):
                reached = descend(negative_cross_entropy(scene.model, labels), start, self.step * scene.eps)
            images = torch.clamp(reached, 0, 1)
        return classification(scene.model(images), labels)
