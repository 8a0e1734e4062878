"""A loss and penalties on top of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from certiprune.train.losses.base import AbstractLoss, Terms
from certiprune.train.penalties import AbstractPenalty
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Penalised(AbstractLoss):
    """``loss + sum weight * penalty``; every penalty's value is a part of the loss under the penalty's name.

    Attributes:
        loss: any loss.
        penalties: any penalties, each with its weight.
    """

    loss: AbstractLoss
    penalties: tuple[tuple[AbstractPenalty, float], ...]

    @property
    def certified(self) -> bool:  # type: ignore[override]
        """Whether ``loss`` is."""
        return self.loss.certified

    def __call__(self, scene: Scene) -> Terms:
        terms = self.loss(scene)
        total, parts = terms.total, dict(terms.parts)
        for penalty, weight in self.penalties:
            value = penalty(scene, terms.bounds)
            if value is not None:
                total = total + weight * value
                parts[penalty.name] = float(value.detach())
        return replace(terms, total=total, parts=parts)
