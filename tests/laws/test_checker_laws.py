"""The checker's bounds against exact rational arithmetic: they hold at every point, whatever slopes and signs are."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from certiprune.checker import Graph
from certiprune.checker.bounds import Choice, intervals, lines, walk
from certiprune.checker.graph import Affine, Relu
from certiprune.net import Network
from helpers.claims import read
from helpers.networks import images, random_network
from helpers.rational import exact_values

Numbers = list[Fraction]
KINDS = ("mlp", "residual_mlp", "conv_net", "residual_conv", "pruned")


def exact(graph: Graph, x: np.ndarray) -> list[Numbers]:
    """Every value at the input ``x``."""
    values = [[Fraction(float(v)) for v in x]]
    for node in graph.nodes:
        if isinstance(node, Relu):
            values.append([max(v, Fraction(0)) for v in values[node.x]])
        elif isinstance(node, Affine):
            rows = node.matrix.tocoo()
            out = [Fraction(float(b)) for b in node.bias]
            for i, j, w in zip(rows.row.tolist(), rows.col.tolist(), rows.data.tolist(), strict=True):
                out[i] += Fraction(w) * values[node.x][j]
            values.append(out)
        else:
            values.append(
                [sum(parts, Fraction(0)) for parts in zip(*(values[k] for k in node.parts), strict=True)]
            )
    return values


def scaled(seed: int, folder: Path) -> tuple[Network, Graph, np.random.Generator]:
    """A random network; in every third the weights are far from 1."""
    network, graph = read(random_network(seed, 10, KINDS[seed % len(KINDS)]), folder)
    return network, graph, np.random.default_rng(seed)


def points(rng: np.random.Generator, low: np.ndarray, high: np.ndarray, n: int) -> np.ndarray:
    """Points of the box [n, inputs], half of them corners."""
    unit = rng.random((n, len(low)))
    unit[: n // 2] = unit[: n // 2].round()
    return np.clip(low + unit * (high - low), low, high)


@pytest.mark.parametrize("seed", range(30))
def test_intervals_hold_exactly(seed: int, tmp_path: Path) -> None:
    _, graph, rng = scaled(seed, tmp_path)
    # Wide boxes, boxes of one point, and inputs far from 1: what is left is rounding.
    size, radius = 10.0 ** rng.integers(-12, 12), [0.5, 1e-9, 0.0][seed % 3]
    centre = rng.normal(size=graph.sizes[0]) * size
    low, high = centre - radius * size, centre + radius * size
    values = intervals(graph, low, high)
    for x in points(rng, low, high, 6):
        for (lower, upper), truth in zip(values, exact(graph, x), strict=True):
            ends = zip(lower.tolist(), truth, upper.tolist(), strict=True)
            assert all(Fraction(a) <= t <= Fraction(b) for a, t, b in ends)


@pytest.mark.parametrize("seed", range(60))
def test_forms_are_bounded_where_their_signs_hold(seed: int, tmp_path: Path) -> None:
    _, graph, rng = scaled(seed, tmp_path)
    centre = rng.random(graph.sizes[0])
    radius = [0.3, 0.05, 1e-7, 0.0][seed % 4]
    low, high = centre - radius, centre + radius
    values = intervals(graph, low, high)
    start = int(rng.integers(1, len(graph.nodes) + 1)) if seed % 2 else graph.output
    count = 8
    forms = rng.normal(size=(graph.sizes[start], count)) * 10.0 ** rng.integers(-6, 6, count)
    sampled = [exact(graph, x) for x in points(rng, low, high, 10)]
    choices, signs = {}, {}
    for v in graph.relus:
        # Some neurons, split the way that one of the points has them, or not split; parameters from anywhere.
        neuron = rng.permutation(graph.sizes[v])[: int(rng.integers(0, graph.sizes[v] + 1))]
        entering = sampled[0][graph.nodes[v - 1].x]  # type: ignore[union-attr]
        sign = np.array([[int(entering[k] >= 0) * 2 - 1] for k in neuron]).reshape(len(neuron), 1)
        sign = sign * rng.integers(0, 2, (len(neuron), 1)) * np.ones((1, count), dtype=int)
        theta = rng.choice([-3.0, 0.0, 0.2, 0.9, 1.0, 40.0], (len(neuron), count))
        choices[v] = Choice(neuron, theta, sign)
        signs[v] = (neuron, sign[:, 0])
    bounds = walk(graph, values, start, forms, choices)
    held = 0
    for truth in sampled:
        if all(
            s == 0 or s * truth[graph.nodes[v - 1].x][k] >= 0  # type: ignore[union-attr]
            for v, (neuron, sign) in signs.items()
            for k, s in zip(neuron.tolist(), sign.tolist(), strict=True)
        ):
            held += 1
            for c, bound in zip(forms.T.tolist(), bounds.tolist(), strict=True):
                real = sum((Fraction(a) * t for a, t in zip(c, truth[start], strict=True)), Fraction(0))
                assert not np.isfinite(bound) or Fraction(bound) <= real
    assert held
    assert np.isfinite(bounds).all()


@pytest.mark.parametrize("seed", range(200))
def test_lines_surround_the_relu_exactly(seed: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.normal(size=20) * 10.0 ** rng.integers(-300, 300, 20)
    high = low + np.abs(rng.normal(size=20)) * 10.0 ** rng.integers(-300, 300, 20)
    slope, up, gap = lines(low, high)
    for a, b, s, u, g in zip(low, high, slope, up, gap, strict=True):
        for z in (
            Fraction(float(a)),
            Fraction(float(b)),
            (Fraction(float(a)) + Fraction(float(b))) / 2,
            Fraction(0),
        ):
            if Fraction(float(a)) <= z <= Fraction(float(b)):
                above = Fraction(float(u)) * z + Fraction(float(g))
                assert Fraction(float(s)) * z <= max(z, Fraction(0)) <= above


@pytest.mark.parametrize("seed", range(12))
def test_both_readers_have_the_same_network(seed: int, tmp_path: Path) -> None:
    network, graph = read(images(seed), tmp_path)
    x = np.random.default_rng(seed).random(graph.sizes[0])
    own, other = exact(graph, x), exact_values(network, [Fraction(float(v)) for v in x])
    # Folding may have rounded each weight once.
    for a, b in zip(own[graph.output], other[network.output], strict=True):
        assert abs(float(a - b)) < 1e-12
    for number, v in enumerate(network.relus):
        mine, theirs = own[graph.source(number)], other[network.node(v).inputs[0]]
        assert len(mine) == len(theirs)
        assert all(abs(float(a - b)) < 1e-12 for a, b in zip(mine, theirs, strict=True))
    assert torch.tensor([float(v) for v in own[graph.output]]).isfinite().all()
