"""Methods against each other: certified images of the same test images, seed by seed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from certiprune.report.statistics import OverSeeds, Paired, holm, paired
from certiprune.report.summary import Round
from certiprune.report.sweep.summary import IMP, Block, Branch, Method, Sweep, question
from certiprune.report.sweep.table import Part
from certiprune.report.tickets import Claim, Ticket, tickets

Place = tuple[str, str, int]
"""Training, method, round."""


@dataclass(frozen=True, eq=False)
class Duel:
    """A pruned network against a rival of the same training and seed.

    Attributes:
        rival: how the page calls it; ``own dense`` is the one that pruning began with.
        pair: certified images, the rival first.
        adjusted: the p-value adjusted for all duels of the sweep (Holm).
        adjusted_chosen: that adjusted for the duels of chosen rounds only; None for other rounds.
    """

    method: Method
    seed: int
    network: Round
    rival: str
    pair: Paired
    adjusted: float
    adjusted_chosen: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """The duels of one method's chosen round with one rival, over the seeds."""

    method: Method
    number: int
    rival: str
    duels: tuple[Duel, ...]

    @property
    def gain(self) -> OverSeeds:
        return OverSeeds(tuple(duel.pair.gain for duel in self.duels))

    @property
    def interval(self) -> tuple[float, float]:
        """At 95 %: Student's over seeds, or Bonett and Price's over images where there is one seed."""
        return self.gain.interval or self.duels[0].pair.interval

    @property
    def higher(self) -> list[Duel]:
        """The seeds that gain more than the choice of images explains, at 5 % over the whole page."""
        return [duel for duel in self._clear if duel.pair.gain > 0]

    @property
    def lower(self) -> list[Duel]:
        """The seeds that lose more than that."""
        return [duel for duel in self._clear if duel.pair.gain < 0]

    @property
    def _clear(self) -> list[Duel]:
        return [duel for duel in self.duels if (duel.adjusted_chosen or 0.0) < 0.05]


def duels(sweep: Sweep, parts: list[Part]) -> list[Duel]:
    """Every completely verified pruned network against the dense ones and against IMP's of the same round."""
    chosen = chosen_places(parts)
    found = [duel for block in sweep.blocks for duel in _block(block)]
    places = [(method.training, method.name, network.number) in chosen for method, _, network, *_ in found]
    everything = holm([pair.p_value for *_, pair in found])
    few = iter(holm([pair.p_value for (*_, pair), mine in zip(found, places, strict=True) if mine]))
    return [
        Duel(*duel, adjusted=p, adjusted_chosen=next(few) if mine else None)
        for duel, p, mine in zip(found, everything, places, strict=True)
    ]


def comparisons(found: list[Duel]) -> list[Comparison]:
    """The duels of chosen rounds, put together over the seeds."""
    groups: dict[tuple[str, str, int, str], list[Duel]] = {}
    for duel in found:
        if duel.adjusted_chosen is not None:
            key = (duel.method.training, duel.method.name, duel.network.number, duel.rival)
            groups.setdefault(key, []).append(duel)
    return [Comparison(group[0].method, key[2], key[3], tuple(group)) for key, group in groups.items()]


@dataclass(frozen=True, eq=False)
class SeedTicket:
    """A ticket of one method and seed; its round was chosen on validation images."""

    method: Method
    seed: int
    ticket: Ticket


def seed_tickets(parts: list[Part], claim: Claim) -> list[SeedTicket]:
    """The claim tested of every seed's network of the chosen rounds, each against its own dense network.

    The rounds were chosen without the test images, so only these networks count for Holm's adjustment.
    """
    candidates: dict[int, tuple[Method, int]] = {}
    pairs = []
    for row in (row for part in parts for row in part.rows if row.choice is not None):
        for branch in row.method.branches:
            network = branch.round(row.number)
            if network is not None and branch.dense is not None:
                candidates[id(network)] = (row.method, branch.seed)
                pairs.append((branch.dense, network))
    return [SeedTicket(*candidates[id(t.pruned)], t) for t in tickets(pairs, claim)]


def chosen_places(parts: list[Part]) -> Collection[Place]:
    """The chosen rounds of all methods."""
    return {
        (row.method.training, row.method.name, row.number)
        for part in parts
        for row in part.rows
        if row.choice is not None
    }


def _block(block: Block) -> Iterator[tuple[Method, int, Round, str, Paired]]:
    plain = next((method for method in block.dense if not method.extra), None)
    imp = block.method(IMP)
    for method in block.pruned:
        for branch in method.branches:
            for network in branch.rounds:
                for rival, other in _rivals(method, branch, network, plain, imp).items():
                    done = network.complete and other is not None and other.complete
                    pair = paired(other.proved, network.proved) if done and other else None
                    if pair is not None:
                        yield method, branch.seed, network, rival, pair


def _rivals(
    method: Method, branch: Branch, network: Round, plain: Method | None, imp: Method | None
) -> Mapping[str, Round | None]:
    """The dense network of the same run; the plain one, where this method trains with more; IMP's same round."""
    found: dict[str, Round | None] = {"own dense" if method.extra else "dense": branch.dense}
    if method.extra and plain is not None:
        beside = plain.branch(branch.seed)
        found["dense"] = beside.dense if beside and _alike(branch, beside) else None
    if imp is not None and method is not imp:
        beside = imp.branch(branch.seed)
        found[IMP] = beside.round(network.number) if beside and _alike(branch, beside) else None
    return found


def _alike(one: Branch, other: Branch) -> bool:
    """Whether both runs were asked the same of the same images, without which no pair of answers is one."""
    return question(one.summary) == question(other.summary)
