"""Which network to take, for a stated wish: chosen on validation images, among those that no other network beats.

Every network of a run or a sweep (the dense ones, too) has four numbers: certified and standard accuracy on
validation images, its size, and the seconds that verification takes. Those that no other equals in all four and beats
in one form the Pareto front. The wish sets the least accuracies, most often relative to the dense network, and says
what is best among the networks that have them. Test images only say how good the choice has turned out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certiprune.core.errors import InputError
from certiprune.report.statistics import OverSeeds
from certiprune.report.summary import SPENT, VERIFIED, Round
from certiprune.report.sweep.choose import shared_measure
from certiprune.report.sweep.summary import Branch, Method, Sweep
from certiprune.report.sweep.table import Row
from certiprune.report.tickets import Claim, Ticket, tickets
from certiprune.report.wish import Size, Want, Wish

STANDARD = "validation_accuracy"


@dataclass(frozen=True, eq=False)
class Candidate:
    """Networks of one training, method and round, one for each seed.

    Attributes:
        branches: the seeds' runs, in the order of ``networks``.
        certified, standard: on validation images; ``certified`` by the measure of the recommendation.
        size: as the wish counts it.
        seconds: of verification, mean an image.
    """

    method: Method
    number: int
    branches: tuple[Branch, ...]
    networks: tuple[Round, ...]
    certified: OverSeeds
    standard: OverSeeds
    size: OverSeeds
    seconds: OverSeeds

    @property
    def name(self) -> str:
        """Such as ``crown_ibp, imp 2``."""
        return f"{self.method.training}, {self.method.name}{f' {self.number}' if self.number else ''}"

    @property
    def row(self) -> Row:
        """The same networks as a row of the study's table: what is left of them, and how they do on test images."""
        return Row(self.method, self.number, None, self.networks)

    @property
    def goods(self) -> tuple[float, float, float, float]:
        """Certified accuracy, standard accuracy, size and seconds, all of which are better where they are higher."""
        return (self.certified.mean, self.standard.mean, -self.size.mean, -self.seconds.mean)

    def beats(self, other: Candidate) -> bool:
        """Whether this is nowhere worse than ``other`` and somewhere better."""
        pairs = list(zip(self.goods, other.goods, strict=True))
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    @property
    def best_seed(self) -> int:
        """The place in ``networks`` of the seed with the best certified accuracy on validation images."""
        keys = list(zip(self.certified.values, self.standard.values, strict=True))
        return max(range(len(keys)), key=lambda place: (keys[place], -place))


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What ``recommend`` has found.

    Attributes:
        measure: what ``Candidate.certified`` is: ``validation_verified/...`` where validation images were verified
            completely, else what training chose its epoch by.
        on_test: whether the seconds are those of the test images, because no validation images were verified.
        candidates: every network that could be chosen, the dense ones first.
        left_out: networks that could not be, with the reason.
        front: the candidates that no other beats, smallest first.
        reference: the dense network that losses are measured from: the best on validation images.
        chosen: the candidate to take; None where none meets the demands.
        tickets: the test, a seed at a time, that the chosen networks are on test images worse than their own dense ones
            by less than the loss that was allowed; empty where the dense one is chosen or no loss is stated.
    """

    wish: Wish
    measure: str
    on_test: bool
    candidates: tuple[Candidate, ...]
    left_out: tuple[str, ...]
    front: tuple[Candidate, ...]
    reference: Candidate | None
    chosen: Candidate | None
    tickets: tuple[Ticket, ...]

    @property
    def verified(self) -> bool:
        """Whether certified accuracy on validation images comes from complete verification."""
        return self.measure.startswith(VERIFIED)


def recommend(sweep: Sweep, wish: Wish, *, training: str | None = None) -> Recommendation:
    """The candidate that serves ``wish`` best, of all networks in ``sweep`` or of one training's.

    Means over seeds decide, and only rounds that every seed has count, so that no lucky seed is chosen. Of equally good
    candidates the one with more certified accuracy is taken, then standard accuracy, size and seconds: the chosen one
    is on the front.

    Raises:
        InputError: there is no such training, no candidate, or no dense network to measure a loss from.
    """
    blocks = [block for block in sweep.blocks if training in (None, block.training)]
    if not blocks:
        names = ", ".join(block.training for block in sweep.blocks)
        raise InputError(f"there is no training {training!r}; there are {names}")
    places = [(m, number) for block in blocks for m in (*block.dense, *block.pruned) for number in m.numbers]
    trained = [(m, number) for m, number in places if all(STANDARD in r.validation for r in m.at(number))]
    measure = shared_measure([r for m, number in trained for r in m.at(number)])
    # What ``validation_measure`` is, is the caller's secret, and need not be the same for two networks.
    if measure is None or measure in (STANDARD, "validation_measure"):
        raise InputError(
            "no measure of robustness on validation images is recorded of every network; verify some (--images 100)"
        )
    spent = measure.replace(VERIFIED, SPENT) if measure.startswith(VERIFIED) else None
    candidates, left_out = [], []
    for method, number in places:
        found = _candidate(method, number, measure, spent, wish.size)
        if isinstance(found, str):
            left_out.append(found)
        else:
            candidates.append(found)
    if not candidates:
        raise InputError(f"there is no network to choose from: {'; '.join(left_out) or 'nothing is trained'}")
    dense = [c for c in candidates if not c.method.pruned and not c.method.extra]
    reference = max(dense, key=lambda c: c.goods, default=None)
    front = [c for c in candidates if not any(other.beats(c) for other in candidates)]
    front.sort(key=lambda c: (c.size.mean, c.goods))
    chosen = _choose(candidates, reference, wish)
    return Recommendation(
        wish,
        measure,
        spent is None,
        tuple(candidates),
        tuple(left_out),
        tuple(front),
        reference,
        chosen,
        tuple(_tickets(chosen, wish)),
    )


def _candidate(method: Method, number: int, measure: str, spent: str | None, size: Size) -> Candidate | str:
    """The networks of a round with their four numbers, or why they cannot be chosen."""
    name = f"{method.training}, {method.name} {number}"
    pairs = [(b, r) for b in method.branches if (r := b.round(number)) is not None]
    networks = tuple(r for _, r in pairs)

    def each(value: Callable[[Round], float | None]) -> OverSeeds | None:
        found = OverSeeds.of(map(value, networks))
        return found if found is not None and found.seeds == len(networks) else None

    certified = each(lambda r: r.validation.get(measure))
    standard = each(lambda r: r.validation.get(STANDARD))
    if certified is None or standard is None:
        return f"{name}: not trained with every seed"
    seconds = each(lambda r: r.seconds_an_image if spent is None else r.validation.get(spent))
    if seconds is None:
        return f"{name}: not verified completely with every seed"
    sizes = each(lambda r: _size(r, size))
    if sizes is None:
        return f"{name}: its compacted size was not measured"
    branches = tuple(b for b, _ in pairs)
    return Candidate(method, number, branches, networks, certified, standard, sizes, seconds)


def _size(network: Round, size: Size) -> float | None:
    if size is Size.NONZERO:
        return float(network.row.kept_all)
    if not network.sized:
        return None
    row = network.row
    return float(row.compact_parameters if size is Size.COMPACT else row.compact_multiply_adds)


def _choose(candidates: Sequence[Candidate], reference: Candidate | None, wish: Wish) -> Candidate | None:
    least = {}
    for name in ("certified", "standard"):
        dense: OverSeeds | None = getattr(reference, name, None)
        least[name] = _least(getattr(wish, name), getattr(wish, f"{name}_loss"), dense, name)
    # Sums of fractions of images are compared with differences of them: allow for their rounding, not for an image.
    enough = [
        c
        for c in candidates
        if c.certified.mean >= least["certified"] - 1e-9 and c.standard.mean >= least["standard"] - 1e-9
    ]
    place = {Want.CERTIFIED: 0, Want.STANDARD: 1, Want.SMALLEST: 2, Want.FASTEST: 3}[wish.want]
    return max(enough, key=lambda c: (c.goods[place], c.goods), default=None)


def _least(least: float | None, loss: float | None, dense: OverSeeds | None, name: str) -> float:
    """The least accuracy that is good enough; minus infinity where nothing is demanded."""
    demands = [-math.inf if least is None else least]
    if loss is not None:
        if dense is None:
            raise InputError(
                f"there is no dense network to measure a loss of {name} accuracy from; state the least accuracy"
            )
        demands.append(dense.mean - loss)
    return max(demands)


def _tickets(chosen: Candidate | None, wish: Wish) -> list[Ticket]:
    losses = [loss for loss in (wish.certified_loss, wish.standard_loss) if loss]
    if chosen is None or not chosen.method.pruned or not losses:
        return []
    pairs = [
        (b.dense, r) for b, r in zip(chosen.branches, chosen.networks, strict=True) if b.dense is not None
    ]
    return tickets(pairs, Claim(margin=min(max(losses), 0.99)))
