"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from certiprune.core.errors import InputError
from certiprune.train.errors import unknown
from certiprune.train.optim import OPTIMIZERS
from certiprune.train.schedule import EpsSchedule, learning_rate


@dataclass(frozen=True)
class Plan:
    """The settings of one training; epochs are counted as finished ones, so 0 is before the first.

    Attributes:
        epochs: how many.
        batch_size: images in a batch.
        optimizer: ``sgd`` or ``adam``.
        learning_rate: at the start.
        momentum: of ``sgd``; ``adam`` has its usual moments instead.
        weight_decay: the L2 penalty's factor, on every parameter.
        milestones: after how many epochs the learning rate is multiplied by ``decay``; rising.
        decay: see ``milestones``.
        clip: the largest L2 norm of the gradient; None leaves it.
        eps: the final radius, in input units.
        eps_start: epochs before the radius rises from 0.
        eps_length: epochs of its rise.
        eps_mid: the fraction of the rise with a slow start, see ``EpsSchedule``.
        validation_steps: steps of the PGD attack by which the weights are chosen on the validation split;
            with ``eps`` 0 there is no attack.

    Raises:
        InputError: a value is out of range; the text names it.
    """

    epochs: int
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    clip: float | None = 8.0
    eps: float = 0.0
    eps_start: int = 0
    eps_length: int = 0
    eps_mid: float = 0.4
    validation_steps: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name in ("epochs", "batch_size", "validation_steps"):
            _require(name, getattr(self, name), "at least 1", getattr(self, name) >= 1)
        for name in ("learning_rate", "decay", "clip"):
            value = getattr(self, name)
            _require(name, value, "above 0", value is None or (math.isfinite(value) and value > 0))
        _require("momentum", self.momentum, "in [0, 1)", 0 <= self.momentum < 1)
        _require("weight_decay", self.weight_decay, "at least 0", 0 <= self.weight_decay < math.inf)
        _require("eps", self.eps, "in [0, 1] (input units, so 2/255 and not 2)", 0 <= self.eps <= 1)
        _require("eps_mid", self.eps_mid, "in (0, 1]", 0 < self.eps_mid <= 1)
        rising = all(earlier < later for earlier, later in pairwise((-1, *self.milestones)))
        _require("milestones", self.milestones, "rising numbers of epochs", rising)
        for name in ("eps_start", "eps_length"):
            _require(name, getattr(self, name), "at least 0", getattr(self, name) >= 0)
        end = self.eps_start + self.eps_length
        if self.eps > 0 and end > self.epochs:
            raise InputError(
                f"eps_start + eps_length is {end} epochs and the plan has {self.epochs}: shorten the rise"
            )

    @property
    def schedule(self) -> EpsSchedule:
        """The radius over the epochs."""
        return EpsSchedule(self.eps, self.eps_start, self.eps_length, self.eps_mid)

    def rate(self, epoch: int) -> float:
        """The learning rate of the epoch that follows ``epoch`` finished ones."""
        return learning_rate(self.learning_rate, self.milestones, self.decay, epoch)


def _require(name: str, value: object, what: str, true: bool) -> None:
    if not true:
        raise InputError(f"{name} must be {what}, not {value}")
