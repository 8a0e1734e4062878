"""Laws of the interval bounds of training, on random networks."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.bounds import interval
from certiprune.bounds.ibp import ibp, margins
from certiprune.core.box import Box
from certiprune.net import Network
from helpers.networks import Source, images, random_box, random_network, random_points

SEEDS = st.integers(0, 10_000)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


def case(seed: int, n: int) -> tuple[Network, Box]:
    if seed % 7 == 0:
        network = images(seed)
        return network, random_box(seed, network, n=n, radius=0.1)
    network = random_network(seed, 12)
    return network, random_box(seed, network, n=n)


def near(left: Tensor, right: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@examples(40)
@given(SEEDS)
def test_it_is_what_the_rigorous_interval_bounds_say(seed: int) -> None:
    network, box = case(seed, 3)
    bounds = ibp(network, box)
    pre, (low, high) = interval(network, box)
    assert list(bounds.pre.lower) == list(network.relus)
    for v in network.relus:
        near(bounds.pre.lower[v], pre.lower[v])
        near(bounds.pre.upper[v], pre.upper[v])
    near(bounds.output[0] - bounds.output[1], low)
    near(bounds.output[0] + bounds.output[1], high)


@examples(40)
@given(SEEDS)
def test_points_of_the_box_lie_inside(seed: int) -> None:
    network, box = case(seed, 1)
    points = random_points(seed, box, 200)
    values, bounds = network.run(points), ibp(network, box)
    label = seed % network.outputs
    centre, radius = margins(network, bounds, torch.tensor([label]))
    spread = values[-1] - values[-1][:, label : label + 1]
    inside = [(bounds.output, values[-1]), ((centre, radius), spread)]
    inside.append((bounds.last, values[network.node(network.output).inputs[0]]))
    for (middle, reach), given_values in inside:
        assert bool(((given_values - middle).abs() <= reach + 1e-9).all())
    for v in network.relus:
        entering = values[network.node(v).inputs[0]]
        assert bool((entering >= bounds.pre.lower[v] - 1e-9).all())
        assert bool((entering <= bounds.pre.upper[v] + 1e-9).all())


@examples(40)
@given(SEEDS)
def test_differences_of_rows_are_never_wider(seed: int) -> None:
    network, box = case(seed, 4)
    source = Source.of(seed)
    labels = torch.tensor([source.whole(0, network.outputs - 1) for _ in range(4)])
    bounds = ibp(network, box)
    centre, radius = margins(network, bounds, labels)
    (middle, reach), k = bounds.output, torch.arange(4)
    low, high = middle - reach, middle + reach
    widest = high - low[k, labels].unsqueeze(1)
    narrowest = low - high[k, labels].unsqueeze(1)
    other = torch.ones_like(widest).scatter(1, labels.unsqueeze(1), 0.0)
    assert bool((centre + radius <= widest * other + 1e-9).all())
    assert bool((centre - radius >= narrowest * other - 1e-9).all())
    assert not bool(centre[k, labels].any()) and not bool(radius[k, labels].any())


@examples(25)
@given(SEEDS)
def test_a_smaller_box_has_bounds_inside(seed: int) -> None:
    network, box = case(seed, 2)
    share = Source.of(seed).uniform(*box.lower.shape)
    width = box.upper - box.lower
    small = Box(box.lower + share * width / 2, box.upper - share * width / 3)
    outer, inner = ibp(network, box), ibp(network, small)
    for v in network.relus:
        assert bool((inner.pre.lower[v] >= outer.pre.lower[v] - 1e-9).all())
        assert bool((inner.pre.upper[v] <= outer.pre.upper[v] + 1e-9).all())
