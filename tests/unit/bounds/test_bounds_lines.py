"""The two lines around a ReLU, and bounds by hand."""

from __future__ import annotations

import time

import pytest
import torch

from certiprune.bounds import Engine, PreActivation, interval, lines, preactivations
from certiprune.bounds.intermediate import OutOfTime
from certiprune.core.box import Box
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from helpers.networks import F64, Source, random_box, random_network

ENDS = {
    "straddling": (-1.0, 3.0),
    "mostly off": (-30.0, 0.1),
    "on": (0.5, 2.0),
    "off": (-2.0, -0.5),
    "on from zero": (0.0, 2.0),
    "off up to zero": (-2.0, 0.0),
    "always zero": (0.0, 0.0),
    "a point": (1.5, 1.5),
    "tiny": (-1e-300, 1e-300),
    "denormal": (-5e-324, 5e-324),
    "lopsided": (-1e300, 1e-300),
    "wide": (-1.7e308, 1.7e308),
}


@pytest.mark.parametrize("name", list(ENDS))
def test_the_relu_lies_between_its_lines(name: str) -> None:
    low, high = (torch.full((1, 1), end, dtype=F64) for end in ENDS[name])
    (here,) = lines(PreActivation({1: low}, {1: high})).values()
    share = torch.linspace(0, 1, 101, dtype=F64)
    z = (low * (1 - share) + high * share).flatten()
    relu = z.clamp(min=0)
    # Rounding, and the smallest number times the width: what the trusted bound allows for.
    allowed = 1e-14 * relu.abs().max() + 5e-324 * low.abs()
    assert bool((here.low * z <= relu + allowed).all())
    assert bool((here.up * z + here.gap >= relu - allowed).all())
    assert float(here.gap) >= 0 and 0 <= float(here.low) <= 1 and 0 <= float(here.up) <= 1


def test_slopes_of_unstable_neurons_can_be_chosen_and_no_others() -> None:
    pre = PreActivation(
        {1: torch.tensor([[-1.0, 1.0, -2.0, -1.0]])}, {1: torch.tensor([[1.0, 2.0, -1.0, 3.0]])}
    )
    chosen = lines(pre, {1: torch.tensor([[0.5, 0.5, 0.5, 7.0]])})
    assert chosen[1].low.tolist() == [[0.5, 1.0, 0.0, 1.0]]
    assert lines(pre)[1].low.tolist() == [[0.0, 1.0, 0.0, 1.0]]


def test_an_end_that_is_no_number_switches_nothing_off() -> None:
    pre = PreActivation({1: torch.tensor([[float("nan")]])}, {1: torch.tensor([[1.0]])})
    here = lines(pre)[1]
    assert not bool(torch.isfinite(here.gap).all())


def test_bounds_by_hand() -> None:
    """h = relu(x + y), relu(x - y) on [-1, 1]^2; their difference h1 - h2 is at least -2, and intervals say so, too."""
    b = Builder((2,))
    h = b.relu(b.emit(Dense(torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=F64), None), 0))
    k = b.relu(b.emit(Dense(torch.tensor([[1.0, -1.0]], dtype=F64), None), h))
    network = b.finish(b.emit(Dense(torch.ones(1, 1, dtype=F64), None), k))
    box = Box(-torch.ones(1, 2, dtype=F64), torch.ones(1, 2, dtype=F64))
    pre, (low, high) = interval(network, box)
    first, second = network.relus
    assert pre.lower[first][0].tolist() == pytest.approx([-2.0, -2.0])
    assert pre.upper[second].tolist() == [[pytest.approx(2.0)]]
    assert low.tolist() == [[pytest.approx(0.0, abs=1e-12)]] and high.tolist() == [[pytest.approx(2.0)]]
    assert pre.counts().tolist() == [3]
    assert pre.unstable(first).tolist() == [[True, True]]


def test_intervals_are_exact_for_one_layer() -> None:
    source = Source.of(4)
    weight, bias = source.normal(3, 5), source.normal(3)
    b = Builder((5,))
    network = b.finish(b.emit(Dense(weight, bias), 0))
    box = Box(-source.uniform(1, 5), source.uniform(1, 5))
    _, (low, high) = interval(network, box)
    least = (weight.clamp(min=0) * box.lower + weight.clamp(max=0) * box.upper).sum(1) + bias
    most = (weight.clamp(min=0) * box.upper + weight.clamp(max=0) * box.lower).sum(1) + bias
    torch.testing.assert_close(low[0], least, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(high[0], most, rtol=1e-12, atol=1e-12)


def test_a_deadline_in_the_past_ends_the_work() -> None:
    network = random_network(1, 12, "conv_net")
    box = random_box(1, network, radius=1.0)
    with pytest.raises(OutOfTime):
        preactivations(Engine.of(network), box, deadline=time.perf_counter() - 1)


def test_known_bounds_are_kept_where_they_are_tighter() -> None:
    network = random_network(10, 12, "mlp")
    box = random_box(10, network, radius=0.5)
    engine = Engine.of(network)
    with torch.no_grad():
        found = preactivations(engine, box)
        low = {v: t + 0.01 for v, t in found.lower.items()}
        tighter = PreActivation(low, {v: t - 0.01 for v, t in found.upper.items()})
        again = preactivations(engine, box, known=tighter)
    for v in network.relus:
        assert bool((again.lower[v] >= tighter.lower[v]).all())
        assert bool((again.upper[v] <= tighter.upper[v]).all())


def test_bounds_in_float32_are_rounded_outward() -> None:
    network = random_network(7, 12)
    pre = interval(network, random_box(7, network))[0]
    single = pre.to(torch.float32)
    for v in network.relus:
        assert bool((single.lower[v].double() <= pre.lower[v]).all())
        assert bool((single.upper[v].double() >= pre.upper[v]).all())
        assert single[slice(0, 1)].lower[v].shape[0] == 1


@pytest.mark.parametrize("memory", [1, 10_000, 1 << 30])
def test_memory_changes_no_bound(memory: int) -> None:
    network = random_network(8, 16, "conv_net")
    box = random_box(8, network, n=2, radius=0.5)
    with torch.no_grad():
        expected = preactivations(Engine.of(network), box, steps=2)
        found = preactivations(Engine.of(network, memory=memory), box, steps=2)
    for v in network.relus:
        torch.testing.assert_close(found.lower[v], expected.lower[v], rtol=1e-4, atol=1e-4)
