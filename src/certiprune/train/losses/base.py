"""What a training loss is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from certiprune.data import Batch


@dataclass(frozen=True)
class Terms:
    """A loss on one batch.

    Attributes:
        total: what is minimised, a scalar with a graph behind it.
        parts: what it is made of, and ``accuracy`` (a fraction of the batch) on the points trained on; the
            loop averages each over the images of an epoch.
    """

    total: Tensor
    parts: dict[str, float]


class AbstractLoss(ABC):
    """A training loss. Implementations are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, model: nn.Module, batch: Batch, *, eps: float, generator: torch.Generator) -> Terms:
        """The loss of ``model``, in the mode it is in, on ``batch``.

        Args:
            model: from images in [0, 1] to class scores.
            batch: on the model's device.
            eps: the L-infinity radius to train for, in input units; at 0 every loss is the natural one.
            generator: all randomness of the loss.
        """
