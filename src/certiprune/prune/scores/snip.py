"""SNIP: a weight matters as much as the loss changes when it is turned down a little.

    score(w) = |dL / dc| at c = 1, where c w takes the place of w;  that is |w dL/dw|,
    L the training loss, summed over batches before the absolute value

Lee, Ajanthan and Torr, "SNIP: single-shot network pruning based on connection sensitivity", ICLR 2019, section 4.1
(where the scores are divided by their sum; the order is the same). L is the loss that the network is trained with, at
its final radius: under certified training the sensitivity is that of the bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, require_data
from certiprune.prune.scores.gradients import gradients, require_pairs, summed, training_copy, weights
from certiprune.prune.scores.options import require_whole

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Snip(AbstractScorer):
    """Scores each weight by the absolute slope of the training loss along it; BatchNorm goes by the clean batch.

    Attributes:
        batches: how many batches the slopes are added up over; all where there are fewer.

    Raises:
        InputError: ``batches`` is below 1.
    """

    name: ClassVar[str] = "snip"
    needs_data: ClassVar[bool] = True

    batches: int = 10

    def __post_init__(self) -> None:
        require_whole(self.name, "batches", self.batches)

    def check(self, *, groups: Groups | None, eps: float, batch_size: int) -> None:
        require_pairs(self.name, batch_size)

    def score(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        data = require_data(self.name, data)
        copy = training_copy(model, mask)
        at = weights(copy, mask)
        sums = summed(gradients(copy, mask, data, batches=self.batches, generator=generator))
        return Scores({name: (weight * sums[name]).abs() for name, weight in at.items()})
