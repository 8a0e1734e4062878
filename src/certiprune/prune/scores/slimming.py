"""Network slimming: a channel matters as much as BatchNorm scales it.

    score(unit) = mean over the BatchNorm layers of its group of |gamma|

The mean, since a residual sum puts several of them into one group. Liu et al., "Learning efficient convolutional
networks through network slimming", ICCV 2017; it goes with the training penalty ``slimming``, which makes scales
small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Group, Groups


@dataclass(frozen=True)
class Slimming(AbstractScorer):
    """Scores each unit by its BatchNorm scale; needs a BatchNorm in every group, and no data or randomness."""

    name: ClassVar[str] = "slim"
    of_units: ClassVar[bool] = True

    def check(self, *, groups: Groups | None, eps: float, batch_size: int) -> None:
        """As ``AbstractScorer`` says.

        Raises:
            InputError: a group has no BatchNorm with a scale.
        """
        for name, group in (groups or {}).items():
            _scales(name, group)

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
        """As ``AbstractScorer`` says.

        Raises:
            InputError: a group has no BatchNorm with a scale.
        """
        parameters = dict(model.named_parameters())
        found = {}
        for name, group in groups.items():
            scales = [parameters[scale].detach().double().abs() for scale in _scales(name, group)]
            found[name] = torch.stack(scales).mean(0)
        return Scores(found)


def _scales(name: str, group: Group) -> tuple[str, ...]:
    if not group.scales:
        raise InputError(
            f"pruning by slim needs BatchNorm scales, and the units of {name} have none; "
            "choose other layers or another method"
        )
    return group.scales
