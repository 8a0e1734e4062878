"""How a network is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from certiprune.core.errors import InputError
from certiprune.train.errors import unknown
from certiprune.train.optim import OPTIMIZERS
from certiprune.train.schedule import EPS_SHAPES, RATE_SHAPES, EpsSchedule, RateSchedule

CHOICES = ("auto", "certified", "pgd", "clean")


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
        rate_shape: how the learning rate falls, ``milestones`` or ``cosine``; see ``RateSchedule``.
        milestones: after how many epochs the learning rate is multiplied by ``decay``; rising.
        decay: see ``milestones``.
        warm_up: epochs in which the learning rate rises from 0, batch by batch.
        clip: the largest L2 norm of the gradient; None leaves it.
        eps: the final radius, in input units.
        eps_shape: how the radius rises, ``smoothed``, ``linear`` or ``constant`` (at once); see ``EpsSchedule``.
        eps_start: epochs before the radius rises from 0.
        eps_length: epochs of its rise.
        eps_mid: the fraction of the smoothed rise with a slow start.
        choose: by which accuracy on the validation split the weights to keep are chosen: ``certified`` (by interval
            bounds), ``pgd`` or ``clean``; ``auto`` is ``certified`` for losses about bounds and ``pgd`` for others,
            and ``clean`` where ``eps`` is 0.
        validation_steps: steps of that PGD attack.

    Raises:
        InputError: a value is out of range; the text names it.
    """

    epochs: int
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    rate_shape: str = "milestones"
    milestones: tuple[int, ...] = ()
    decay: float = 0.1
    warm_up: int = 0
    clip: float | None = 8.0
    eps: float = 0.0
    eps_shape: str = "smoothed"
    eps_start: int = 0
    eps_length: int = 0
    eps_mid: float = 0.4
    choose: str = "auto"
    validation_steps: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "milestones", tuple(self.milestones))
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for name, words in (("rate_shape", RATE_SHAPES), ("eps_shape", EPS_SHAPES), ("choose", CHOICES)):
            if getattr(self, name) not in words:
                raise unknown(name, getattr(self, name), words)
        if self.eps == 0 and self.choose in ("certified", "pgd"):
            raise InputError(f"choose {self.choose} needs an eps above 0; with eps 0 choose clean or auto")
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
        if self.rate_shape != "milestones" and self.milestones:
            raise InputError(f"with rate_shape {self.rate_shape} there are no milestones: leave them out")
        for name in ("eps_start", "eps_length", "warm_up"):
            _require(name, getattr(self, name), "at least 0", getattr(self, name) >= 0)
        if self.warm_up > self.epochs:
            raise InputError(f"warm_up is {self.warm_up} epochs and the plan has {self.epochs}: shorten it")
        if self.eps_shape == "constant" and self.eps_length > 0:
            raise InputError("with eps_shape constant there is no rise: leave eps_length at 0")
        end = self.eps_start + self.eps_length
        if self.eps > 0 and end > self.epochs:
            raise InputError(
                f"eps_start + eps_length is {end} epochs and the plan has {self.epochs}: shorten the rise"
            )

    @property
    def schedule(self) -> EpsSchedule:
        """The radius over the epochs."""
        return EpsSchedule(self.eps, self.eps_start, self.eps_length, self.eps_mid, self.eps_shape)

    @property
    def rates(self) -> RateSchedule:
        """The learning rate over the epochs."""
        return RateSchedule(
            self.learning_rate, self.epochs, self.rate_shape, self.milestones, self.decay, self.warm_up
        )


def _require(name: str, value: object, what: str, true: bool) -> None:
    if not true:
        raise InputError(f"{name} must be {what}, not {value}")
