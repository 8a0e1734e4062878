"""Interval bounds for training, where they can be worked out another way."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck

from certiprune.bounds.ibp import Ibp, _Rectify, ibp, margins
from certiprune.core.box import Box
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from helpers.networks import F64, Source


def corners(box: Box) -> Tensor:
    """Every corner of the one box [2^d, *shape]."""
    ends = torch.stack([box.lower.flatten(), box.upper.flatten()])
    chosen = torch.tensor(list(product((0, 1), repeat=ends.shape[1])))
    return ends.gather(0, chosen).reshape(-1, *box.lower.shape[1:])


def box_around(source: Source, n: int, *shape: int) -> Box:
    centre, width = source.uniform(n, *shape), 0.5 * source.uniform(n, *shape)
    return Box(centre - width, centre + width)


def assert_exact(bounds: Ibp, network: Network, box: Box) -> None:
    """The output's bounds are the extremes of what the box's corners become."""
    centre, radius = bounds.output
    for k in range(len(box)):
        values = network(corners(box[k : k + 1]))
        torch.testing.assert_close(centre[k] - radius[k], values.amin(0))
        torch.testing.assert_close(centre[k] + radius[k], values.amax(0))


@pytest.mark.parametrize("seed", range(4))
def test_one_layer_is_exact(seed: int) -> None:
    source, b = Source.of(seed), Builder((5,))
    network = b.finish(b.emit(source.dense(4, 5), 0))
    box = box_around(source, 3, 5)
    assert_exact(ibp(network, box), network, box)


@pytest.mark.parametrize("stride", [1, 2])
def test_one_convolution_with_a_relu_is_exact(stride: int) -> None:
    source, b = Source.of(stride), Builder((2, 2, 2))
    network = b.finish(b.relu(b.emit(source.conv(2, 2, 2, stride, 1), 0)))
    box = box_around(source, 2, 2, 2, 2)
    assert_exact(ibp(network, box), network, box)


def test_sums_scalings_and_pools_are_exact_alone() -> None:
    source = Source.of(3)
    b = Builder((2, 2, 2))
    b.scale(0, source.normal(2, 1, 1), source.normal(2))
    scaled = Network(tuple(b.nodes), (2, 2, 2))
    box = box_around(source, 2, 2, 2, 2)
    middle, radius = ibp(scaled, box).output
    ends = torch.stack([scaled(box.lower), scaled(box.upper)])
    torch.testing.assert_close(middle - radius, ends.amin(0))
    torch.testing.assert_close(middle + radius, ends.amax(0))
    b = Builder((2, 2, 2))
    network = b.finish(b.pool_average(0, (2, 2), (2, 2), (0, 0), "pool", True))
    assert_exact(ibp(network, box), network, box)
    # In a sum each part may be at its end: x + x is exact, x - x is not.
    b = Builder((2,))
    twice = b.finish(b.add(0, 0))
    line = box_around(source, 2, 2)
    assert_exact(ibp(twice, line), twice, line)
    b = Builder((2,))
    nothing = b.finish(b.add(0, b.scale(0, -1.0)))
    torch.testing.assert_close(ibp(nothing, line).output, (torch.zeros(2, 2).double(), 2 * line.half_width))


def test_what_enters_each_relu_and_the_last_operation_is_given() -> None:
    source, b = Source.of(9), Builder((3,))
    first, last = source.dense(4, 3), source.dense(2, 4)
    network = b.finish(b.emit(last, b.relu(b.emit(first, 0))))
    box = box_around(source, 2, 3)
    bounds = ibp(network, box)
    (v,) = network.relus
    middle = box.centre @ first.weight.T + first.bias
    reach = box.half_width @ first.weight.abs().T
    torch.testing.assert_close(bounds.pre.lower[v], middle - reach)
    torch.testing.assert_close(bounds.pre.upper[v], middle + reach)
    centre, radius = bounds.last
    torch.testing.assert_close(centre - radius, (middle - reach).clamp(min=0))
    torch.testing.assert_close(centre + radius, (middle + reach).clamp(min=0))


def test_margins_of_one_linear_layer_are_exact() -> None:
    source, b = Source.of(5), Builder((4,))
    network = b.finish(b.emit(source.dense(3, 4), 0))
    box, labels = box_around(source, 3, 4), torch.tensor([2, 0, 1])
    centre, radius = margins(network, ibp(network, box), labels)
    for k, label in enumerate(labels.tolist()):
        values = network(corners(box[k : k + 1]))
        differences = values - values[:, label : label + 1]
        torch.testing.assert_close(centre[k] + radius[k], differences.amax(0))
        torch.testing.assert_close(centre[k] - radius[k], differences.amin(0))
        assert centre[k, label] == radius[k, label] == 0


def test_margins_without_a_matrix_at_the_end() -> None:
    source, b = Source.of(6), Builder((4,))
    hidden = b.relu(b.emit(source.dense(3, 4), 0))
    network = b.finish(b.add(hidden, b.emit(source.dense(3, 4), 0)))
    box, labels = box_around(source, 3, 4), torch.tensor([2, 0, 1])
    bounds = ibp(network, box)
    centre, radius = margins(network, bounds, labels)
    for k, label in enumerate(labels.tolist()):
        low, high = (bounds.output[0] - bounds.output[1])[k], (bounds.output[0] + bounds.output[1])[k]
        for j in range(3):
            wanted = (0.0, 0.0) if j == label else (float(low[j] - high[label]), float(high[j] - low[label]))
            assert float(centre[k, j] - radius[k, j]) == pytest.approx(wanted[0], abs=1e-12)
            assert float(centre[k, j] + radius[k, j]) == pytest.approx(wanted[1], abs=1e-12)


def test_a_box_of_one_point_gives_the_networks_values() -> None:
    source, b = Source.of(7), Builder((4,))
    network = b.finish(b.emit(source.dense(3, 6), b.relu(b.emit(source.dense(6, 4), 0))))
    points = source.uniform(5, 4)
    bounds = ibp(network, Box(points, points))
    torch.testing.assert_close(bounds.output[0], network(points))
    assert not bool(bounds.output[1].any())
    assert all(torch.equal(bounds.pre.lower[v], bounds.pre.upper[v]) for v in network.relus)


OUTPUTS = [kept for count in (1, 2, 3, 4) for kept in combinations(range(4), count)]


@pytest.mark.parametrize("kept", OUTPUTS, ids=str)
def test_gradients_of_the_rectifier_whatever_is_used_of_it(kept: tuple[int, ...]) -> None:
    source = Source.of(11)
    centre, radius = source.normal(4, 5), source.uniform(4, 5)
    lower, upper = centre - radius, centre + radius
    assert all(bool(t.any()) for t in (lower > 0, upper < 0, (lower < 0) & (upper > 0)))
    ends = lower, upper, (lower.relu() + upper.relu()) / 2, (upper.relu() - lower.relu()) / 2
    for found, wanted in zip(_Rectify.apply(centre, radius), ends, strict=True):
        torch.testing.assert_close(found, wanted)

    def chosen(*ball: Tensor) -> tuple[Tensor, ...]:
        outputs = _Rectify.apply(*ball)
        return tuple(outputs[k] for k in kept)

    assert gradcheck(chosen, (centre.requires_grad_(), radius.requires_grad_()))


def test_gradients_of_bounds_and_margins_reach_the_weights() -> None:
    source = Source.of(12)
    first, last = source.dense(4, 3), source.dense(3, 4)
    weights = [t.clone().requires_grad_() for t in (first.weight, first.bias, last.weight, last.bias)]
    box, labels = box_around(source, 2, 3), torch.tensor([1, 2])

    def outputs(*given: Tensor) -> tuple[Tensor, ...]:
        b = Builder((3,))
        hidden = b.relu(b.emit(Dense(given[0], given[1]), 0))
        network = b.finish(b.emit(Dense(given[2], given[3]), hidden))
        bounds = ibp(network, box)
        return (*margins(network, bounds, labels), *bounds.pre.lower.values(), *bounds.output)

    assert gradcheck(outputs, weights)


def test_single_precision_stays_single() -> None:
    module = nn.Linear(4, 3)
    b = Builder((4,), torch.float32)
    network = b.finish(b.relu(b.emit(Dense(module.weight, module.bias), 0)))
    points = torch.rand(2, 4)
    bounds = ibp(network, Box(points, points + 0.1))
    assert bounds.output[0].dtype == bounds.output[1].dtype == torch.float32
    assert F64 not in {t.dtype for t in (*bounds.pre.lower.values(), *bounds.last)}
