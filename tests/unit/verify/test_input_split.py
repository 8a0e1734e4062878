"""Branch and bound over the inputs: exact answers, parts that cover the whole, budgets, and boxes that end it."""

from __future__ import annotations

import csv
import math
from collections import Counter
from pathlib import Path

import pytest
import torch

from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network, onnx_in
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from certiprune.verify import Budget, Cascade, Outcome, Problem, Reason, Stage, Verdict, decide, vnnlib
from certiprune.verify.input_split import Cells, InputSearch, InputSettings, wide_inputs
from helpers.exact import minimum
from helpers.networks import Source, random_box, random_margin, random_network, single

F64 = torch.float64
ALWAYS = InputSettings(inputs=99, unstable=0, batch=8)
BARE = {"attack_steps": 0, "attack_restarts": 0, "tighten_steps": 0, "alpha_steps": 0}
ONLY = Cascade(**BARE, inputs=ALWAYS)


def few_wide(seed: int, network: Network, wide: int = 3) -> Box:
    """A box in which at most ``wide`` inputs have a width."""
    box = random_box(seed, network)
    flat = torch.zeros(box.lower.numel(), dtype=F64)
    flat[torch.randperm(len(flat), generator=Source.of(seed).generator)[:wide]] = 1.0
    reach = box.half_width * flat.reshape(box.lower.shape)
    return Box(box.centre - reach, box.centre + reach)


def shifted(margin: Margin, by: float) -> Margin:
    return Margin(margin.matrix, margin.offset + by, margin.clause)


def crooked(*, wide: int = 8, seed: int = 4) -> Network:
    """Two inputs and two hidden layers whose neurons are all unstable around 0."""
    source, b = Source.of(seed), Builder((2,))
    first = b.relu(b.emit(Dense(source.normal(wide, 2), torch.zeros(wide, dtype=F64)), 0))
    second = b.relu(b.emit(Dense(source.normal(wide, wide) / wide**0.5, torch.zeros(wide, dtype=F64)), first))
    return b.finish(b.emit(Dense(source.normal(2, wide) / wide**0.5, torch.zeros(2, dtype=F64)), second))


def square(radius: float = 1.0, n: int = 1) -> Box:
    reach = torch.full((n, 2), radius, dtype=F64)
    return Box(-reach, reach)


def test_verdicts_agree_with_exact_minima() -> None:
    """Drawn properties of several rows, and the same shifted to hold, and to fail, by little."""
    verdicts: Counter[Verdict] = Counter()
    stages: Counter[Stage] = Counter()
    for seed in range(30):
        network = random_network(seed, relus=8 + seed % 7)
        box = few_wide(seed, network)
        margin = random_margin(seed, network.outputs)
        exact = minimum(network, box, margin, enumerate_up_to=0)
        for gap in (1e-3, -1e-3):
            asked = shifted(margin, gap - exact.upper)
            (outcome,) = decide(network, Problem(box, asked, box.centre), budget=Budget(), how=ONLY)
            stages[outcome.stage] += 1
            verdicts[outcome.verdict] += 1
            expected = (Verdict.CERTIFIED,) if gap > 0 else (Verdict.FALSIFIED, Verdict.MISCLASSIFIED)
            assert outcome.verdict in expected, (seed, gap, outcome)
            assert outcome.lower <= gap + 1e-6, (seed, gap, outcome)
            if outcome.counterexample is not None:
                x = outcome.counterexample.unsqueeze(0).double()
                assert float(asked.worst(network(x))) <= 0
                fixed = (box.lower == box.upper) & (box.lower != x)
                assert not bool((fixed & (box.lower.float() != x)).any())
    assert stages[Stage.BRANCHING] > 20 and verdicts[Verdict.CERTIFIED] == 30


def test_a_clause_needs_one_of_its_rows_and_a_property_all_of_its_clauses() -> None:
    """max(y0, c - y0) >= c / 2 although each row alone fails somewhere."""
    network = crooked()
    box = square()
    values = network(torch.rand(4000, 2, dtype=F64) * 2 - 1)[:, 0]
    low, high = float(values.min()), float(values.max())
    level = (low + high) / 2
    matrix = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=F64)
    offset = torch.tensor([[0.1 - level, 0.1 + level]], dtype=F64)

    def verdict(clause: list[int]) -> Verdict:
        margin = Margin(matrix, offset, torch.tensor(clause))
        (outcome,) = decide(network, Problem(box, margin, box.centre), how=ONLY)
        return outcome.verdict

    assert verdict([0, 0]) is Verdict.CERTIFIED
    assert verdict([0, 1]) in (Verdict.FALSIFIED, Verdict.MISCLASSIFIED)


def search(
    network: Network,
    box: Box,
    *,
    offset: float,
    budget: Budget | None = None,
    memory: int = 1 << 30,
    replayed: float | None = None,
) -> InputSearch:
    """The search for whether output 0 plus ``offset`` is positive on every box; ``replayed`` fakes the replay."""
    n = len(box)
    matrix = torch.tensor([[[1.0, 0.0]]], dtype=F64).expand(n, -1, -1)
    margin = Margin(matrix, torch.full((n, 1), offset, dtype=F64), torch.zeros(1, dtype=torch.int64))
    engine = Engine.of(network)
    return InputSearch(
        engine,
        box,
        preactivations(engine, box),
        torch.ones(n, 1, dtype=torch.bool),
        margin,
        budget or Budget(),
        torch.zeros(n, dtype=F64),
        memory,
        lambda x, k: (
            margin[k].worst(network(x.double())) if replayed is None else torch.full((len(x),), replayed)
        ),
        ALWAYS,
    )


def smallest(network: Network, box: Box) -> float:
    margin = single(network, box, [1.0, 0.0]).margin
    return minimum(network, box, margin, enumerate_up_to=0).upper


def test_open_and_closed_cells_cover_the_box() -> None:
    """Every point is in a cell that is still open, until none is; cells that are cut share the cut."""
    network = crooked()
    run = search(network, square(), offset=0.05 - smallest(network, square()))
    points = torch.rand(500, 2, dtype=F64) * 2 - 1
    values = network(points)[:, 0] + run.margin.offset[0, 0]
    least = float(run.closed[0])
    for _ in range(200):
        if int(run.frontier.open()) == 0:
            break
        cells = run.frontier.nodes
        inside = (points.unsqueeze(1) >= cells.lower) & (points.unsqueeze(1) <= cells.upper)
        closed = ~inside.all(2).any(1)
        # What is in no open cell was closed, by a bound that holds there.
        assert bool((values[closed] >= float(run.closed[0])).all())
        run._round()
        least = min(least, float(run.closed[0]))
    assert int(run.frontier.open()) == 0 and int(run.nodes) > 20 and 0 < least <= 0.05 + 1e-6


def test_halves_cover_their_cell() -> None:
    source = Source.of(0)
    lower = source.normal(50, 3)
    upper = lower + torch.rand(50, 3, dtype=F64).pow(30)
    axis = torch.arange(50) % 3
    none = torch.zeros(50, dtype=torch.int64)
    cells = Cells(none, torch.zeros(50), lower, upper, torch.ones(50, 1, dtype=torch.bool), axis, none)
    left, right = (cells.halves()[part] for part in (slice(0, 50), slice(50, 100)))
    at = axis.unsqueeze(1)
    assert torch.equal(left.upper.gather(1, at), right.lower.gather(1, at))
    assert torch.equal(torch.minimum(left.lower, right.lower), lower)
    assert torch.equal(torch.maximum(left.upper, right.upper), upper)
    others = torch.ones(50, 3, dtype=torch.bool).scatter(1, at, False)
    for half in (left, right):
        assert torch.equal(half.lower[others], lower[others]) and torch.equal(
            half.upper[others], upper[others]
        )


@pytest.mark.parametrize("limit", [0, 1, 2, 7, 20])
def test_a_node_limit_holds_exactly(limit: int) -> None:
    network = crooked()
    offset = 1e-4 - smallest(network, square())
    found = list(search(network, square(n=3), offset=offset, budget=Budget(nodes=limit)))
    assert sorted(d.item for d in found) == [0, 1, 2]
    assert all(d.nodes <= limit and not d.proved and d.reason is Reason.NODES for d in found)


def test_budgets_end_with_their_reason() -> None:
    network = crooked()
    offset = 1e-4 - smallest(network, square())
    (late,) = search(network, square(), offset=offset, budget=Budget(seconds=0.0))
    assert not late.proved and late.reason is Reason.TIME
    (crowded,) = search(network, square(), offset=offset, memory=0)
    assert not crowded.proved and crowded.reason is Reason.MEMORY


def test_questions_do_not_depend_on_their_companions() -> None:
    network = crooked()
    radii = [0.25, 0.5, 1.0, 2.0]
    boxes = [square(r) for r in radii]
    offset = 0.05 - smallest(network, boxes[2])
    box = Box(torch.cat([b.lower for b in boxes]), torch.cat([b.upper for b in boxes]))
    together = {d.item: d for d in search(network, box, offset=offset)}
    for k, own in enumerate(boxes):
        (alone,) = search(network, own, offset=offset)
        assert alone.proved is together[k].proved
        assert (alone.point is None) is (together[k].point is None)
    assert {d.proved for d in together.values()} == {True, False}


def test_inputs_without_a_width_are_never_cut() -> None:
    network = crooked()
    box = Box(torch.tensor([[0.3, -1.0]], dtype=F64), torch.tensor([[0.3, 1.0]], dtype=F64))
    assert wide_inputs(box).tolist() == [1]
    run = search(network, box, offset=1e-3 - smallest(network, box))
    (decision,) = run
    assert decision.proved and run.inputs.tolist() == [1]


def test_a_box_that_cannot_be_cut_ends_as_numeric() -> None:
    """One float64 step wide, at a point where the property is a tie in float64 but not in the replay."""
    b = Builder((2,))
    weight = torch.tensor([[1.0, 0.0]], dtype=F64)
    hidden = b.relu(b.emit(Dense(weight, torch.zeros(1, dtype=F64)), 0))
    network = b.finish(
        b.emit(Dense(torch.tensor([[1.0], [0.0]], dtype=F64), torch.zeros(2, dtype=F64)), hidden)
    )
    one = torch.ones(1, 2, dtype=F64)
    box = Box(one, torch.nextafter(one, 2 * one))
    (decision,) = search(network, box, offset=-1.0, replayed=1.0)
    assert not decision.proved and decision.point is None and decision.reason is Reason.NUMERIC


def test_the_cascade_chooses_by_inputs_and_unstable_neurons(monkeypatch: pytest.MonkeyPatch) -> None:
    network = crooked()
    problem = single(network, square(), [1.0, 0.0], 1e-3 - smallest(network, square()))
    used: list[bool] = []

    def spy(self: InputSearch, *args: object, **kwargs: object) -> None:
        used.append(True)
        raise MemoryError

    monkeypatch.setattr(InputSearch, "__init__", spy)
    for settings, expected in (
        (InputSettings(unstable=4), True),
        (InputSettings(inputs=1, unstable=4), False),
        (InputSettings(unstable=1000), False),
    ):
        used.clear()
        next(decide(network, problem, budget=Budget(nodes=4), how=Cascade(**BARE, inputs=settings)))
        assert bool(used) is expected


ACAS = Path(__file__).resolve().parents[4] / "shared" / "benchmarks" / "vnncomp21_acasxu"
# By row of instances.csv; all ten are decided in seconds, these in less than one each.
ANSWERS = {0: "unsat", 1: "unsat", 2: "sat", 3: "unsat", 4: "sat", 5: "unsat", 8: "sat", 9: "unsat"}
SLOWER = {6: "unsat", 7: "unsat"}


def acas(row: int) -> list[Outcome]:
    with (ACAS / "instances.csv").open() as file:
        model, asked, _ = list(csv.reader(file))[row]
    network = onnx_in.read(ACAS / model, check=False)
    shape = network.input_shape
    problems = vnnlib.read(ACAS / asked, inputs=math.prod(shape), outputs=network.outputs, shape=shape)
    return [next(decide(network.to(F64), problem, budget=Budget(seconds=100))) for problem in problems]


@pytest.mark.skipif(not ACAS.is_dir(), reason="the shared benchmarks are not here")
@pytest.mark.parametrize("row", [*ANSWERS, *(pytest.param(k, marks=pytest.mark.slow) for k in SLOWER)])
def test_collision_avoidance_properties_have_their_known_answers(row: int) -> None:
    answer = (ANSWERS | SLOWER)[row]
    expected = (Verdict.CERTIFIED,) if answer == "unsat" else (Verdict.FALSIFIED, Verdict.MISCLASSIFIED)
    assert all(outcome.verdict in expected for outcome in acas(row))
