"""What adversarial and certified losses share: steps up a loss from a random start, for every image on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from certiprune.attack import descend, frozen_statistics, negative_cross_entropy
from certiprune.core.box import Box
from certiprune.train.scene import Scene, ball


def noise(images: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [-radius, radius], one for each number of ``images`` [n, c, h, w]."""
    unit = torch.rand(images.shape, generator=generator, device=generator.device).to(images)
    return radius * (2 * unit - 1)


def climb(
    model: Callable[[Tensor], Tensor],
    labels: Tensor,
    box: Box,
    start: Tensor,
    *,
    steps: int,
    length: float,
) -> Tensor:
    """Points [n, *shape] of the boxes that ``steps`` steps up the cross-entropy reach (PGD; Madry et al. 2018).

    Args:
        model: from points to class scores; it runs in the mode it is in.
        labels: [n].
        box: where points are moved back to after every step.
        start: [n, *shape]; moved into the boxes first.
        steps: how many; 0 gives the start.
        length: of a step along the gradient's sign, in input units.
    """
    objective = negative_cross_entropy(model, labels)
    points = box.clamp(start)
    for _ in range(steps):
        points = box.clamp(descend(objective, points, length))
    return points


def attacked(
    scene: Scene, model: Callable[[Tensor], Tensor], *, reach: float, steps: int, step: float
) -> Tensor:
    """Points [n, *shape] that PGD on ``model`` reaches from uniform starts around the images; these at ``reach`` 0.

    Args:
        model: as for ``climb``; the running statistics of BatchNorm are left alone if it is the scene's module.
        reach: how far from the images, in input units.
        steps: how many.
        step: the length of each in units of ``reach``.
    """
    images, labels = scene.batch
    if reach == 0:
        return images
    start = images + noise(images, reach, scene.generator)
    with frozen_statistics(scene.model):
        return climb(model, labels, ball(images, reach), start, steps=steps, length=step * reach)
