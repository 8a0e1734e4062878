"""Adversarial training with one step from a random start.

Wong et al., "Fast is better than free: revisiting adversarial training", ICLR 2020.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from certiprune.attack import descend, frozen_statistics, negative_cross_entropy
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.data import Batch
from certiprune.train.losses.base import AbstractLoss, Terms
from certiprune.train.losses.natural import classification


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
        if not (math.isfinite(self.step) and self.step > 0):
            raise InputError(f"the option step of the loss fgsm must be above 0, not {self.step}")

    def __call__(self, model: nn.Module, batch: Batch, *, eps: float, generator: torch.Generator) -> Terms:
        points = batch.images if eps == 0 else self._attack(model, batch, eps, generator)
        return classification(model, points, batch.labels)

    def _attack(self, model: nn.Module, batch: Batch, eps: float, generator: torch.Generator) -> Tensor:
        images, labels = batch
        ball = Box.ball(images, eps)
        unit = torch.rand(images.shape, generator=generator, device=generator.device).to(images)
        start = ball.clamp(images + eps * (2 * unit - 1))
        with frozen_statistics(model):
            reached = descend(negative_cross_entropy(model, labels), start, self.step * eps)
        return ball.clamp(reached)
