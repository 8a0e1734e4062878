"""The study's adversarial training: FGSM, with gradients held in line.

    minimise  CE(f(x + delta), y) + weight (1 - cos(grad_x CE(f(x), y), grad_x CE(f(x + eta), y))),
    delta = clip(eta + step eps sign(grad_x CE(f(x + eta), y))),    eta uniform in the ball

One step finds adversarial points only as long as gradients inside the ball point the same way; FGSM alone breaks that
after a while (catastrophic overfitting). Andriushchenko and Flammarion, "Understanding and improving fast
adversarial training", NeurIPS 2020.

The gradient at x + eta serves the step, too, so that it is computed once. Of the regulariser, as in the authors' code,
only one of the two gradients is differentiated again, here the one at x + eta; the other is a constant, and so are
the statistics of the clean images, by which BatchNorm goes in both. (An image's gradient is then its own, and no
second derivative of BatchNorm is needed.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from certiprune.net.network import Network
from certiprune.train.errors import require
from certiprune.train.losses.attack import noise
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.losses.natural import Natural
from certiprune.train.scene import Scene
from certiprune.train.twice import outputs


@dataclass(frozen=True)
class GradAlign(AbstractLoss):
    """FGSM with the regulariser GradAlign; see the formula above, and there for what of it has no gradient.

    Attributes:
        step: the length of the step in units of ``eps``; 1.25 in the study.
        weight: the regulariser's factor (lambda); 0.2 in the study.
    """

    name: ClassVar[str] = "gradalign"

    step: float = 1.25
    weight: float = 0.2

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)
        require(f"loss {self.name}", "weight", self.weight, "at least 0", self.weight >= 0)

    def __call__(self, scene: Scene) -> Terms:
        if scene.eps == 0:
            return Natural()(scene)
        images, labels = scene.batch
        start = scene.box.clamp(images + noise(images, scene.eps, scene.generator))
        there = _gradient(scene.fixed, start, labels)
        here = _gradient(scene.fixed, images, labels, constant=True)
        points = scene.box.clamp(start + self.step * scene.eps * there.detach().sign())
        terms = classification(scene.model(points), labels)
        apart = 1 - cosine_similarity(here.flatten(1), there.flatten(1)).mean()
        parts = terms.parts | {"gradalign": float(apart.detach())}
        return Terms(terms.total + self.weight * apart, parts)


def _gradient(network: Network, points: Tensor, labels: Tensor, *, constant: bool = False) -> Tensor:
    """The gradient of each image's cross-entropy [n, *shape] at ``points``; with its own graph unless ``constant``."""
    points = points.detach().requires_grad_()
    # A sum: each image has its own gradient, whatever the size of the batch.
    loss = cross_entropy(outputs(network, points), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, points, create_graph=not constant)
    return gradient
