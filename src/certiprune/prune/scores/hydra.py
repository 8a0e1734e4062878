"""HYDRA: learn which weights to keep by the training loss, with the weights themselves frozen.

    minimise  L(w * m)  over s,    m = 1 where |s| is among the ``keep`` largest, else 0,
    ds = (dL / dw_eff) w sign(s),    w_eff = w * m    (straight through m, as if it were |s|)
    start:  s = w sqrt(6 / fan_in) / max |w|  in each layer
    score(w) = |s| after ``epochs`` of gradient descent with momentum, at a rate that falls to 0 along a cosine

Sehwag, Wang, Mittal and Jana, "HYDRA: pruning adversarially robust neural networks", NeurIPS 2020 (the pruning step
and its scaled initialisation), and the authors' code (the factor in it, and the sign: they rank by |s| and
differentiate through the absolute value). L is the loss that the network is trained with, at its final radius. Theirs
takes the same fraction of every layer; here the ranking is global unless ``scope`` says otherwise. BatchNorm's scales
and shifts are frozen too, and it normalises by the clean batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, get_args

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters, require_data
from certiprune.prune.scores.gradients import gradients, require_pairs, training_copy
from certiprune.prune.scores.options import require_choice, require_number, require_whole
from certiprune.prune.select import Scope, select
from certiprune.train.schedule import RateSchedule

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Hydra(AbstractScorer):
    """Learns a score for each weight, for one number of weights to keep.

    Ranks weights only: what is learned is worth something for the one mask of ``keep`` weights, not for their sums.

    Attributes:
        epochs: passes over the images.
        learning_rate: of the scores, at the start.
        momentum: in [0, 1).
        scope: how ``keep`` is shared among layers while scores are learned, as for ``select``; the selection that
            follows should have the same.

    Raises:
        InputError: an option is out of range.
    """

    name: ClassVar[str] = "hydra"
    of_weights: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    epochs: int = 20
    learning_rate: float = 0.1
    momentum: float = 0.9
    scope: Scope = "global"

    def __post_init__(self) -> None:
        require_whole(self.name, "epochs", self.epochs)
        require_number(self.name, "learning_rate", self.learning_rate, "above 0", lambda rate: rate > 0)
        require_number(self.name, "momentum", self.momentum, "in [0, 1)", lambda share: 0 <= share < 1)
        require_choice(self.name, "scope", self.scope, get_args(Scope))

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
        frozen = {name: weight.clone() for name, weight in masked_parameters(copy, mask).items()}
        scores = {name: _start(weight) for name, weight in frozen.items()}
        speed = {name: torch.zeros_like(score) for name, score in scores.items()}
        rates = RateSchedule(self.learning_rate, self.epochs, "cosine")
        count = math.ceil(len(data.split) / data.batch_size)
        self._choose_(copy, mask, frozen, scores, keep)
        for epoch in range(self.epochs):
            found = gradients(copy, mask, data, batches=None, generator=generator)
            for number, slopes in enumerate(found):
                rate = rates.at(epoch + (number + 0.5) / count)
                for name, score in scores.items():
                    slope = slopes[name].to(score) * frozen[name] * score.sign()
                    speed[name].mul_(self.momentum).add_(slope)
                    score.sub_(rate * speed[name])
                # Before ``gradients`` goes on to the next batch.
                self._choose_(copy, mask, frozen, scores, keep)
                data.progress(epoch * count + number + 1, self.epochs * count)
        return _sizes(scores)

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
        """Not for units.

        Raises:
            InputError: always; see the class.
        """
        raise InputError(f"{self.name} ranks weights, not channels and neurons: use granularity weights")

    @torch.no_grad()
    def _choose_(
        self, copy: nn.Module, mask: Mask, frozen: dict[str, Tensor], scores: dict[str, Tensor], keep: int
    ) -> None:
        """Give ``copy`` the weights that the scores choose."""
        chosen = select(_sizes(scores), mask, keep=keep, scope=self.scope)
        for name, weight in frozen.items():
            copy.get_parameter(name).copy_(weight * chosen[name].to(weight.device))


def _start(weight: Tensor) -> Tensor:
    largest = weight.abs().max()
    fan_in = weight[0].numel()
    return weight * (math.sqrt(6 / fan_in) / largest) if largest > 0 else torch.zeros_like(weight)


def _sizes(scores: dict[str, Tensor]) -> Scores:
    return Scores({name: score.abs() for name, score in scores.items()})
