"""A share of the images with its intervals: Wilson's, and the exact one of Clopper and Pearson."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from certiprune.core.errors import InputError

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True)
class Proportion:
    """``count`` of ``total`` images, with the Wilson score interval at 95 % (``low``, ``high``).

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

    @property
    def exact(self) -> tuple[float, float]:
        """The 95 % interval of Clopper and Pearson (Biometrika, 1934): it covers in at least 95 % of all samples.

        Its ends are the p at which ``count`` images or more, and ``count`` or fewer, have probability 2.5 %:
        quantiles of Beta(count, total - count + 1) and Beta(count + 1, total - count). It is wider than Wilson's,
        which covers in 95 % on average over p and in less for some p.
        """
        # SciPy takes longer to load than the rest of the report's numbers take to compute.
        from scipy.special import betaincinv

        tail, k, n = (1 - CONFIDENCE) / 2, self.count, self.total
        low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
        high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
        return low, high

    def _wilson(self) -> tuple[float, float]:
        """The two roots p of ``|count/total - p| = Z sqrt(p (1 - p) / total)`` (Wilson, 1927)."""
        n, p, zz = self.total, self.value, Z * Z
        middle = p + zz / (2 * n)
        spread = Z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
        # The ends of 0 of n and n of n are 0 and 1 exactly; the roots miss them by a rounding error.
        low = 0.0 if self.count == 0 else (middle - spread) / (1 + zz / n)
        high = 1.0 if self.count == n else (middle + spread) / (1 + zz / n)
        return low, high
