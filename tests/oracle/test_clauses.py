"""Clauses of several rows in the search over ReLUs against exact answers, where no row alone decides.

A clause's rows cross inside of the box: each of them is negative somewhere, the largest of them nowhere, or only just.
"""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.verify import Budget, Cascade, Outcome, Problem, Stage, Verdict, decide
from certiprune.verify import forms as choice
from certiprune.verify.bab import Settings
from certiprune.verify.input_split import InputSettings
from certiprune.verify.outcome import Reason
from helpers.exact import Minimum, minimum
from helpers.networks import F64, Source, random_box, random_network

NEVER = InputSettings(inputs=0)
BARE = {"attack_steps": 0, "attack_restarts": 0, "tighten_steps": 0, "alpha_steps": 0, "inputs": NEVER}
HOW = [
    Cascade(inputs=NEVER),
    Cascade(**BARE),
    Cascade(**BARE, search=Settings(batch=4, steps=1, first_steps=1)),
    Cascade(**BARE, search=Settings(candidates=3, refresh=1, refresh_after=0, refresh_layers=0)),
]
ONE = torch.zeros(1, dtype=torch.int64)
# What the oracle's solvers cannot tell from 0.
NEAR = 1e-6


def question(seed: int, rows: int, clauses: int) -> tuple[Network, Box, Margin]:
    """Clauses whose rows are equal at a point of the box, so that each is negative on one side of it."""
    network = random_network(seed, 9)
    source = Source.of(seed + 17)
    box = random_box(seed, network, radius=0.4 + 0.5 * float(source.uniform(1)))
    matrix = source.normal(1, rows * clauses, network.outputs) * 10 ** source.uniform(1, rows * clauses, 1)
    point = box.clamp(box.lower + source.uniform(*box.lower.shape) * (box.upper - box.lower))
    offset = -(matrix @ network(point).T).squeeze(2)
    return network, box, Margin(matrix, offset, torch.arange(clauses).repeat_interleave(rows))


@dataclass(frozen=True)
class Case:
    """A question with its exact minimum, and the exact minima [rows] of its rows alone."""

    network: Network
    box: Box
    margin: Margin
    exact: Minimum
    alone: Tensor

    def crossing(self, by: float) -> bool:
        """Whether no row of some clause holds in the whole box, with all rows raised ``by`` so much."""
        return bool((self.margin.clause_values(self.alone.unsqueeze(0) + by) < -NEAR).any())


@functools.cache
def case(seed: int) -> Case:
    network, box, margin = question(seed, 2 + seed % 3, 1 + seed % 2)
    rows = [Margin(margin.matrix[:, [k]], margin.offset[:, [k]], ONE) for k in range(margin.rows)]
    alone = [minimum(network, box, row).upper for row in rows]
    return Case(network, box, margin, minimum(network, box, margin), torch.tensor(alone, dtype=F64))


def answers(network: Network, box: Box, margins: list[Margin], how: Cascade) -> list[Outcome]:
    n = len(margins)
    many = Margin(
        torch.cat([m.matrix for m in margins]), torch.cat([m.offset for m in margins]), margins[0].clause
    )
    boxes = box[torch.zeros(n, dtype=torch.int64)]
    found = decide(network, Problem(boxes, many, boxes.centre), how=how, budget=Budget(seconds=60))
    return sorted(found, key=lambda o: o.index)


@pytest.mark.parametrize("price", [-1e9, 1e9], ids=["layered", "reduced"])
def test_clauses_agree_with_exact_answers(
    price: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(choice, "_NEURON", price)
    verdicts: Counter[Verdict] = Counter()
    stages: Counter[Stage] = Counter()
    nodes = 0
    for seed in range(30):
        made = case(seed)
        network, margin, exact = made.network, made.margin, made.exact
        if exact.upper - exact.lower > NEAR:
            continue
        size = float(margin.matrix.abs().mean())
        wanted = [0.03 * size, 0.2 * size, -0.01 * size]
        by = [t - exact.upper for t in wanted]
        margins = [Margin(margin.matrix, margin.offset + t, margin.clause) for t in by]
        for outcome in answers(network, made.box, margins, HOW[seed % len(HOW)]):
            true = wanted[outcome.index]
            assert outcome.reason is Reason.NONE, (seed, outcome)
            assert outcome.lower <= true + NEAR
            if true > 0:
                assert outcome.verdict is Verdict.CERTIFIED, (seed, outcome)
            else:
                assert outcome.verdict in (Verdict.FALSIFIED, Verdict.MISCLASSIFIED), (seed, outcome)
                assert outcome.counterexample is not None
                x = outcome.counterexample.double().unsqueeze(0)
                assert float(margins[outcome.index].worst(network(x))) <= 0
            if made.crossing(by[outcome.index]):
                verdicts[outcome.verdict] += 1
                stages[outcome.stage] += 1
                nodes += outcome.nodes
    with capsys.disabled():
        print(f"\n  {dict(verdicts)}, {dict(stages)}, {nodes} nodes")
    assert verdicts[Verdict.CERTIFIED] >= 12 and verdicts[Verdict.FALSIFIED] >= 12
    assert stages[Stage.BRANCHING] >= 15


@pytest.mark.parametrize("price", [-1e9, 1e9], ids=["layered", "reduced"])
def test_rows_that_cross_are_proved_by_their_mean(price: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where one row m holds by itself, the rows m + g and m - g hold as easily, however steep g is.

    A search by one of the two rows would have to fix every ReLU.
    """
    monkeypatch.setattr(choice, "_NEURON", price)
    for seed in range(6):
        network = random_network(seed, 12, "mlp")
        source = Source.of(seed + 1)
        box = random_box(seed, network, radius=0.5)
        m, g = source.normal(1, 1, network.outputs), 20 * source.normal(1, 1, network.outputs)
        low = -minimum(network, box, Margin(m, torch.zeros(1, 1, dtype=F64), ONE)).lower
        shift = (g @ network(box.centre).T).squeeze()
        offset = torch.stack([low + 0.3 - shift, low + 0.3 + shift]).reshape(1, 2)
        both = Margin(torch.cat([m + g, m - g], 1), offset, torch.tensor([0, 0]))
        alone = Margin(m, torch.full((1, 1), low + 0.3, dtype=F64), ONE)
        (single,) = answers(network, box, [alone], HOW[0])
        (crossed,) = answers(network, box, [both], HOW[0])
        assert single.verdict is crossed.verdict is Verdict.CERTIFIED
        assert crossed.stage is not Stage.LEAF
        assert crossed.nodes <= 4 * single.nodes + 8
