"""How epsilon and the learning rate change over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_POWER = 4
"""Of the slow start, as in Xu et al. 2020."""


@dataclass(frozen=True)
class EpsSchedule:
    """Epsilon rises from 0 after ``start`` epochs to ``eps`` after ``start + length``, slowly at first.

    In the first ``mid`` of that time it grows with the fourth power of the time, then linearly with the
    slope reached (the smoothed schedule of Xu et al., "Automatic perturbation analysis for scalable certified
    robustness and beyond", NeurIPS 2020). The study's "between epochs 11 and 80", which counts epochs from 1,
    is ``start=10, length=70``.

    Attributes:
        eps: the final value, in input units.
        start: epochs at 0 before the rise.
        length: epochs of the rise; 0 is a jump.
        mid: the fraction of the rise's time with the slow start, in (0, 1].
    """

    eps: float
    start: float = 0.0
    length: float = 0.0
    mid: float = 0.4

    def at(self, epochs: float) -> float:
        """Epsilon after ``epochs`` epochs, fractions of an epoch included."""
        if epochs >= self.start + self.length:
            return self.eps
        if epochs <= self.start:
            return 0.0
        return self.eps * self._fraction((epochs - self.start) / self.length)

    def _fraction(self, time: float) -> float:
        # scale makes value and slope of the two pieces agree at mid, and the line end at 1.
        scale = 1.0 / (self.mid**_POWER + _POWER * self.mid ** (_POWER - 1) * (1.0 - self.mid))
        if time < self.mid:
            return scale * time**_POWER
        return scale * (self.mid**_POWER + _POWER * self.mid ** (_POWER - 1) * (time - self.mid))


def learning_rate(initial: float, milestones: Sequence[int], decay: float, epoch: int) -> float:
    """The rate after ``epoch`` finished epochs: multiplied by ``decay`` at each milestone passed."""
    return initial * decay ** sum(epoch >= milestone for milestone in milestones)
