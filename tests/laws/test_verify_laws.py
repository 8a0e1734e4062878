"""Laws of verdicts: what must not change an answer, and what an exhausted budget may still say."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.bounds import Engine, preactivations
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.net.build import fold
from certiprune.net.network import Node
from certiprune.net.ops import Dense
from certiprune.verify import Budget, Cascade, Outcome, Problem, Reason, Stage, Verdict, decide, verify
from certiprune.verify.bab import Settings
from helpers.networks import Source, random_box, random_margin, random_network

SEEDS = st.integers(0, 10_000)
SOON = Budget(seconds=20)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


def questions(seed: int, n: int, relus: int = 14) -> tuple[Network, Problem]:
    """``n`` questions about one network, shifted to be hard: some hold, some do not."""
    network = random_network(seed, relus)
    source = Source.of(seed + 3)
    box = random_box(seed, network, n=n, radius=0.9)
    margin = random_margin(seed, network.outputs, n=n, most_rows=1 + seed % 2)
    points = box.lower + source.uniform(2000, n, *network.input_shape) * (box.upper - box.lower)
    worst = torch.stack([margin.worst(network(x)) for x in points]).amin(0)
    hardness = 0.03 + 0.06 * source.normal(n)
    shifted = Margin(margin.matrix, margin.offset - (worst - hardness).unsqueeze(1), margin.clause)
    return network, Problem(box, shifted, box.centre)


def answers(network: Network, problem: Problem, **options: object) -> list[Outcome]:
    """The outcomes in the order of the questions."""
    options.setdefault("budget", SOON)
    found = sorted(decide(network, problem, **options), key=lambda o: o.index)  # type: ignore[arg-type]
    assert [o.index for o in found] == list(range(len(problem)))
    return found


def holds(outcome: Outcome) -> bool:
    """Whether the property holds; the question must have been decided."""
    assert outcome.verdict is not Verdict.UNKNOWN, outcome
    return outcome.verdict is Verdict.CERTIFIED


@examples(8)
@given(SEEDS)
def test_an_answer_does_not_depend_on_companions_or_order(seed: int) -> None:
    network, problem = questions(2 * seed, 6, relus=9)
    together = answers(network, problem)
    order = torch.randperm(6, generator=Source.of(seed).generator)
    mixed = answers(network, problem[order], how=Cascade(group=4))
    alone = answers(network, problem, how=Cascade(group=1))
    for k in range(6):
        others = [alone[k], mixed[int((order == k).nonzero())]]
        for other in others:
            assert holds(other) == holds(together[k])
            if Stage.LEAF not in (other.stage, together[k].stage):
                assert other.lower == pytest.approx(together[k].lower, rel=1e-2, abs=1e-2)


@examples(8)
@given(SEEDS)
def test_an_answer_does_not_depend_on_how_hard_each_stage_tries(seed: int) -> None:
    network, problem = questions(seed, 4, relus=10)
    expected = [holds(o) for o in answers(network, problem)]
    for how in (
        Cascade(attack_steps=0, attack_restarts=0, alpha_steps=0, tighten_steps=0),
        Cascade(search=Settings(batch=3, candidates=4, refresh=1, refresh_after=0, refresh_steps=2)),
        Cascade(search=Settings(batch=1)),
    ):
        assert [holds(o) for o in answers(network, problem, how=how)] == expected


@examples(8)
@given(SEEDS, st.sampled_from([1e-3, 0.1, 7.0, 1e3]))
def test_scaling_the_rows_changes_no_answer(seed: int, factor: float) -> None:
    network, problem = questions(seed, 3)
    margin = problem.margin
    scaled = replace(problem, margin=Margin(margin.matrix * factor, margin.offset * factor, margin.clause))
    assert [holds(o) for o in answers(network, scaled)] == [holds(o) for o in answers(network, problem)]


def test_scaling_the_rows_changes_no_work() -> None:
    """Tiny rows should be as easy as others: as many nodes, and none of them left open by a solver's tolerance."""
    for seed in (0, 10):
        network, problem = questions(seed, 3)
        margin = problem.margin
        scaled = replace(problem, margin=Margin(margin.matrix * 1e-8, margin.offset * 1e-8, margin.clause))
        for tiny, usual in zip(answers(network, scaled), answers(network, problem), strict=True):
            assert holds(tiny) == holds(usual)
            assert tiny.nodes <= 2 * usual.nodes + 4


@examples(8)
@given(SEEDS)
def test_permuting_the_classes_permutes_the_answers(seed: int) -> None:
    network = random_network(seed, 10)
    classes = network.outputs
    source = Source.of(seed)
    order = torch.randperm(classes, generator=source.generator)
    swap = torch.eye(classes, dtype=torch.float64)[order]
    nodes = (*network.nodes, Node(Dense(swap, None), (network.output,)))
    permuted = fold(Network(nodes, network.input_shape), len(nodes))
    images = source.uniform(3, *network.input_shape)
    labels = network(images).argmax(1)
    new_labels = torch.stack([(order == label).nonzero()[0, 0] for label in labels])
    first = sorted(verify(network, images, labels, eps=0.1, budget=SOON), key=lambda o: o.index)
    second = sorted(verify(permuted, images, new_labels, eps=0.1, budget=SOON), key=lambda o: o.index)
    assert [holds(o) for o in first] == [holds(o) for o in second]


@examples(6)
@given(SEEDS)
def test_a_smaller_ball_keeps_what_a_larger_one_has(seed: int) -> None:
    network = random_network(seed, 12)
    images = Source.of(seed).uniform(2, *network.input_shape)
    labels = network(images).argmax(1)
    before = [True, True]
    for eps in (0.0, 0.05, 0.2, 1.0):
        now = [
            holds(o)
            for o in sorted(verify(network, images, labels, eps=eps, budget=SOON), key=lambda o: o.index)
        ]
        assert all(a or not b for a, b in zip(before, now, strict=True))
        before = now
    assert before.count(True) <= 2


BUDGETS = {
    "no time": (Budget(seconds=0.0), Reason.TIME),
    "hardly any time": (Budget(seconds=1e-9), Reason.TIME),
    "no nodes": (Budget(seconds=20, nodes=0), Reason.NODES),
    "one node": (Budget(seconds=20, nodes=1), Reason.NODES),
    "a byte": (Budget(seconds=20, memory=1), Reason.MEMORY),
}


@pytest.mark.parametrize("name", list(BUDGETS))
def test_an_exhausted_budget_certifies_only_what_the_root_proves(name: str) -> None:
    budget, reason = BUDGETS[name]
    unknown = 0
    for seed in range(8):
        network, problem = questions(seed, 3)
        truth = answers(network, problem)
        for outcome, exact in zip(answers(network, problem, budget=budget), truth, strict=True):
            assert outcome.nodes == 0
            if outcome.verdict is Verdict.UNKNOWN:
                unknown += 1
                assert outcome.reason is reason
                assert outcome.counterexample is None
                assert not outcome.lower > 0
            else:
                assert outcome.reason is Reason.NONE
                assert holds(outcome) == holds(exact)
                # A root without open neurons is a leaf, which takes no nodes.
                allowed = (
                    {Stage.BRANCHING, Stage.LEAF}
                    if outcome.verdict is Verdict.FALSIFIED
                    else {Stage.BRANCHING}
                )
                assert (
                    outcome.stage
                    in {Stage.CLEAN, Stage.INTERVAL, Stage.CROWN, Stage.ATTACK, Stage.ALPHA} | allowed
                )
    assert unknown >= 3


@pytest.mark.parametrize("limit", [2, 7, 20, 101])
def test_a_node_limit_is_never_exceeded(limit: int) -> None:
    reached = 0
    for seed in range(12):
        network, problem = questions(seed, 3)
        truth = answers(network, problem)
        budget = Budget(seconds=20, nodes=limit)
        for outcome, exact in zip(answers(network, problem, budget=budget), truth, strict=True):
            assert outcome.nodes <= limit
            if outcome.verdict is Verdict.UNKNOWN:
                reached += 1
                assert outcome.reason is Reason.NODES
                assert not outcome.lower > 0
            else:
                assert holds(outcome) == holds(exact)
    assert reached >= 1 or limit > 20


def test_what_is_not_decided_claims_no_more_than_the_truth() -> None:
    seen = 0
    for seed in range(20):
        network, problem = questions(seed, 3)
        points = (
            problem.box.lower
            + Source.of(9).uniform(500, 3, *network.input_shape) * 2 * problem.box.half_width
        )
        least = torch.stack([problem.margin.worst(network(x)) for x in points]).amin(0)
        for nodes in (0, 4, 20, 60):
            for outcome in answers(network, problem, budget=Budget(seconds=20, nodes=nodes)):
                seen += outcome.verdict is Verdict.UNKNOWN
                assert outcome.lower <= float(least[outcome.index]) + 1e-9
    assert seen >= 8


def test_a_clause_that_the_root_proved_keeps_its_own_value() -> None:
    """One clause with a small margin needs no search; another one, with a large margin, does."""
    compared = 0
    for seed in range(30):
        network, problem = questions(seed, 1)
        easy = Margin(
            torch.zeros(1, 1, network.outputs, dtype=torch.float64),
            torch.full((1, 1), 1e-3, dtype=torch.float64),
            torch.zeros(1).long(),
        )
        margin = Margin(
            torch.cat([easy.matrix, easy.matrix, problem.margin.matrix], 1),
            torch.cat([easy.offset, easy.offset - 1, problem.margin.offset + 0.05], 1),
            torch.cat([easy.clause, easy.clause, problem.margin.clause + 1]),
        )
        (outcome,) = answers(network, replace(problem, margin=margin))
        if outcome.verdict is Verdict.CERTIFIED:
            compared += outcome.stage in (Stage.BRANCHING, Stage.LEAF)
            assert outcome.lower <= 1e-3
    assert compared > 5


@examples(10)
@given(SEEDS)
def test_more_steps_never_prove_less_of_a_neuron(seed: int) -> None:
    network = random_network(seed, 12)
    box = random_box(seed, network, n=2, radius=0.5)
    engine = Engine.of(network)
    with torch.no_grad():
        bounds = [preactivations(engine, box)]
        for steps in (1, 2, 8):
            bounds.append(preactivations(engine, box, steps=steps, known=bounds[-1]))
    for before, after in pairwise(bounds):
        for v in network.relus:
            assert bool((after.lower[v] >= before.lower[v]).all())
            assert bool((after.upper[v] <= before.upper[v]).all())
