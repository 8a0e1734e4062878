"""Counterexamples planted where attacks do not look: no answer may be that there are none."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import pytest

from certiprune.attack import pgd, property_margin
from certiprune.core.rng import generator
from certiprune.verify import Budget, Cascade, Outcome, Reason, Stage, Verdict, decide
from certiprune.verify.bab import Settings
from helpers.networks import Source
from helpers.planted import MODELS, PLACES, Base, Planted, crossed, plant, trained
from helpers.rational import exact_worst

FOUND = (Verdict.FALSIFIED, Verdict.MISCLASSIFIED)
# The attack of the cascade, as it is and switched off; and bounds made again under the negated property.
WAYS = [
    Cascade(),
    Cascade(attack_steps=0, attack_restarts=0),
    Cascade(search=Settings(refresh=2, refresh_after=0, refresh_layers=0)),
]


@dataclass
class Tally:
    """What the verifier said, and how often the cascade's own attack would have found nothing."""

    verdicts: Counter[Verdict] = field(default_factory=Counter)
    stages: Counter[Stage] = field(default_factory=Counter)
    missed: int = 0

    def __str__(self) -> str:
        said = ", ".join(f"{count} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        stages = ", ".join(f"{count} {stage}" for stage, count in sorted(self.stages.items()))
        return f"{said} (found by: {stages}); the attack alone missed {self.missed}"

    @property
    def total(self) -> int:
        return self.verdicts.total()


base = functools.cache(trained)


def attack_misses(planted: Planted) -> bool:
    """Whether an attack of the same length as the cascade's finds nothing."""
    problem, how = planted.problem, Cascade()
    found = pgd(
        property_margin(planted.network, problem.margin),
        problem.box,
        steps=how.attack_steps,
        step_size=0.25,
        restarts=how.attack_restarts,
        generator=generator(0, "attack"),
        start=problem.centre,
        stop_at=0.0,
    )
    return float(found.values[0]) > 0


def check(planted: Planted, outcome: Outcome) -> None:
    truth = exact_worst(planted.network, planted.problem.margin, planted.point)
    assert truth < 0
    assert outcome.verdict is not Verdict.CERTIFIED
    assert outcome.lower <= truth
    if outcome.verdict in FOUND:
        assert outcome.counterexample is not None
        x = outcome.counterexample.double()
        assert bool(planted.problem.box.contains(x.unsqueeze(0)))
        # The replay is in float64, and so up to its rounding.
        assert exact_worst(planted.network, planted.problem.margin, x) < 1e-12
    else:
        assert outcome.reason in (Reason.NODES, Reason.NUMERIC)


def run(bases: list[Base], seeds: Iterable[int], nodes: int, rows: int = 1) -> Tally:
    """One planted question for each seed: every base, place, width, depth and scale comes up.

    With ``rows`` above 1 each clause has so many rows that cross each other.
    """
    tally = Tally()
    for seed in seeds:
        source = Source.of(seed)
        planted = plant(
            bases[seed % len(bases)],
            seed,
            place=PLACES[seed // len(bases) % len(PLACES)],
            pixels=(1, 2, 3, 5)[source.whole(0, 3)],
            depth=(1e-4, 1e-9)[source.whole(0, 1)],
            scale=(1e-4, 1.0, 1e4)[source.whole(0, 2)],
            windows=bool(source.whole(0, 1)),
        )
        if rows > 1:
            planted = crossed(planted, seed, rows)
        how = WAYS[seed // len(bases) // len(PLACES) % len(WAYS)]
        # Alone, and not on the clock, so that the counts are the same everywhere.
        how = replace(how, group=1)
        (outcome,) = decide(
            planted.network, planted.problem, budget=Budget(seconds=300, nodes=nodes), how=how
        )
        check(planted, outcome)
        tally.verdicts[outcome.verdict] += 1
        if outcome.verdict in FOUND:
            tally.stages[outcome.stage] += 1
        tally.missed += attack_misses(planted)
    return tally


def found(tally: Tally) -> int:
    return sum(tally.verdicts[v] for v in FOUND)


def test_planted_counterexamples_are_never_certified(capsys: pytest.CaptureFixture[str]) -> None:
    bases = [base(name, pruned=k % 2 == 1) for k, name in enumerate(MODELS)]
    tally = run(bases, range(12), nodes=600)
    with capsys.disabled():
        print(f"\n  {tally}")
    assert tally.missed >= 0.75 * tally.total
    assert found(tally) >= 0.5 * tally.total
    # Not all of them by luck: some only where every ReLU was fixed, or on the way there.
    assert tally.stages[Stage.BRANCHING] + tally.stages[Stage.LEAF] >= 5


def test_planted_counterexamples_of_clauses_of_several_rows_are_never_certified(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bases = [base(name, pruned=k % 2 == 0) for k, name in enumerate(MODELS)]
    tally = run(bases, range(100, 112), nodes=600, rows=3)
    with capsys.disabled():
        print(f"\n  {tally}")
    assert tally.missed >= 0.75 * tally.total
    assert found(tally) >= 0.5 * tally.total
    assert tally.stages[Stage.BRANCHING] + tally.stages[Stage.LEAF] >= 4


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_many_planted_counterexamples_are_never_certified(
    part: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bases = [base(name, pruned=pruned) for name in MODELS for pruned in (False, True)]
    seeds = range(1000 + 72 * part, 1072 + 72 * part)
    tally = run(bases, seeds, nodes=6000)
    with capsys.disabled():
        print(f"\n  seeds {seeds.start} to {seeds.stop - 1}: {tally}")
    assert tally.missed >= 0.75 * tally.total
    assert found(tally) >= 0.5 * tally.total
