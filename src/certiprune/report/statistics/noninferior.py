"""Is one network not worse than another by more than a margin? Tango's score test for paired proportions.

Of n images b are right (or certified) for the first network only, c for the second only; d = p2 - p1 is the true
difference. For each d0 the score statistic is

    T(d0) = (c - b - n d0) / sqrt(n (2 q + d0 (1 - d0))),
    q = (sqrt(B^2 - 4 A C) - B) / (2 A),   A = 2n,   B = (2n + b - c) d0 - b - c,   C = -b d0 (1 - d0),

where q is the most likely probability of "first only" if the difference is d0. "Not worse by more than the margin"
is shown where H0: d <= -margin is refused, T(-margin) > z. The d0 that are not refused either way form the interval.
Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
Statistics in Medicine 17 (1998) 891-908.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from certiprune.core.errors import InputError
from certiprune.report.statistics.paired import Paired


@dataclass(frozen=True)
class NonInferior:
    """The test that the second network of ``pair`` is worse than the first by less than ``margin``.

    An approximation for many images, like every score test: its true level can exceed the nominal one a little where
    few images differ (the tests of this file measure by how much).

    Attributes:
        margin: the difference of proportions that would still be accepted, in (0, 1); chosen before looking.

    Raises:
        InputError: the margin lies outside (0, 1).
    """

    pair: Paired
    margin: float

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise InputError(
                f"the margin {self.margin:g} must be more than 0 and less than 1 (0.02: two points)"
            )

    @property
    def p_value(self) -> float:
        """One-sided: the chance of a result as good as this if the second were worse by the whole margin."""
        return NormalDist().cdf(-score(self.pair, -self.margin))

    def low(self, confidence: float) -> float:
        """The one-sided lower bound, at ``confidence``, for the second network's proportion minus the first one's.

        It is above ``-margin`` where ``p_value`` is below ``1 - confidence``.
        """
        return lower_bound(self.pair, confidence)


def score(pair: Paired, difference: float) -> float:
    """T(d0) at d0 = ``difference``; it falls as ``difference`` rises. Infinite where such data cannot be."""
    n, b, c, d = pair.images, pair.first_only, pair.second_only, difference
    top = c - b - n * d
    linear = (2 * n + b - c) * d - b - c
    root = math.sqrt(max(0.0, linear * linear + 8 * n * b * d * (1 - d)))
    q = (root - linear) / (4 * n)
    variance = n * (2 * q + d * (1 - d))
    if variance <= 1e-12 * n:
        return 0.0 if top == 0 else math.copysign(math.inf, top)
    return top / math.sqrt(variance)


def lower_bound(pair: Paired, confidence: float) -> float:
    """The least difference that the data do not refuse from below, one-sided at ``confidence``: T(d0) = z.

    Raises:
        InputError: the confidence lies outside [0.5, 1).
    """
    if not 0.5 <= confidence < 1:
        raise InputError(f"the confidence {confidence:g} must be at least 0.5 and less than 1 (0.95: 95 %)")
    z = NormalDist().inv_cdf(confidence)
    low, high = -1.0, pair.gain
    # T falls from above z to 0: sixty halvings leave less than a rounding error.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if score(pair, middle) > z else (low, middle)
    return high


def images_needed(margin: float, confidence: float) -> int:
    """The fewest images on which the test succeeds where no image tells the networks apart.

    There T(-margin) = sqrt(n margin / (1 - margin)). A second network that is better may need fewer.
    """
    z = NormalDist().inv_cdf(confidence)
    return math.floor(z * z * (1 - margin) / margin) + 1
