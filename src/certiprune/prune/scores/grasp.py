"""GraSP: keep the weights without which the gradient would lose its length.

    score(w) = w (H g),    g = dL/dw and H the Hessian of L, the training loss summed over batches

To first order the squared length of g changes by 2 (-w) (H g) when w is removed. The method removes first where that
change is largest, so what is kept is what has the highest w (H g); scores may be negative. Wang, Zhang and Grosse,
"Picking winning tickets before training by preserving gradient flow", ICLR 2020, equation 8 and algorithm 1. L is the
loss that the network is trained with, at its final radius. As in the authors' code g has the weights of all
convolutions and linear layers, but not biases and BatchNorm. (Theirs takes ten images of each class and divides the
network's outputs by 200.) It is made for networks before training: where the loss is small already, a long gradient
is bought with a large loss.

H g is a central difference of gradients, since the losses of bounds have no second derivatives:

    H g = (g(w + t g) - g(w - t g)) / 2 t,    t = 1e-10 |w| / |g|    (Euclidean lengths)

on a float64 copy, each gradient on the same batches with the same random numbers. What is wrong with it is rounding,
about 1e-6 of its length (the third derivative's t^2 / 6 is far below). But where a ReLU turns within the step, or an
attack turns a sign, the jump of the gradient over t would take the place of the curvature. That shows in halves of the
difference that disagree: then t is a tenth of it, at the least a hundredth, where rounding is 1e-4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters, require_data
from certiprune.prune.scores.gradients import gradients, require_pairs, summed, training_copy, weights
from certiprune.prune.scores.options import require_whole

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups

Slopes = dict[str, Tensor]

# Lengths of the step as fractions of the weights' length, in the order in which they are tried.
_STEPS = (1e-10, 1e-11, 1e-12)

# By how much of the difference its halves may disagree.
_AGREE = 1e-3


@dataclass(frozen=True)
class Grasp(AbstractScorer):
    """Scores each weight by what its removal takes from the gradient's length; BatchNorm goes by the clean batch.

    Attributes:
        batches: how many batches the loss is summed over; all where there are fewer.

    Raises:
        InputError: ``batches`` is below 1.
    """

    name: ClassVar[str] = "grasp"
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
        masked_parameters(model, mask)  # says what does not fit
        matrices = [name for name, parameter in model.named_parameters() if parameter.dim() > 1]
        every = Mask({**Mask.ones(model, matrices), **mask})
        copy = training_copy(model, every, dtype=torch.float64)
        start, random = weights(copy, every), generator.get_state()

        def slope(along: Slopes, t: float) -> Slopes:
            with torch.no_grad():
                for name, weight in start.items():
                    copy.get_parameter(name).copy_(weight + t * along[name] if t else weight)
            generator.set_state(random)
            return summed(gradients(copy, every, data, batches=self.batches, generator=generator))

        curved = _along_itself(slope, _length(start))
        return Scores({name: start[name] * curved[name] for name in mask})


def _along_itself(slope: Callable[[Slopes, float], Slopes], size: float) -> Slopes:
    """``H g`` from ``slope``, which gives g a multiple of a direction away; ``size`` is the length of the weights."""
    here = slope({}, 0.0)
    length = _length(here)
    if length == 0:
        return here
    for fraction in _STEPS:
        t = fraction * size / length
        ahead, behind = slope(here, t), slope(here, -t)
        twice = {name: ahead[name] - behind[name] for name in here}
        bend = {name: ahead[name] + behind[name] - 2 * here[name] for name in here}
        if _length(bend) <= _AGREE * _length(twice):
            break
    return {name: difference / (2 * t) for name, difference in twice.items()}


def _length(tensors: Slopes) -> float:
    return math.sqrt(sum(float(tensor.square().sum()) for tensor in tensors.values()))
