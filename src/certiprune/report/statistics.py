"""How far numbers from a few hundred images can carry a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from certiprune.core.errors import InputError

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total`` images, with the Wilson score interval at 95 %.

    Raises:
        InputError: ``total`` is not positive, or ``count`` lies outside 0 .. ``total``.
    """

    count: int
    total: int

    def __post_init__(self) -> None:
        if not 0 <= self.count <= self.total or self.total == 0:
            raise InputError(f"{self.count} of {self.total} is no proportion")

    @property
    def value(self) -> float:
        return self.count / self.total

    @property
    def low(self) -> float:
        return self._wilson()[0]

    @property
    def high(self) -> float:
        return self._wilson()[1]

    def _wilson(self) -> tuple[float, float]:
        """The two roots p of ``|count/total - p| = Z sqrt(p (1 - p) / total)`` (Wilson, 1927)."""
        n, p, zz = self.total, self.value, Z * Z
        middle = p + zz / (2 * n)
        spread = Z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
        # The ends of 0 of n and n of n are 0 and 1 exactly; the roots miss them by a rounding error.
        low = 0.0 if self.count == 0 else (middle - spread) / (1 + zz / n)
        high = 1.0 if self.count == n else (middle + spread) / (1 + zz / n)
        return low, high


@dataclass(frozen=True)
class Paired:
    """Two rounds that answered the same ``images``: how often only one of them has the property asked for.

    Attributes:
        images: how many images both rounds answered.
        first_only: images where only the first round has the property.
        second_only: images where only the second round has it.
    """

    images: int
    first_only: int
    second_only: int

    @property
    def gain(self) -> float:
        """The second round's proportion minus the first one's, on the shared images."""
        return (self.second_only - self.first_only) / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """A 95 % interval for ``gain``: the adjusted Wald interval of Bonett and Price (2012)."""
        n = self.images + 2
        lost, won = (self.first_only + 1) / n, (self.second_only + 1) / n
        spread = Z * math.sqrt(max(0.0, lost + won - (won - lost) ** 2) / n)
        return max(-1.0, won - lost - spread), min(1.0, won - lost + spread)

    @property
    def p_value(self) -> float:
        """Exact McNemar test, two-sided: the chance of a split at least as uneven if neither were better."""
        discordant = self.first_only + self.second_only
        fewer = min(self.first_only, self.second_only)
        tail = sum(math.comb(discordant, k) for k in range(fewer + 1))
        # Integers until the last step: exact for any number of images.
        return min(1.0, 2 * tail / 2**discordant)


def paired(first: dict[int, bool], second: dict[int, bool]) -> Paired | None:
    """Compare two rounds on the images that both answered; both map image numbers to "has the property".

    Returns None where they share no image.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return None
    first_only = sum(first[i] and not second[i] for i in shared)
    second_only = sum(second[i] and not first[i] for i in shared)
    return Paired(len(shared), first_only, second_only)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values adjusted for being several (Holm, 1979), in the given order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = running
    return adjusted
