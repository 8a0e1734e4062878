"""Taylor: a weight matters as much as the loss changes, to first order, when it is removed.

    score(w) = mean over batches of |w dL/dw|
    score(unit) = mean over batches of |sum over the unit's parameters p of p dL/dp|

Molchanov et al., "Importance estimation for neural network pruning", CVPR 2019, section 3, the first-order criterion
(they square where the study, which calls it TP, takes the absolute value).

SNIP adds the slopes of the batches up before the absolute value, and they may cancel: near a minimum of the loss its
scores are what is left of a mean that is zero there. Here each batch counts by itself. On one batch both are the same.

A unit's parameters are its incoming weights, its biases, and the scales and shifts of the BatchNorm behind it. The sum
over all of them is the derivative by one factor on what the unit hands to its ReLU, which is what removing the unit
turns to zero. Without BatchNorm's the sum would be empty of meaning: in training BatchNorm undoes any factor on the
incoming weights, so that their part of the sum is zero, whatever the unit is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, require_data
from certiprune.prune.scores.gradients import gradients, require_pairs, training_copy, weights
from certiprune.prune.scores.options import require_whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Taylor(AbstractScorer):
    """Scores by the first-order change of the training loss on removal; BatchNorm goes by the clean batch.

    Attributes:
        batches: how many batches the mean is over; all where there are fewer.

    Raises:
        InputError: ``batches`` is below 1.
    """

    name: ClassVar[str] = "taylor"
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
        return self._mean(model, mask, data, generator, lambda changes: changes)

    def score_units(
        self,
        model: nn.Module,
        groups: Groups,
        mask: Mask,
        data: Calibration | None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        """As the base class says, with the sums over all of a unit's parameters, signs included, in each batch."""

        def sums(changes: dict[str, Tensor]) -> dict[str, Tensor]:
            return {
                name: torch.stack(
                    [changes[p].reshape(group.size, -1).sum(1) for p in (*group.weights, *group.others)]
                ).sum(0)
                for name, group in groups.items()
            }

        return self._mean(model, groups.expand(model, mask), data, generator, sums)

    def _mean(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None,
        generator: torch.Generator,
        parts: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    ) -> Scores:
        """The mean over batches of the absolute values of ``parts`` of every parameter's ``w dL/dw``."""
        data = require_data(self.name, data)
        copy = training_copy(model, mask)
        at = weights(copy, mask)
        sums: dict[str, Tensor] = {}
        seen = 0
        for found in gradients(copy, mask, data, batches=self.batches, generator=generator):
            seen += 1
            for name, change in parts({name: at[name] * slope for name, slope in found.items()}).items():
                sums[name] = change.abs() + sums.get(name, 0.0)
        return Scores({name: total / seen for name, total in sums.items()})
