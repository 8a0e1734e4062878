"""Which round of a method stands in the table: chosen on validation images, never on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from certiprune.report.statistics import OverSeeds
from certiprune.report.summary import VERIFIED, Round
from certiprune.report.sweep.summary import Block, Method

MEASURES = (
    "validation_certified_accuracy",
    "validation_robust_accuracy",
    "validation_measure",
    "validation_accuracy",
)
"""What records may have of the epoch whose weights were kept, the first that is there counts: the measure by which
training chose that epoch (accuracy certified by intervals, or under PGD, at the final eps), else clean accuracy. Where
validation images were verified completely, by as many seconds for every network, that counts before them all."""


@dataclass(frozen=True)
class Choice:
    """A method's round: the one with the best mean over seeds of ``measure`` on the validation split.

    Attributes:
        value: that measure, once for each seed.
        among: how many rounds it was chosen from.
    """

    number: int
    measure: str
    value: OverSeeds
    among: int


def measure(block: Block, by: str | None = None) -> str | None:
    """What the block's methods are chosen by: ``by``, or the first of ``MEASURES`` that every pruned network has."""
    networks = [r for method in block.pruned for branch in method.branches for r in branch.rounds]
    if by is not None:
        return by if any(by in r.validation for r in networks) else None
    return shared_measure(networks)


def shared_measure(networks: Sequence[Round]) -> str | None:
    """The first of ``MEASURES``, after complete verification, that every network has; None where there is none."""
    names = [name for r in networks[:1] for name in r.validation if name.startswith(VERIFIED)]
    return next(
        (n for n in (*names, *MEASURES) if networks and all(n in r.validation for r in networks)), None
    )


def choose(method: Method, name: str | None) -> Choice | None:
    """The round with the best mean of measure ``name``, of equal ones the sparsest.

    Only rounds count that every seed has, with the measure. The round is one for all seeds: a sparsity is chosen,
    and not the luckiest seed. None where there is no such round, and for networks that are not pruned.
    """
    if name is None or not method.pruned:
        return None
    found = {number: _values(method, number, name) for number in method.numbers}
    complete = {number: value for number, value in found.items() if value is not None}
    if not complete:
        return None
    best = max(complete, key=lambda number: (complete[number].mean, number))
    return Choice(best, name, complete[best], len(complete))


def _values(method: Method, number: int, name: str) -> OverSeeds | None:
    values: Sequence[float | None] = [r.validation.get(name) for r in method.at(number)]
    known = OverSeeds.of(values)
    return known if known is not None and known.seeds == len(method.branches) else None
