"""The study's table: a block for each training, a row for each method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from certiprune.report.statistics import Estimate, OverSeeds, Proportion
from certiprune.report.summary import Round
from certiprune.report.sweep.choose import Choice, choose, measure
from certiprune.report.sweep.summary import Block, Method, Sweep
from certiprune.verify.outcome import Verdict


@dataclass(frozen=True, eq=False)
class Row:
    """A method's networks of one round, over its seeds. A measure that no seed has is None.

    Attributes:
        choice: how the round was chosen; None for dense networks, and for rows of a round that was not chosen.
        networks: one for each seed that has the round.
        remaining: the fraction of prunable weights or channels that is left.
        standard, pgd: accuracies on the test split.
        certified, upper, unknown, falsified, misclassified: shares of the verified images.
        seconds: of verification, mean per image.
        unstable: the share of unstable ReLUs.
    """

    method: Method
    number: int
    choice: Choice | None
    networks: tuple[Round, ...]

    @property
    def remaining(self) -> OverSeeds:
        return OverSeeds(tuple(r.remaining for r in self.networks))

    @property
    def unit(self) -> str:
        return self.networks[0].row.unit

    @property
    def standard(self) -> Estimate | None:
        return Estimate.of(r.standard for r in self.networks)

    @property
    def pgd(self) -> Estimate | None:
        return Estimate.of(r.pgd for r in self.networks)

    @property
    def certified(self) -> Estimate | None:
        return Estimate.of(r.certified for r in self.networks)

    @property
    def upper(self) -> Estimate | None:
        return Estimate.of(r.upper for r in self.networks)

    @property
    def unknown(self) -> Estimate | None:
        return self._share(Verdict.UNKNOWN)

    @property
    def falsified(self) -> Estimate | None:
        return self._share(Verdict.FALSIFIED)

    @property
    def misclassified(self) -> Estimate | None:
        return self._share(Verdict.MISCLASSIFIED)

    @property
    def seconds(self) -> OverSeeds | None:
        return self._mean(lambda r: r.seconds_an_image)

    @property
    def unstable(self) -> OverSeeds | None:
        return self._mean(
            lambda r: r.unstable / r.row.relus if r.unstable is not None and r.row.relus else None
        )

    def _share(self, verdict: Verdict) -> Estimate | None:
        done = (r for r in self.networks if r.complete)
        return Estimate.of(Proportion(r.count(verdict), len(r.outcomes)) for r in done)

    def _mean(self, value: Callable[[Round], float | None]) -> OverSeeds | None:
        return OverSeeds.of(value(r) for r in self.networks)


@dataclass(frozen=True, eq=False)
class Part:
    """One training's rows.

    Attributes:
        measure: by what on the validation split the rows were chosen; None where nothing of it is recorded.
        without: methods of which no round could be chosen.
    """

    block: Block
    measure: str | None
    rows: tuple[Row, ...]
    without: tuple[Method, ...]


def parts(sweep: Sweep, by: str | None = None) -> list[Part]:
    """The table; ``by`` is the validation metric that rounds are chosen by, in place of ``choose.MEASURES``."""
    return [_part(block, measure(block, by)) for block in sweep.blocks]


def every_round(sweep: Sweep) -> Iterable[Row]:
    """A row for each round of each method, chosen or not."""
    for block in sweep.blocks:
        for method in block.methods:
            numbers = sorted({r.number for branch in method.branches for r in branch.rounds})
            yield from (Row(method, number, None, tuple(method.at(number))) for number in numbers)


def _part(block: Block, name: str | None) -> Part:
    choices = [(method, choose(method, name)) for method in block.pruned]
    rows = [Row(method, 0, None, tuple(method.at(0))) for method in block.dense]
    rows += [Row(m, choice.number, choice, tuple(m.at(choice.number))) for m, choice in choices if choice]
    return Part(block, name, tuple(rows), tuple(m for m, choice in choices if choice is None))
