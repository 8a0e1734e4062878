"""Means over seeds: how much the randomness of training moves a number."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev

from certiprune.core.errors import InputError
from certiprune.report.statistics.proportion import CONFIDENCE


@dataclass(frozen=True)
class OverSeeds:
    """A number measured once for each seed.

    Raises:
        InputError: there is no value.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("there is no seed to take a mean over")

    @staticmethod
    def of(values: Iterable[float | None]) -> OverSeeds | None:
        """The values that are there; None where none is."""
        found = tuple(value for value in values if value is not None and not math.isnan(value))
        return OverSeeds(found) if found else None

    @property
    def seeds(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return fmean(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Student's 95 % interval for the mean over all seeds, ``mean -+ t s / sqrt(k)``; None of one seed only.

        s is the standard deviation of the k values and t the 97.5 % quantile with k - 1 degrees of freedom (Student,
        Biometrika, 1908; 12.7 for two seeds, 4.3 for three, 2.8 for five). It takes the values as normal. Where
        the images are the same for every seed it says nothing of how the numbers move with the images.
        """
        if self.seeds < 2:
            return None
        # SciPy takes longer to load than the rest of the report's numbers take to compute.
        from scipy.special import stdtrit

        t = float(stdtrit(self.seeds - 1, 0.5 + CONFIDENCE / 2))
        spread = t * stdev(self.values) / math.sqrt(self.seeds)
        return self.mean - spread, self.mean + spread

    @property
    def p_value(self) -> float | None:
        """Student's t test, two-sided, that the mean over all seeds is 0; None of one seed only.

        None, too, where all values are equal: shares of a few hundred images can be, and t would be infinite.
        """
        if self.seeds < 2 or stdev(self.values) == 0:
            return None
        from scipy.special import stdtr

        error = stdev(self.values) / math.sqrt(self.seeds)
        return float(2 * stdtr(self.seeds - 1, -abs(self.mean) / error))
