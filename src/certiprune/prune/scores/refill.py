"""Refill: channels by what weight pruning leaves in them; those that stay get all of their weights back.

    m           = the largest weights by |w| over all layers, keep / left of them (left: the units before the round)
    score(unit) = sum over its incoming weights in m of |w|

Where a model has no more weights than that, as after iterative magnitude pruning, m is what it has: zeros add nothing.
"StructLTH" of the study: Chen et al., "Coarsening the granularity: towards structurally sparse lottery tickets", ICML
2022. Weights that read pruned units count for nothing. Refilled are the weights because a unit that stays is kept
whole (``Groups.expand``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters, share
from certiprune.prune.select import select

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Refill(AbstractScorer):
    """Scores each unit by the L1 norm that magnitude pruning leaves in it; needs no data and no randomness."""

    name: ClassVar[str] = "refill"
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
        wanted = share(weights, mask, keep)
        left = select(sizes, weights, keep=wanted) if wanted < weights.kept else weights
        return groups.sums(sizes, left)
