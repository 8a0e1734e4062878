"""Random: the sanity check that every other method has to beat.

    score(w) ~ U[0, 1), independently;  the same for a unit, whatever weights it has

Drawn in float64 so that ties, which the selection breaks by position, do not happen in practice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Random(AbstractScorer):
    """Scores each weight, or unit, by a uniform random number; depends on the generator and on the shapes only."""

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
        return _uniform(masked_parameters(model, mask), generator)

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
        return _uniform(mask, generator)


def _uniform(like: Mapping[str, Tensor], generator: torch.Generator) -> Scores:
    return Scores(
        {
            name: torch.rand(tensor.shape, generator=generator, dtype=torch.float64, device=generator.device)
            for name, tensor in like.items()
        }
    )
