"""Random: the sanity check that every other method has to beat.

    score(w) ~ U[0, 1), independently

Drawn in float64 so that ties, which the selection breaks by position, do not happen in practice.
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


@dataclass(frozen=True)
class Random(AbstractScorer):
    """Scores each weight by a uniform random number; depends on the generator and on the shapes only."""

    name: ClassVar[str] = "random"

    def score(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None = None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        return Scores(
            {
                name: torch.rand(
                    weight.shape, generator=generator, dtype=torch.float64, device=generator.device
                )
                for name, weight in masked_parameters(model, mask).items()
            }
        )
