"""Nothing false is certified where floating point alone would have: exact rational arithmetic is the judge.

The answers below are asked with a model that never shows a violation (its outputs are not numbers), so that no attack
can save a verifier whose bounds are wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from certiprune.bounds import Engine, PreActivation, interval, lines, preactivations
from certiprune.bounds.intermediate import Around, form_bounds
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import dual_value
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network, compact
from certiprune.net.build import Builder, fold
from certiprune.net.network import Node
from certiprune.net.ops import Affine, Conv, Dense, Relu, Reshape, Scale
from certiprune.verify import Budget, Cascade, Outcome, Problem, Stage, Verdict, decide
from certiprune.verify.bab import Settings
from helpers.networks import F64, Source, single
from helpers.rational import exact_values, exact_worst, fractions

BARE = Cascade(attack_steps=0, attack_restarts=0, search=Settings(goal=0.0))


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def column(*values: float) -> Tensor:
    return tensor(*values).unsqueeze(1)


def hidden_answer(network: Network, problem: Problem, nodes: int = 300) -> Outcome:
    """The answer where every violation is hidden."""

    def blind(x: Tensor) -> Tensor:
        return torch.full((len(x), network.outputs), math.nan)

    (outcome,) = decide(network, problem, budget=Budget(seconds=20, nodes=nodes), replay=blind, how=BARE)
    return outcome


def corner_of_least(network: Network, box: Box) -> Tensor:
    """The corner where the first output of a network with one linear piece is smallest, [1, inputs]."""
    x = box.centre.requires_grad_()
    (slope,) = torch.autograd.grad(network(x)[0, 0], x)
    return torch.where(slope > 0, box.lower, box.upper)


def loud(seed: int, *, kinked: bool = False) -> Network:
    """A network whose numbers are far larger than what is left of them at the output.

    With ``kinked`` the output gains relu(t) - relu(t), which is 0, but which no bound sees without splitting: t is
    the first input, made by two neurons.
    """
    source = Source.of(seed)
    b = Builder((4,))
    wide = 24
    h = b.relu(b.emit(Dense(300 * source.normal(wide, 4).float().double(), tensor(*[1000.0] * wide)), 0))
    k = b.relu(b.emit(Dense(source.normal(wide, wide).abs().float().double(), tensor(*range(wide))), h))
    weight = source.normal(1, wide).float().double()
    weight[:, 1::2] = -weight[:, ::2]
    out = b.emit(Dense(weight, None), k)
    if kinked:
        t = Dense(tensor(1.0, 0, 0, 0).expand(2, 4).contiguous(), tensor(-0.5, -0.5))
        kinks = b.relu(b.emit(t, 0))
        # So large that without splitting the bound is far below 0.
        out = b.add(out, b.emit(Dense(1e6 * tensor(1.0, -1.0).unsqueeze(0), None), kinks))
    return b.finish(out)


def one_row(engine: Engine, problem: Problem) -> tuple[Rows, Around]:
    """The question's only row as a form, and what surrounds it."""
    way = plan(engine.exact, engine.exact.output)
    around = Around.of(engine, problem.box, preactivations(engine, problem.box), way)
    return Rows(way, torch.tensor([0]), problem.margin.matrix[0], problem.margin.offset[0]), around


@torch.no_grad()
def float32_alone(engine: Engine, problem: Problem, *, sign: int = 0) -> float:
    """CROWN's bound of the row in float32, as it comes out, without any allowance for rounding.

    With a ``sign`` on the part of the box where all unstable neurons have it.
    """
    rows, around = one_row(engine, problem)
    pre = preactivations(engine, problem.box).to(torch.float32)
    if sign > 0:
        pre = PreActivation({v: t.clamp(min=0) for v, t in pre.lower.items()}, pre.upper)
    if sign < 0:
        pre = PreActivation(
            pre.lower, {v: torch.where(pre.unstable(v), 0.0, t) for v, t in pre.upper.items()}
        )
    return float(dual_value(engine.quick, around.quick_box, rows.to(torch.float32), lines(pre)))


@torch.no_grad()
def rigorous(engine: Engine, problem: Problem) -> float:
    """The bound of the row that is believed."""
    rows, around = one_row(engine, problem)
    return float(form_bounds(rows, around, 0, None))


def barely_false(network: Network, radius: float, below: float, seed: int) -> Problem:
    """A question about a small box around (1/2, ...): at one corner the property fails by ``below``, exactly."""
    centre = Source.of(seed + 1).uniform(1, *network.input_shape).mul(0.2).add(0.4).float().double()
    centre[0, 0] = 0.5
    box = Box((centre - radius).float().double(), (centre + radius).float().double())
    x = corner_of_least(network, box)
    least = exact_values(network, fractions(x))[-1][0]
    problem = single(network, box, [1.0], float(-least - Fraction(below)))
    assert exact_worst(network, problem.margin, x) < 0
    return problem


def test_what_float32_alone_would_certify_is_not_certified() -> None:
    fooled = 0
    for seed in range(30):
        network = loud(seed)
        problem = barely_false(network, 1e-6, 1e-3, seed)
        fooled += float32_alone(Engine.of(network), problem) > 0
        assert hidden_answer(network, problem).verdict is not Verdict.CERTIFIED
        (seen,) = decide(network, problem, budget=Budget(seconds=20, nodes=300))
        assert seen.verdict is not Verdict.CERTIFIED
    assert fooled >= 8


def test_what_float32_alone_would_prove_of_a_subproblem_is_not_certified() -> None:
    fooled = searched = 0
    for seed in range(20):
        network = loud(seed, kinked=True)
        problem = barely_false(network, 2.0**-10, 1e-3, seed)
        engine = Engine.of(network)
        assert int(preactivations(engine, problem.box).counts()) == 2
        assert rigorous(engine, problem) < -100
        # Where both kinks are on, and where both are off, nothing is left to relax.
        fooled += min(float32_alone(engine, problem, sign=sign) for sign in (1, -1)) > 0
        outcome = hidden_answer(network, problem)
        assert outcome.verdict is not Verdict.CERTIFIED
        searched += outcome.stage in (Stage.BRANCHING, Stage.LEAF) and outcome.nodes > 0
    assert fooled >= 4
    assert searched == 20


def test_rows_whose_terms_cancel_are_not_rounded_into_a_proof() -> None:
    """One point, and a network whose bounds are exact there: only the sum over a row's terms is rounded."""
    fooled = 0
    for seed in range(150):
        source = Source.of(seed)
        b = Builder((6,))
        network = b.finish(b.relu(0))
        y = 0.1 + source.uniform(1, 6)
        row = source.normal(6) * 10.0 ** source.uniform(6).mul(8)
        known = sum(a * v for a, v in zip(fractions(row), fractions(y), strict=True))
        # The last offset that leaves the row at or below 0.
        offset = float(-known)
        if known + Fraction(offset) > 0:
            offset = math.nextafter(offset, -math.inf)
        problem = single(network, Box(y, y), row.tolist(), offset)
        assert exact_worst(network, problem.margin, y[0]) <= 0
        fooled += float(problem.margin.worst(network(y))) > 0
        assert hidden_answer(network, problem).verdict is not Verdict.CERTIFIED
    assert fooled >= 5


def chain(weights: list[float], last: Dense) -> Network:
    b = Builder((1,))
    value = 0
    for weight in weights:
        value = b.relu(b.emit(Dense(column(weight), None), value))
    return b.finish(b.emit(last, value))


VANISHING = {
    "weights that float32 holds": [1e-30] * 12 + [1e30] * 12,
    "weights that only float64 holds": [1e-200] * 2 + [1e200] * 2,
    "small, then large": [1e-160, 1e-160, 1e160, 1e160],
    "hardly": [1e-36] * 9 + [1e36] * 9,
}


@pytest.mark.parametrize("name", VANISHING)
def test_products_that_underflow_are_not_taken_for_zero(name: str) -> None:
    network = chain(VANISHING[name], Dense(column(-1.0), tensor(0.5)))
    problem = single(network, Box(column(-1.0), column(1.0)), [1.0])
    assert exact_worst(network, problem.margin, tensor(1.0)) < -0.4
    assert hidden_answer(network, problem).verdict is not Verdict.CERTIFIED


def test_ends_whose_sum_overflows_are_halved_first() -> None:
    b = Builder((1,))
    h = b.relu(b.emit(Dense(column(3e307), tensor(1.4e308)), 0))
    z = b.relu(b.emit(Dense(column(-0.1), tensor(5e307)), h))
    network = b.finish(b.emit(Dense(column(-1e-100), tensor(1e206)), z))
    box = Box(column(-1.0), column(1.0))
    pre, _ = interval(network, box)
    for x in (-1.0, 1.0):
        values = exact_values(network, [Fraction(x)])
        for v in network.relus:
            assert (
                fractions(pre.lower[v])[0]
                <= values[network.node(v).inputs[0]][0]
                <= fractions(pre.upper[v])[0]
            )
    assert exact_worst(network, single(network, box, [1.0]).margin, tensor(1.0)) < 0
    assert hidden_answer(network, single(network, box, [1.0])).verdict is not Verdict.CERTIFIED


def test_a_value_that_is_added_many_times_is_rounded_as_often() -> None:
    for seed in range(60):
        source = Source.of(seed)
        b = Builder((1,))
        h = b.relu(b.emit(Dense(source.normal(1, 1).abs(), source.normal(1).abs()), 0))
        network = b.finish(b.add(*[h] * 400))
        x = source.uniform(1, 1)
        problem = single(network, Box(x, x), [float(source.normal(1))])
        exact = exact_worst(network, problem.margin, x[0])
        assert Fraction(rigorous(Engine.of(network), problem)) <= exact


def test_a_counterexample_lies_in_the_box_that_was_asked_about() -> None:
    """The float32 number next to 0.3 is above it: the image is in the domain, its rounded form is not."""
    b = Builder((1,))
    network = b.finish(b.emit(Dense(column(-1.0), tensor(0.3)), 0))
    image = column(0.3)
    box = Box.ball(image, 1e-3, domain=(0.0, 0.3))
    asked = Problem(box, single(network, box, [1.0], 1e-10).margin, image)
    (outcome,) = decide(network, asked, budget=Budget(seconds=20))
    assert outcome.verdict is Verdict.CERTIFIED


def test_a_violation_is_one_in_exact_arithmetic_on_the_outputs() -> None:
    """Summed in float64 from the left, these rows are 0; exactly, they are 1."""
    b = Builder((1,))
    network = b.finish(b.emit(Dense(column(0.0, 0.0, 0.0), tensor(2.0**60, 1.0, 2.0**60)), 0))
    box = Box(column(0.0), column(1.0))
    margin = Margin(tensor(1.0, 1.0, -1.0).reshape(1, 1, 3), torch.zeros(1, 1, dtype=F64), torch.tensor([0]))
    assert exact_worst(network, margin, tensor(0.5)) == 1
    (outcome,) = decide(network, Problem(box, margin, box.centre), budget=Budget(seconds=20))
    assert outcome.verdict is not Verdict.MISCLASSIFIED
    assert outcome.verdict is not Verdict.FALSIFIED


BIG = 2.0**60


def cancelling_matrices() -> tuple[Network, Network]:
    """f(x) = x + 1/2 through two matrices whose product cancels."""
    ops = [
        Dense(column(2.0**30, 1.0, 2.0**30), None),
        Dense(tensor(2.0**30, 1.0, -(2.0**30)).unsqueeze(0), tensor(0.5)),
    ]
    return ops_in_order((1,), *ops)


def cancelling_shifts() -> tuple[Network, Network]:
    """f(x) = x - 1, where the shift goes through a number next to which 1 is nothing."""
    ops = [
        Scale(tensor(0.01), tensor(-1.0)),
        Scale(tensor(1.0), tensor(BIG)),
        Scale(tensor(1.0), tensor(-BIG)),
    ]
    return ops_in_order((1,), *ops)


def cancelling_normalisation() -> tuple[Network, Network]:
    """f(x) = (x_1 - x_2) / 100 - 1 through a convolution that each channel comes to with a shift of its own."""
    ops = [
        Scale(tensor(0.01), tensor(BIG, 1.0).reshape(2, 1, 1)),
        Conv(tensor(1.0, -1.0).reshape(1, 2, 1, 1), None),
        Scale(tensor(1.0), tensor(-BIG)),
        Reshape((1,)),
    ]
    return ops_in_order((2, 1, 1), *ops)


def ops_in_order(shape: tuple[int, ...], *ops: Affine | Relu) -> tuple[Network, Network]:
    """The operations one after another, as they are and folded."""
    plain = Network(tuple(Node(op, (k,)) for k, op in enumerate(ops)), shape)
    return plain, fold(plain, plain.output)


@pytest.mark.parametrize("make", [cancelling_matrices, cancelling_shifts, cancelling_normalisation])
def test_what_folding_rounds_away_is_not_proved(make: Callable[[], tuple[Network, Network]]) -> None:
    plain, folded = make()
    x = torch.full((1, *plain.input_shape), -1.0, dtype=F64)
    problem = single(folded, Box(x, -x), [1.0], 0.25)
    least = exact_worst(plain, problem.margin, x[0])
    assert least < 0
    outcome = hidden_answer(folded, problem)
    assert outcome.verdict is not Verdict.CERTIFIED
    assert Fraction(max(outcome.lower, -1e300)) <= least


def test_what_compacting_rounds_away_is_not_proved() -> None:
    """Dead neurons hold constants that nearly cancel; what is left is folded into a bias."""
    fooled = 0
    for seed in range(40):
        source = Source.of(seed)
        first = Dense(column(0.01, *[0.0] * 7), torch.cat([tensor(1.0), 2.0**18 * (1 + source.uniform(7))]))
        weight = source.normal(1, 8)
        weight[0, 7] = -(weight[0, 1:7] @ first.bias[1:7]) / first.bias[7]
        last = Dense(weight, None)
        plain, folded = ops_in_order((1,), first, Relu(), last)
        small, record = compact(folded)
        assert record.removed == 7
        least = min(exact_values(plain, [Fraction(x)])[-1][0] for x in (-1, 1))
        # The last offset that leaves the property at or below 0 somewhere.
        offset = float(-least)
        if least + Fraction(offset) > 0:
            offset = math.nextafter(offset, -math.inf)
        problem = single(small, Box(column(-1.0), column(1.0)), [1.0], offset)
        seen = min(exact_values(small, [Fraction(x)])[-1][0] for x in (-1, 1)) + Fraction(offset)
        fooled += seen > 0
        assert hidden_answer(small, problem).verdict is not Verdict.CERTIFIED
    assert fooled >= 8


def test_the_slack_of_folded_batch_norm_covers_what_it_rounds() -> None:
    """Convolution, batch norm and normalisation in front, against the same operations in rational arithmetic."""
    for seed in range(20):
        source = Source.of(seed)
        side = source.whole(2, 3)
        ops: list[Affine | Relu] = [
            Scale(source.normal(2, 1, 1).exp(), 3 * source.normal(2, 1, 1)),
            Conv(source.normal(3, 2, 2, 2), source.normal(3, 1, 1), (1, 1), (seed % 2, seed % 2)),
            Scale(source.normal(3, 1, 1).exp(), source.normal(3, 1, 1)),
        ]
        plain, folded = ops_in_order((2, side, side), *ops)
        assert len(folded.nodes) == 1
        op = folded.nodes[0].op
        assert isinstance(op, Conv)
        assert op.slack is not None
        zero = [Fraction(0)] * math.prod(plain.input_shape)
        offset = torch.zeros(folded.shapes[-1], dtype=F64)
        exact = exact_values(plain, zero)[-1]
        stored, far = (fractions(t.expand(offset.shape)) for t in (op.offset(), op.slack))
        unit = Fraction(2) ** -52
        assert all(abs(a - b) <= s + abs(b) * 8 * unit for a, b, s in zip(exact, stored, far, strict=True))
        # It must not be so much that proofs suffer.
        assert all(s <= 1e-12 for s in far)
