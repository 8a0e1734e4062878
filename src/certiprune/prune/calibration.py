"""Training images together with the loss that they are trained with: what a data-driven score looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.data import Batch, Split, batches
from certiprune.net.live import Live
from certiprune.train.losses import AbstractLoss
from certiprune.train.losses.natural import Natural
from certiprune.train.scene import Scene


def _unwatched(done: int, total: int) -> None:
    del done, total


@dataclass(frozen=True)
class Calibration:
    """Images that a method may look at, and the training loss at its final radius.

    Attributes:
        split: training images in [0, 1] and their labels, on the model's device.
        loss: what the network is trained with.
        eps: the L-infinity radius of the loss and of bounds, in input units.
        batch_size: images in a batch of ``scenes``.
        progress: is told, by methods that take long, how many of their steps are done, and of how many.

    Raises:
        InputError: ``eps`` is not in [0, 1], or the batch size is below 1.
    """

    split: Split
    loss: AbstractLoss = field(default_factory=Natural)
    eps: float = 0.0
    batch_size: int = 128
    progress: Callable[[int, int], None] = _unwatched

    def __post_init__(self) -> None:
        if not 0 <= self.eps <= 1:
            raise InputError(f"eps must be in [0, 1] (input units, so 2/255 and not 2), not {self.eps}")
        if self.batch_size < 1:
            raise InputError(f"the batch size must be at least 1, not {self.batch_size}")

    def scenes(self, model: nn.Module, *, batches: int | None, generator: torch.Generator) -> Iterator[Scene]:
        """``model`` at the first ``batches`` batches of the images in a random order, at radius ``eps``.

        One pass over the images at most; None for the whole pass. A batch of one image is left out, since BatchNorm
        cannot normalise by it. The model's weights may change between scenes, its structure may not.
        """
        live = Live(model, self.split.shape)  # traced once for all batches
        for number, batch in enumerate(self.ordered(generator)):
            if batches is not None and number >= batches:
                return
            if len(batch.images) > 1:
                yield Scene(live, batch, self.eps, self.eps, generator, tracked=self.loss.certified)

    def ordered(self, generator: torch.Generator) -> Iterator[Batch]:
        """All images in a random order, in batches."""
        return batches(self.split, self.batch_size, generator=generator)
