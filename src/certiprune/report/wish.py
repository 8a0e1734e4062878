"""What a user can ask of ``certiprune recommend``. It imports nothing slow, so that the command line can read it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from certiprune.core.errors import InputError

DEFAULT_LOSS = 0.01
"""The loss of certified accuracy that is allowed where nothing else is said: a point."""


class Want(StrEnum):
    """What is best among the networks that are good enough."""

    SMALLEST = "smallest"
    FASTEST = "fastest"
    CERTIFIED = "certified"
    STANDARD = "standard"


class Size(StrEnum):
    """What a network's size is.

    ``nonzero``: parameters that pruning has left. ``compact``: numbers in the network with dead channels taken out,
    zeros inside the others included, which is what an exported file holds. ``multiply-adds``: of the compacted network.
    """

    NONZERO = "nonzero"
    COMPACT = "compact"
    MULTIPLY_ADDS = "multiply-adds"


@dataclass(frozen=True)
class Wish:
    """What is asked for. Accuracies and losses are fractions; None is no demand.

    Attributes:
        want: what is best among the networks that meet the demands.
        certified_loss, standard_loss: how much less than the dense network's the accuracies may be.
        certified, standard: the least accuracies.
        size: what ``smallest`` counts.

    Raises:
        InputError: a fraction is out of range.
    """

    want: Want = Want.SMALLEST
    certified_loss: float | None = DEFAULT_LOSS
    standard_loss: float | None = None
    certified: float | None = None
    standard: float | None = None
    size: Size = Size.NONZERO

    def __post_init__(self) -> None:
        for name in ("certified_loss", "standard_loss", "certified", "standard"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name.replace('_', ' ')} {value:g} must lie between 0 and 1")
