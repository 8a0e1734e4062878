"""What an attack makes small: one number per point, from the outputs of a model.

The model runs in the mode that it is in; ``attack.mode`` has what puts it into another one for a while.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from certiprune.core.margin import Margin

Objective = Callable[[Tensor], Tensor]
"""From points [n, *shape] to [n] numbers, number ``i`` depending on point ``i`` only."""


def label_margin(model: Callable[[Tensor], Tensor], labels: Tensor) -> Objective:
    """By how much class ``labels`` [n] beats the best other class: above 0 where it wins, 0 at a tie."""

    def objective(points: Tensor) -> Tensor:
        outputs = model(points)
        own = one_hot(labels, outputs.shape[1]).bool()
        best = outputs.masked_fill(own, -torch.inf).amax(1)
        return outputs.gather(1, labels.unsqueeze(1)).squeeze(1) - best

    return objective


def property_margin(model: Callable[[Tensor], Tensor], margin: Margin) -> Objective:
    """The smallest clause value of ``n`` properties: not above 0 where the property is violated."""

    def objective(points: Tensor) -> Tensor:
        return margin.worst(model(points))

    return objective


def negative_cross_entropy(model: Callable[[Tensor], Tensor], labels: Tensor) -> Objective:
    """The loss with its sign turned, for adversarial training; it says nothing about a violation."""

    def objective(points: Tensor) -> Tensor:
        return -cross_entropy(model(points), labels, reduction="none")

    return objective
