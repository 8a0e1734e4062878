"""Bounds against exact rational arithmetic: huge and tiny weights, cancellation, and ends that no float holds."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.bounds import Engine, interval, preactivations
from certiprune.core.box import Box
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.network import Node
from certiprune.net.ops import Dense, Relu
from certiprune.verify import Budget, Verdict, decide
from certiprune.verify.relaxation import LayeredRelaxation
from helpers.networks import F64, Source, single
from helpers.rational import Numbers, exact_values, fractions

SEEDS = st.integers(0, 10_000)


def wild(source: Source, *shape: int) -> Tensor:
    """Numbers whose sizes differ by up to 12 orders of magnitude."""
    return source.normal(*shape) * 10.0 ** (12 * source.uniform(*shape) - 6)


def wild_network(seed: int) -> Network:
    """Wild weights, and rows that nearly cancel each other; a sum of three values without a ReLU."""
    source = Source.of(seed)
    b = Builder((3,))
    first = wild(source, 4, 3)
    first[1] = -first[0] * (1 + 1e-9)
    h = b.relu(b.emit(Dense(first, wild(source, 4)), 0))
    second = wild(source, 4, 4)
    second[:, 1] = -second[:, 0]
    parts = [
        b.emit(Dense(second, wild(source, 4)), h),
        b.emit(Dense(-second, None), h),
        b.emit(Dense(wild(source, 4, 4), None), h),
    ]
    k = b.relu(b.add(*parts))
    return b.finish(b.emit(Dense(wild(source, 2, 4), wild(source, 2)), k))


def corners(box: Box) -> list[Numbers]:
    low, high = fractions(box.lower), fractions(box.upper)
    ends = [
        [a if k >> d & 1 else b for d, (a, b) in enumerate(zip(low, high, strict=True))]
        for k in range(2 ** len(low))
    ]
    return [*ends, [(a + b) / 2 for a, b in zip(low, high, strict=True)]]


@settings(max_examples=40, derandomize=True, deadline=None)
@given(SEEDS)
def test_bounds_hold_exactly_for_wild_weights(seed: int) -> None:
    network = wild_network(seed)
    source = Source.of(seed + 1)
    centre = source.uniform(1, 3)
    width = 10.0 ** (-8 * float(source.uniform(1)))
    box = Box(centre - width, centre + width)
    engine = Engine.of(network)
    with torch.no_grad():
        found = [interval(network, box)[0], preactivations(engine, box), preactivations(engine, box, steps=3)]
        forms = source.normal(1, 2)
        relaxation = LayeredRelaxation.of(engine, box, forms, wild(source, 1), found[1])
        proved = [
            Fraction(float(relaxation.prove(relaxation.root(), sign_only=sign_only)))
            for sign_only in (True, False)
        ]
    low, high = (fractions(t) for t in interval(network, box)[1])
    for x in corners(box):
        values = exact_values(network, x)
        for pre in found:
            for v in network.relus:
                z = values[network.node(v).inputs[0]]
                assert all(a <= b for a, b in zip(fractions(pre.lower[v]), z, strict=True))
                assert all(a >= b for a, b in zip(fractions(pre.upper[v]), z, strict=True))
        assert all(a <= y <= b for a, y, b in zip(low, values[-1], high, strict=True))
        form = (
            sum(c * y for c, y in zip(fractions(forms), values[-1], strict=True))
            + fractions(relaxation.const)[0]
        )
        assert all(value <= form for value in proved)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(SEEDS)
def test_affine_minima_are_never_overstated(seed: int) -> None:
    source = Source.of(seed)
    weight, bias = wild(source, 2, 5), wild(source, 2)
    weight[0, 3] = -weight[0, 2] * (1 + 1e-15)
    b = Builder((5,))
    network = b.finish(b.emit(Dense(weight, bias), 0))
    box = Box(-source.uniform(1, 5), source.uniform(1, 5))
    low, high = fractions(box.lower), fractions(box.upper)
    terms = zip(fractions(weight[0]), low, high, strict=True)
    least = sum((min(w * a, w * c) for w, a, c in terms), fractions(bias)[0])
    # Shifted so that the exact minimum is within rounding of zero, on either side.
    for nudge in (-1e-15, 0.0, 1e-15, 1e-9):
        offset = float(-least) + nudge * float(abs(least))
        exact = least + Fraction(offset)
        (outcome,) = decide(network, single(network, box, [1.0, 0.0], offset), budget=Budget(seconds=5))
        assert outcome.verdict is not Verdict.CERTIFIED or exact > 0
        if outcome.lower > -1e300:
            assert Fraction(outcome.lower) <= exact or outcome.verdict is Verdict.CERTIFIED


FAR = {
    "weights that float32 rounds to zero": ([1e-46], [-1e38], 5e-9),
    "ends closer than float32 can tell": ([1e-31], [-1e31], 0.3),
    "ends closer than float64 can tell": ([1e-301], [-1e301], 0.3),
    "ends further apart than float32 can tell": ([3e38], [-1e-30], 0.3),
    "ends further apart than float64 can tell": ([1e308], [-1e-300], 1.0),
    "weights that float32 cannot hold": ([1e200], [-1e200], 1e10),
}


@pytest.mark.parametrize("name", list(FAR))
def test_nothing_false_is_certified_at_the_ends_of_the_number_range(name: str) -> None:
    inward, outward, offset = FAR[name]
    b = Builder((1,))
    h = b.relu(b.emit(Dense(torch.tensor([inward], dtype=F64), None), 0))
    network = b.finish(
        b.emit(Dense(torch.tensor([outward], dtype=F64), torch.tensor([offset], dtype=F64)), h)
    )
    box = Box(torch.tensor([[-1.0]], dtype=F64), torch.tensor([[1.0]], dtype=F64))
    least = Fraction(offset) + Fraction(outward[0]) * Fraction(inward[0])
    assert least < 0
    (outcome,) = decide(network, single(network, box, [1.0]), budget=Budget(seconds=5))
    assert outcome.verdict is not Verdict.CERTIFIED


@pytest.mark.parametrize("most", [3.4e38, 1.79e308])
@torch.no_grad()
def test_a_sum_that_overflows_on_the_way_proves_nothing(most: float) -> None:
    """Two layers' constants are infinite together, and what is behind them would have made the sum negative."""
    b = Builder((1,))
    half, one = torch.tensor([[0.5]], dtype=F64), torch.ones(1, 1, dtype=F64)
    first = [b.relu(b.emit(Dense(half, half[0]), 0)) for _ in range(2)]
    second = [b.relu(b.emit(Dense(0.55 * most * one, -0.3 * most * one[0]), v)) for v in first]
    total = b.add(*[b.emit(Dense(-one, None), v) for v in second])
    network = b.finish(b.scale(total, one[0], 0.48 * most * one[0]))
    box = Box(0.8 * one, one)
    assert exact_values(network, [Fraction(1)])[-1][0] < 0
    (outcome,) = decide(network, single(network, box, [1.0]), budget=Budget(seconds=5))
    assert outcome.verdict is not Verdict.CERTIFIED and not outcome.lower > 0
    engine = Engine.of(network)
    pre = preactivations(engine, box)
    layered = LayeredRelaxation.of(engine, box, one, 0 * one[0], pre)
    assert not bool((layered.prove(layered.root()) > 0).any())
    # The same sum enters a ReLU: bounds that overflowed must not switch it on.
    shape = Network((*network.nodes, Node(Relu(), (network.output,))), network.input_shape)
    found = preactivations(Engine.of(shape), box)
    assert bool((found.lower[shape.output] < 0).all())


def test_slopes_that_overflow_in_float32_do_not_switch_neurons_off() -> None:
    big = 1e13
    source = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=F64) * big
    b = Builder((2,))
    h = b.relu(
        b.emit(
            Dense(
                torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64) * big, -big * torch.ones(2, dtype=F64) / 4
            ),
            0,
        )
    )
    for k in (2, 3, 4):
        h = b.relu(b.emit(Dense(source, -(big**k) * torch.ones(2, dtype=F64) / 8), h))
    network = b.finish(b.emit(Dense(-torch.ones(1, 2, dtype=F64), None), h))
    box = Box(-torch.ones(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
    with torch.no_grad():
        pre = preactivations(Engine.of(network), box, steps=5)
    for v in network.relus:
        assert bool((pre.upper[v] > 0).all())
    corner = network(torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]], dtype=F64))
    assert float(corner.min()) < -1
    (outcome,) = decide(network, single(network, box, [1.0], 1.0), budget=Budget(seconds=5, nodes=400))
    assert outcome.verdict is not Verdict.CERTIFIED


def test_proofs_do_not_use_the_reduced_precision_that_a_caller_has_switched_on() -> None:
    source = Source.of(5)
    b = Builder((20,))
    h = b.relu(b.emit(source.dense(40, 20), 0))
    h = b.relu(b.emit(source.dense(40, 40), h))
    network = b.finish(b.emit(source.dense(2, 40), h))
    x = source.uniform(1, 20)
    box = Box(x - 0.05, x + 0.05)
    points = box.lower + source.uniform(500, 20).round() * (box.upper - box.lower)
    engine = Engine.of(network)
    with torch.no_grad():
        full = preactivations(engine, box)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            under = preactivations(engine, box)
    entering = network.run(points)
    for v in network.relus:
        torch.testing.assert_close(under.lower[v], full.lower[v], rtol=1e-2, atol=2e-3)
        assert bool((under.lower[v] <= entering[network.node(v).inputs[0]] + 1e-12).all())


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_a_ball_holds_every_real_point_of_it(centre: float, radius: float) -> None:
    for dtype in (torch.float32, torch.float64):
        middle = torch.tensor([[centre]], dtype=dtype)
        box = Box.ball(middle, radius)
        low = max(Fraction(0), Fraction(float(middle)) - Fraction(radius))
        high = min(Fraction(1), Fraction(float(middle)) + Fraction(radius))
        assert Fraction(float(box.lower)) <= low
        assert Fraction(float(box.upper)) >= high
        assert Fraction(float(box.upper)) - Fraction(float(box.lower)) <= high - low + Fraction(1, 10**6)
        narrow = Box.ball(middle.double(), radius).to(torch.float32)
        assert Fraction(float(narrow.lower)) <= low
        assert Fraction(float(narrow.upper)) >= high
