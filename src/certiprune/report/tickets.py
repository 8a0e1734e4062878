"""Certified lottery tickets as a tested claim: pruned, and not worse than the dense network in either accuracy.

The study calls a pruned network a certified lottery ticket if it matches the dense network in standard and in
certified accuracy. Here "matches" means: worse by less than a margin, at a stated confidence, on the images that both
verified. Both parts have to be shown, each by Tango's test at the full level: whoever claims a conjunction only where
each part is significant errs with at most that level (intersection-union test, Berger, Technometrics, 1982), so the two
parts need no correction. The number of networks does (Holm).

Undecided images make certified accuracy an interval. The conservative count gives the pruned network only what is
proved and the dense one all that is not refuted; a ticket by it cannot come from a verifier that had more trouble with
the dense network. The other count compares what is proved of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from certiprune.core.errors import InputError
from certiprune.report.statistics import NonInferior, holm, paired
from certiprune.report.statistics.noninferior import images_needed
from certiprune.report.summary import Round, Summary


@dataclass(frozen=True)
class Claim:
    """What is claimed of a ticket, chosen before looking at any result.

    Attributes:
        margin: the loss of accuracy that still counts as none, as a proportion: 0.02 is two points.
        confidence: of the whole claim, over all networks together.

    Raises:
        InputError: one of them is out of range.
    """

    margin: float = 0.02
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise InputError(
                f"the margin {self.margin:g} must be more than 0 and less than 1 (0.02: two points)"
            )
        if not 0.5 <= self.confidence < 1:
            raise InputError(
                f"the confidence {self.confidence:g} must be at least 0.5 and less than 1 (0.95: 95 %)"
            )

    @property
    def images_needed(self) -> int:
        """On fewer images a network that answers every image as the dense one does is not shown to be a ticket."""
        return images_needed(self.margin, self.confidence)


@dataclass(frozen=True, eq=False)
class Ticket:
    """One pruned network beside its dense one.

    Attributes:
        standard: the test on images that are classified correctly.
        conservative: that on certified images of the pruned network against the upper side of the dense one.
        proved: that on certified images of both.
        adjusted, adjusted_proved: p-values of the whole claim by either count, adjusted for all networks tested (Holm).
    """

    pruned: Round
    claim: Claim
    standard: NonInferior
    conservative: NonInferior
    proved: NonInferior
    adjusted: float = 1.0
    adjusted_proved: float = 1.0

    @property
    def p_value(self) -> float:
        """Of the claim by the conservative count: the larger of its two parts'."""
        return max(self.standard.p_value, self.conservative.p_value)

    @property
    def p_proved(self) -> float:
        """Of the claim by what is proved of both."""
        return max(self.standard.p_value, self.proved.p_value)

    @property
    def holds(self) -> bool:
        """Whether the claim is shown by the conservative count."""
        return self.adjusted < 1 - self.claim.confidence

    @property
    def holds_proved(self) -> bool:
        """Whether it is shown by what is proved of both; the dense network's undecided images may explain it."""
        return self.adjusted_proved < 1 - self.claim.confidence


def tickets(networks: Sequence[tuple[Round, Round]], claim: Claim) -> list[Ticket]:
    """The claim tested of each (dense, pruned) pair; p-values are adjusted for all of them.

    Pairs that are not verified completely, or share no image, are left out.
    """
    found = [ticket for dense, pruned in networks if (ticket := _ticket(dense, pruned, claim))]
    adjusted = holm([ticket.p_value for ticket in found])
    proved = holm([ticket.p_proved for ticket in found])
    return [
        replace(ticket, adjusted=p, adjusted_proved=q)
        for ticket, p, q in zip(found, adjusted, proved, strict=True)
    ]


def of_run(summary: Summary, claim: Claim) -> list[Ticket]:
    """The claim tested of every pruned network of a run."""
    dense = summary.dense
    if dense is None:
        return []
    return tickets([(dense, r) for r in summary.rounds if r is not dense], claim)


def _ticket(dense: Round, pruned: Round, claim: Claim) -> Ticket | None:
    if not dense.complete or not pruned.complete:
        return None
    standard = paired(dense.correct, pruned.correct)
    conservative = paired(dense.possible, pruned.proved)
    proved = paired(dense.proved, pruned.proved)
    if standard is None or conservative is None or proved is None:
        return None
    first, second, third = (NonInferior(pair, claim.margin) for pair in (standard, conservative, proved))
    return Ticket(pruned, claim, first, second, third)
