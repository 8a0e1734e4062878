"""Exact answers where every ReLU is fixed: regions with and without points, and what a solver says about them."""

from __future__ import annotations

import pytest
import torch

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.network import Node
from certiprune.net.ops import Dense, Relu
from certiprune.verify import Budget, Cascade, Problem, Verdict, decide
from certiprune.verify.leaf import LeafAnswer, decide_leaf
from helpers.networks import F64


def network() -> Network:
    """(x, y) -> relu(x) - relu(y)."""
    b = Builder((2,))
    h = b.relu(b.emit(Dense(torch.eye(2, dtype=F64), None), 0))
    return b.finish(b.emit(Dense(torch.tensor([[1.0, -1.0]], dtype=F64), None), h))


def answer(signs: list[int], offset: float, low: float = -1.0, rows: list[float] | None = None) -> LeafAnswer:
    net = network()
    (v,) = net.relus
    split = torch.tensor(signs)
    box = Box(torch.full((1, 2), low, dtype=F64), torch.ones(1, 2, dtype=F64))
    rows = rows or [1.0]
    matrix = torch.tensor(rows, dtype=F64).unsqueeze(1)
    return decide_leaf(
        net, box, {v: split > 0}, {v: split}, matrix, torch.full((len(rows),), offset, dtype=F64)
    )


@pytest.mark.parametrize(
    ("signs", "least"), [([1, 1], -1.0), ([1, -1], 0.0), ([-1, 1], -1.0), ([-1, -1], 0.0)]
)
def test_the_minimum_of_each_region(signs: list[int], least: float) -> None:
    assert answer(signs, 1e-3 - least).proved
    found = answer(signs, -1e-3 - least)
    assert not found.proved
    x = found.point.unsqueeze(0)
    assert float(network()(x)) <= least + 1e-3 + 1e-9
    assert bool((x * torch.tensor(signs) >= -1e-9).all())


def test_a_region_without_points_is_proved_whatever_the_property() -> None:
    """With y >= 1/2 in the box, "y is off" has no point."""
    assert answer([1, -1], -100.0, low=0.5).proved


def test_a_region_that_is_a_point_or_a_face_is_not_proved_against_the_truth() -> None:
    assert not answer([-1, 1], -1e-3, low=0.0).proved
    assert answer([-1, -1], 1e-3, low=0.0).proved


def test_a_minimum_of_zero_is_not_proved() -> None:
    assert not answer([1, -1], 0.0).proved


def test_a_clause_needs_one_positive_row_at_each_point() -> None:
    """f + 0.4 or 0.4 - f: each fails somewhere in the region, and together they always hold."""
    assert not answer([1, 1], 0.4).proved
    assert not answer([1, 1], 0.4, rows=[-1.0]).proved
    assert answer([1, 1], 0.4, rows=[1.0, -1.0]).proved
    assert not answer([1, 1], -0.1, rows=[1.0, -1.0]).proved


def test_numbers_that_overflow_prove_nothing() -> None:
    b = Builder((1,))
    big = torch.tensor([[1e200]], dtype=F64)
    net = b.finish(b.emit(Dense(big, None), b.relu(b.emit(Dense(big, None), 0))))
    box = Box(torch.zeros(1, 1, dtype=F64), torch.ones(1, 1, dtype=F64))
    on = {net.relus[0]: torch.tensor([True])}
    split = {net.relus[0]: torch.tensor([1])}
    one = torch.ones(1, dtype=F64)
    assert not decide_leaf(net, box, on, split, one.unsqueeze(1), one).proved


def test_relus_that_nothing_reads_do_not_matter() -> None:
    net = network()
    dead = (Node(Relu(), (0,)), *(Node(n.op, tuple(i + 1 if i else 0 for i in n.inputs)) for n in net.nodes))
    box = Box(torch.full((1, 2), -1.0, dtype=F64), torch.ones(1, 2, dtype=F64))
    centre = torch.tensor([[0.9, -0.9]], dtype=F64)
    bare = Cascade(attack_steps=0, attack_restarts=0, alpha_steps=0)
    for offset, verdict in ((1.001, Verdict.CERTIFIED), (0.999, Verdict.FALSIFIED)):
        margin = Margin(
            torch.ones(1, 1, 1, dtype=F64), torch.tensor([[offset]], dtype=F64), torch.tensor([0])
        )
        problem = Problem(box, margin, centre)
        (outcome,) = decide(Network(dead, net.input_shape), problem, how=bare, budget=Budget(seconds=10))
        assert outcome.verdict is verdict
