"""Magnitude: a weight matters as much as it is large.

    score(w) = |w|

In rounds with rewinding this is iterative magnitude pruning (Han et al., "Learning both weights and
connections", NeurIPS 2015, section 3; Frankle and Carbin, "The lottery ticket hypothesis", ICLR 2019, section
1).
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
class Magnitude(AbstractScorer):
    """Scores each weight by its absolute value; needs no data and no randomness."""

    name: ClassVar[str] = "magnitude"

    def score(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None = None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        return Scores({name: weight.abs() for name, weight in masked_parameters(model, mask).items()})
