"""How epsilon and the learning rate change over the epochs.

Time is counted in epochs, fractions of one included; both are read anew for every batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EPS_SHAPES = ("smoothed", "linear", "constant")
RATE_SHAPES = ("milestones", "cosine")

_POWER = 4
"""Of the slow start, as in Xu et al. 2020."""


@dataclass(frozen=True)
class EpsSchedule:
    """Epsilon is 0 for ``start`` epochs, rises for ``length`` epochs, and then is ``eps``.

    ``smoothed``: in the first ``mid`` of that time it grows with the fourth power of the time, then linearly with the
    slope reached (Xu et al., "Automatic perturbation analysis for scalable certified robustness and beyond",
    NeurIPS 2020). The study's "between epochs 11 and 80", which counts epochs from 1, is ``start=10, length=70``.
    ``linear``: it grows with the time. ``constant``: there is no rise, it jumps.

    Attributes:
        eps: the final value, in input units.
        start: epochs at 0 before the rise.
        length: epochs of the rise; 0 is a jump.
        mid: the fraction of the smoothed rise's time with the slow start, in (0, 1].
        shape: one of ``EPS_SHAPES``.
    """

    eps: float
    start: float = 0.0
    length: float = 0.0
    mid: float = 0.4
    shape: str = "smoothed"

    def at(self, epochs: float) -> float:
        """Epsilon after ``epochs`` epochs, fractions of an epoch included."""
        length = 0.0 if self.shape == "constant" else self.length
        if epochs >= self.start + length:
            return self.eps
        if epochs <= self.start:
            return 0.0
        time = (epochs - self.start) / length
        return self.eps * (time if self.shape == "linear" else self._smoothed(time))

    def _smoothed(self, time: float) -> float:
        # scale makes value and slope of the two pieces agree at mid, and the line end at 1.
        scale = 1.0 / (self.mid**_POWER + _POWER * self.mid ** (_POWER - 1) * (1.0 - self.mid))
        if time < self.mid:
            return scale * time**_POWER
        return scale * (self.mid**_POWER + _POWER * self.mid ** (_POWER - 1) * (time - self.mid))


@dataclass(frozen=True)
class RateSchedule:
    """The learning rate, times a factor that grows with the time from 0 to 1 over the first ``warm_up`` epochs.

    ``milestones``: the rate is multiplied by ``decay`` at each milestone passed. ``cosine``: it is
    ``initial (1 + cos(pi t / epochs)) / 2``, so it falls to 0 (Loshchilov and Hutter, "SGDR", ICLR 2017, no restarts).

    Attributes:
        initial: the rate to start from.
        epochs: of the whole training.
        shape: one of ``RATE_SHAPES``.
        milestones: in finished epochs, rising.
        decay: see above.
        warm_up: epochs; 0 is none.
    """

    initial: float
    epochs: int
    shape: str = "milestones"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    warm_up: int = 0

    def at(self, epochs: float) -> float:
        """The rate after ``epochs`` epochs, fractions of an epoch included."""
        if self.shape == "cosine":
            rate = self.initial * (1.0 + math.cos(math.pi * min(epochs / self.epochs, 1.0))) / 2.0
        else:
            rate = self.initial * self.decay ** sum(epochs >= milestone for milestone in self.milestones)
        return rate * epochs / self.warm_up if epochs < self.warm_up else rate
