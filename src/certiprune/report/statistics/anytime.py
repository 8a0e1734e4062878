"""Certified accuracy as a function of the time limit, so that a verifier's cost is not taken for robustness.

With a limit of t seconds an image, an answer that took s <= t seconds would have been given and a later one not:

    lower(t) = images certified within t / all,   upper(t) = 1 - images misclassified or falsified within t / all.

Both move towards each other as t rises and meet where nothing is undecided. A network whose curve is still rising at
the limit is limited by the verifier; one whose two curves have met is as robust as it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from certiprune.core.errors import InputError
from certiprune.store.rows import OutcomeRow
from certiprune.verify.outcome import Verdict


@dataclass(frozen=True)
class AnyTime:
    """When each answer was there, in seconds that the image cost, sorted.

    Attributes:
        certified, refuted: seconds of the images that were certified, and misclassified or falsified.
        images: all images, the undecided ones too.
    """

    certified: tuple[float, ...]
    refuted: tuple[float, ...]
    images: int

    def lower(self, seconds: float) -> float:
        """The share certified within that many seconds an image."""
        return bisect_right(self.certified, seconds) / self.images

    def upper(self, seconds: float) -> float:
        """The share neither misclassified nor falsified within that many seconds an image."""
        return 1 - bisect_right(self.refuted, seconds) / self.images

    @property
    def last(self) -> float:
        """After how many seconds nothing changes any more."""
        return max((*self.certified, *self.refuted), default=0.0)


def anytime(outcomes: Iterable[OutcomeRow]) -> AnyTime:
    """The curves of one network's answers, which must be to all of its images.

    Raises:
        InputError: there are no answers.
    """
    rows = list(outcomes)
    if not rows:
        raise InputError("without answers there is no curve over time")
    certified = sorted(row.seconds for row in rows if row.verdict == Verdict.CERTIFIED)
    wrong = (Verdict.MISCLASSIFIED, Verdict.FALSIFIED)
    refuted = sorted(row.seconds for row in rows if row.verdict in wrong)
    return AnyTime(tuple(certified), tuple(refuted), len(rows))
