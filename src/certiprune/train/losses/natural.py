"""The loss on the images themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.data import Batch
from certiprune.train.losses.base import AbstractLoss, Terms


@dataclass(frozen=True)
class Natural(AbstractLoss):
    """Cross-entropy of the images as they are, whatever ``eps`` is."""

    name: ClassVar[str] = "natural"

    def __call__(self, model: nn.Module, batch: Batch, *, eps: float, generator: torch.Generator) -> Terms:
        del eps, generator
        return classification(model, batch.images, batch.labels)


def classification(model: nn.Module, images: Tensor, labels: Tensor) -> Terms:
    """Mean cross-entropy of ``model`` at ``images`` [n, c, h, w] with ``labels`` [n], and the accuracy."""
    scores = model(images)
    correct = (scores.detach().argmax(1) == labels).float().mean()
    return Terms(cross_entropy(scores, labels), {"accuracy": float(correct)})
