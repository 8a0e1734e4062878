"""Verdicts against exact minima: certified exactly where the minimum is positive, falsified exactly where it is not.

Each network is asked three questions about one box: the property as drawn, and the property shifted so that its exact
minimum is a little above and a little below zero, which is what makes branching necessary.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
import torch

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.verify import Budget, Cascade, Outcome, Problem, Reason, Stage, Verdict, decide, verify
from certiprune.verify.bab import Settings
from helpers.exact import minimum
from helpers.networks import KINDS, Source, random_box, random_margin, random_network

# Exact answers come from floating-point solvers; nearer to zero than this they say nothing.
NEAR = 1e-6
# Networks of the sweep; each is asked three questions.
SWEEP = int(os.environ.get("CERTIPRUNE_SWEEP", "2100"))

BARE = {"attack_steps": 0, "attack_restarts": 0, "tighten_steps": 0, "alpha_steps": 0}
# Every subproblem's neurons are bounded again under its splits and the negated property.
OFTEN = {"refresh": 1, "refresh_after": 0, "refresh_layers": 0, "refresh_steps": 3}
HOW = {
    "default": Cascade(),
    "bare": Cascade(**BARE, search=Settings(batch=2, steps=1)),
    "no ascent": Cascade(**BARE, search=Settings(batch=7, steps=0)),
    "tight": Cascade(**BARE, search=Settings(batch=16, steps=3, candidates=3, **OFTEN)),
    "leaves": Cascade(**BARE, search=Settings(batch=8, steps=2, goal=1e30)),
    "tight leaves": Cascade(**BARE, search=Settings(batch=8, steps=2, goal=1e30, **OFTEN)),
    "alone": Cascade(group=1, attack_restarts=0, tighten_steps=3, alpha_steps=3),
}
PARTS = 6
# Where many ReLUs are open, searches that are hobbled take too long.
QUICK = [
    HOW["default"],
    HOW["alone"],
    Cascade(**BARE),
    Cascade(**BARE, search=Settings(candidates=3, **OFTEN | {"refresh": 3})),
]


@dataclass
class Tally:
    """What was compared."""

    compared: int = 0
    near: int = 0
    late: int = 0
    stages: Counter[Stage] = field(default_factory=Counter)
    verdicts: Counter[Verdict] = field(default_factory=Counter)

    def __str__(self) -> str:
        stages = ", ".join(f"{count} {stage}" for stage, count in sorted(self.stages.items()))
        return f"{self.compared} compared, {self.near} too near to zero, {self.late} out of time; decided by: {stages}"


def shifted(margin: Margin, by: list[float]) -> Margin:
    """The one property once for each shift of all of its rows."""
    offset = margin.offset + torch.tensor(by, dtype=torch.float64).unsqueeze(1)
    return Margin(margin.matrix.expand(len(by), -1, -1), offset, margin.clause)


def check(network: Network, problem: Problem, outcome: Outcome, lower: float, upper: float) -> bool:
    """Whether the outcome could be compared; it must agree with the exact minimum in [lower, upper]."""
    at = outcome.index
    assert outcome.lower <= upper + NEAR, (outcome, upper)
    if outcome.verdict in (Verdict.FALSIFIED, Verdict.MISCLASSIFIED):
        assert outcome.counterexample is not None
        x = outcome.counterexample.double().unsqueeze(0)
        assert bool(problem.box[at : at + 1].contains(x))
        assert float(problem.margin[at : at + 1].worst(network(x))) <= 0
    if lower <= NEAR and upper >= -NEAR:
        return False
    if lower > NEAR:
        assert outcome.verdict is Verdict.CERTIFIED, (outcome, lower)
        assert outcome.lower > 0
    else:
        assert outcome.verdict in (Verdict.FALSIFIED, Verdict.MISCLASSIFIED), (outcome, upper)
    return True


def compare(
    seeds: Iterable[int],
    relus: int,
    ways: list[Cascade],
    tally: Tally,
    *,
    seconds: float = 60,
    enumerate_up_to: int = 5,
) -> None:
    for seed in seeds:
        network = random_network(seed, relus)
        source = Source.of(seed + 1)
        box = random_box(seed, network, radius=0.2 + 1.3 * float(source.uniform(1)))
        # A clause of several rows needs nearly every pattern, so larger networks have few of these.
        rows = 3 if relus < 12 or seed % 4 == 0 else 1
        margin = random_margin(seed, network.outputs, most_rows=rows)
        exact = minimum(network, box, margin, enumerate_up_to=enumerate_up_to)
        assert exact.upper - exact.lower <= 1e-5 * max(1.0, abs(exact.upper)), exact
        little = 10.0 ** (-1 - 3 * float(source.uniform(1)))
        by = [0.0, little - exact.upper, -little - exact.upper]
        problem = Problem(
            Box(*(t.expand(3, *network.input_shape) for t in (box.lower, box.upper))),
            shifted(margin, by),
            box.centre.float().double().expand(3, *network.input_shape),
        )
        how = ways[seed // len(KINDS) % len(ways)]
        for outcome in decide(network, problem, how=how, budget=Budget(seconds=seconds)):
            shift = by[outcome.index]
            if outcome.reason is Reason.TIME:
                tally.late += 1
            elif check(network, problem, outcome, exact.lower + shift, exact.upper + shift):
                tally.compared += 1
                tally.stages[outcome.stage] += 1
                tally.verdicts[outcome.verdict] += 1
            else:
                tally.near += 1


def test_small_networks_agree_with_enumeration(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    compare(range(35, 140), 8, list(HOW.values()), tally)
    with capsys.disabled():
        print(f"\n  {tally}")
    assert tally.late == 0
    assert tally.compared > 0.95 * 3 * 105
    assert tally.verdicts[Verdict.CERTIFIED] > 40
    assert tally.verdicts[Verdict.FALSIFIED] > 40
    assert min(tally.stages[s] for s in (Stage.INTERVAL, Stage.CROWN, Stage.BRANCHING, Stage.LEAF)) >= 8, (
        tally
    )


def test_larger_networks_agree_with_mixed_integer_programs(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    compare(range(1000, 1040), 18, QUICK, tally)
    with capsys.disabled():
        print(f"\n  {tally}")
    assert tally.late == 0
    assert tally.compared > 0.95 * 3 * 40
    assert tally.stages[Stage.BRANCHING] + tally.stages[Stage.LEAF] > 30


def test_labelled_images_agree_with_the_exact_minimum() -> None:
    seen: Counter[Verdict] = Counter()
    for seed in range(20):
        network = random_network(seed, 10)
        source = Source.of(seed)
        images = source.uniform(4, *network.input_shape).float()
        labels = network(images.double()).argmax(1)
        eps = 0.6 * source.uniform(4)
        margin = Margin.classified_as(labels, network.outputs).to(torch.float64)
        for outcome in verify(network, images, labels, eps=eps):
            k = slice(outcome.index, outcome.index + 1)
            exact = minimum(network, Box.ball(images[k].double(), eps[k]), margin[k])
            seen[outcome.verdict] += check(
                network,
                Problem.robust(images, labels, eps, classes=network.outputs),
                outcome,
                exact.lower,
                exact.upper,
            )
    assert seen[Verdict.CERTIFIED] > 15
    assert seen[Verdict.FALSIFIED] > 5
    assert seen[Verdict.UNKNOWN] == 0


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_sweep(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    seeds = range(10_000 + part * SWEEP, 10_000 + part * SWEEP + -(-SWEEP // PARTS))
    relus, ways = (9, list(HOW.values())) if part % 2 == 0 else (18, QUICK)
    compare(seeds, relus, ways, tally, seconds=10, enumerate_up_to=6)
    kinds = Counter(list(KINDS)[seed % len(KINDS)] for seed in seeds)
    with capsys.disabled():
        print(
            f"\n  seeds {seeds.start} to {seeds.stop - 1} ({', '.join(f'{n} {kind}' for kind, n in kinds.items())}):"
        )
        print(f"  {tally}; none disagreed")
    assert tally.compared > 0.9 * 3 * len(seeds)
