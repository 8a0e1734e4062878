"""Zonotopes hold every value that the network takes in their boxes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.bounds import interval
from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.zonotope import enclose
from certiprune.core.box import Box
from certiprune.net.build import Builder
from helpers.networks import Source, random_box, random_network, random_points

seeds = st.integers(0, 10_000)


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_sampled_points_lie_inside(seed: int, known: bool) -> None:
    network = random_network(seed)
    box = random_box(seed, network)
    inputs = torch.arange(box.lower[0].numel())
    start = preactivations(Engine.of(network), box) if known else None
    found = enclose(network, box, inputs, start)
    values = network.run(random_points(seed, box, 200))
    low, high = found.output.ends
    assert bool((values[-1] >= low).all() and (values[-1] <= high).all())
    for v in network.relus:
        z = values[network.node(v).inputs[0]]
        assert bool((z >= found.pre.lower[v]).all() and (z <= found.pre.upper[v]).all())


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_inputs_without_a_generator_count_as_error(seed: int) -> None:
    network = random_network(seed)
    box = random_box(seed, network)
    low, high = enclose(network, box, torch.tensor([0])).output.ends
    outputs = network(random_points(seed, box, 200))
    assert bool((outputs >= low).all() and (outputs <= high).all())


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_an_affine_network_is_enclosed_tightly(seed: int) -> None:
    """Without an unstable neuron the output's ends are attained, up to rounding; interval bounds are wider."""
    network = random_network(seed)
    box = random_box(seed, network, radius=1e-6)
    found = enclose(network, box, torch.arange(box.lower[0].numel()))
    if int(found.pre.counts()) > 0:
        return
    low, _ = found.output.ends
    x = box.centre.requires_grad_()
    for k, value in enumerate(network(x)[0]):
        (slope,) = torch.autograd.grad(value, x, retain_graph=True)
        at_least = network(torch.where(slope > 0, box.lower, box.upper))[0, k]
        assert abs(float(at_least - low[0, k])) < 1e-9
    loose, _ = interval(network, box)[1]
    assert bool((low >= loose - 1e-9).all())


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_a_box_does_not_depend_on_its_companions(seed: int) -> None:
    network = random_network(seed)
    box = random_box(seed, network, n=5)
    inputs = torch.arange(box.lower[0].numel())
    together = enclose(network, box, inputs).output.ends[0]
    alone = torch.cat([enclose(network, box[k : k + 1], inputs).output.ends[0] for k in range(5)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@given(seeds)
@settings(max_examples=30, deadline=None)
def test_shares_are_parts_of_a_whole(seed: int) -> None:
    network = random_network(seed)
    box = random_box(seed, network, n=3)
    found = enclose(network, box, torch.arange(box.lower[0].numel()))
    carried = found.output.generators.abs().amax(2) > 1e-9
    total = found.share[:, : carried.shape[1]].sum(2)[carried]
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("size", [1e30, 1e300])
def test_what_overflows_is_unknown(size: float) -> None:
    network = random_network(0)
    whole = torch.full((1, *network.input_shape), size, dtype=torch.float64)
    box = Box(-whole, whole)
    low, high = enclose(network, box, torch.arange(whole.numel())).output.ends
    outputs = network(torch.cat([box.lower, box.upper, box.centre]))
    assert bool((outputs >= low).all() and (outputs <= high).all())
    assert not bool(low.isnan().any() or high.isnan().any())


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_rounding_is_counted(seed: int) -> None:
    """In float32, a single point's ends hold what float64 computes there with the same weights.

    Of many sums some cancel, and their rounding is large beside what is left of them.
    """
    source, b = Source.of(seed), Builder((50,))
    hidden = b.relu(b.emit(source.dense(100, 50), 0))
    network = b.finish(b.emit(source.dense(100, 100), hidden)).to(torch.float32)
    x = source.normal(50, 50).float()
    found = enclose(network, Box(x, x), torch.arange(50))
    values = network.to(torch.float64).run(x.double())
    low, high = found.output.ends
    assert bool((values[-1] >= low).all() and (values[-1] <= high).all())
    assert bool((values[1] >= found.pre.lower[hidden]).all() and (values[1] <= found.pre.upper[hidden]).all())
    assert bool((high - low < 1e-2).all())
