"""Two networks on the same images: the exact McNemar test, and an interval for the difference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from certiprune.report.statistics.proportion import Z


@dataclass(frozen=True)
class Paired:
    """Two networks that answered the same ``images``: how often only one of them has the property asked for.

    Attributes:
        images: how many images both networks answered.
        first_only: images where only the first network has the property.
        second_only: images where only the second network has it.
    """

    images: int
    first_only: int
    second_only: int

    @property
    def gain(self) -> float:
        """The second network's proportion minus the first one's, on the shared images."""
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


def paired(first: Mapping[int, bool], second: Mapping[int, bool]) -> Paired | None:
    """Compare two networks on the images that both answered; both map image numbers to "has the property".

    Returns None where they share no image.
    """
    shared = first.keys() & second.keys()
    if not shared:
        return None
    first_only = sum(first[i] and not second[i] for i in shared)
    second_only = sum(second[i] and not first[i] for i in shared)
    return Paired(len(shared), first_only, second_only)
