"""What a training loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.bounds.preact import PreActivation
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Terms:
    """A loss on one batch.

    Attributes:
        total: what is minimised, a scalar with a graph behind it.
        parts: what it is made of, and ``accuracy`` (a fraction of the batch) on the points trained on; the
            loop averages each over the images of an epoch.
        bounds: of what enters each ReLU of ``scene.network``, where the loss is about bounds: for its own boxes.
    """

    total: Tensor
    parts: dict[str, float]
    bounds: PreActivation | None = None


class AbstractLoss(ABC):
    """A training loss. Implementations are frozen dataclasses whose fields are their options.

    Attributes:
        name: what configurations call it.
        certified: whether it is about bounds. Then the clean pass is what moves BatchNorm's running statistics on.
    """

    name: ClassVar[str]
    certified: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, scene: Scene) -> Terms:
        """The loss of the scene's model, in the mode it is in, on the scene's batch.

        At ``scene.eps`` 0 every loss is the natural one.
        """


def classification(scores: Tensor, labels: Tensor) -> Terms:
    """Mean cross-entropy of ``scores`` [n, classes] with ``labels`` [n], and the accuracy."""
    return Terms(cross_entropy(scores, labels), {"accuracy": accuracy(scores, labels)})


def accuracy(scores: Tensor, labels: Tensor) -> float:
    """The fraction of ``scores`` [n, classes] whose largest is at ``labels`` [n]."""
    return float((scores.detach().argmax(1) == labels).float().mean())
