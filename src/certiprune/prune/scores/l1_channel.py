"""The L1 norm of a unit: a filter matters as much as its weights are large.

    score(unit) = sum over its incoming weights of |w|

over all layers of its group, without weights that read pruned units. Li et al., "Pruning filters for efficient
ConvNets", ICLR 2017, section 3.1, and section 3.3 for what is left out (the "greedy" way). They rank within each
layer (scope ``layer``): a filter with more inputs has the larger norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class L1Channel(AbstractScorer):
    """Scores each unit by the L1 norm of its incoming weights; needs no data and no randomness."""

    name: ClassVar[str] = "l1-channel"
    of_units: ClassVar[bool] = True

    def score_units(
        self,
        model: nn.Module,
        groups: Groups,
        mask: Mask,
        data: Calibration | None = None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        weights = groups.weights(model, mask)
        sizes = Scores({name: weight.abs() for name, weight in masked_parameters(model, weights).items()})
        return groups.sums(sizes, weights)
