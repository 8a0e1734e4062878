"""A share measured on images, of one network or of several that differ by their seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from certiprune.core.errors import InputError
from certiprune.report.statistics.proportion import Proportion
from certiprune.report.statistics.seeds import OverSeeds


@dataclass(frozen=True)
class Estimate:
    """The same share of several seeds' networks, each on its own test images.

    Raises:
        InputError: there is no network.
    """

    each: tuple[Proportion, ...]

    def __post_init__(self) -> None:
        if not self.each:
            raise InputError("there is no network to estimate from")

    @staticmethod
    def of(each: Iterable[Proportion | None]) -> Estimate | None:
        """The shares that were measured; None where none was."""
        found = tuple(share for share in each if share is not None)
        return Estimate(found) if found else None

    @property
    def seeds(self) -> OverSeeds:
        return OverSeeds(tuple(share.value for share in self.each))

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return self.seeds.mean

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 %: of several seeds Student's interval over them, cut to [0, 1]; of one seed Wilson's over images.

        They answer different questions, so ``covers`` belongs beside them.
        """
        ends = self.seeds.interval
        if ends is None:
            return self.each[0].low, self.each[0].high
        return max(0.0, ends[0]), min(1.0, ends[1])

    @property
    def covers(self) -> str:
        """What the interval is about: ``seeds`` or ``images``."""
        return "images" if len(self.each) == 1 else "seeds"
