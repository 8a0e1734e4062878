"""Laws of bounds, on random networks: soundness at every point tried, agreement of all ways to the same number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.attack import pgd
from certiprune.bounds import Engine, PreActivation, dual_value, interval, lines, preactivations
from certiprune.bounds.optimise import Rates
from certiprune.bounds.rows import neuron_rows
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.core.rng import generator
from certiprune.net import Network
from certiprune.verify.relaxation import LayeredRelaxation, Relaxation
from certiprune.verify.subproblem import Subproblems
from certiprune.verify.tighten import tighten
from helpers.exact import by_enumeration, encode
from helpers.networks import KINDS, Source, images, random_box, random_network, random_points

RATES = Rates()
SEEDS = st.integers(0, 10_000)
F64 = torch.float64


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


def entering(network: Network, x: Tensor) -> dict[int, Tensor]:
    """What enters each ReLU at points x."""
    values = network.run(x)
    return {v: values[network.node(v).inputs[0]] for v in network.relus}


def assert_inside(pre: PreActivation, network: Network, x: Tensor) -> None:
    for v, z in entering(network, x).items():
        allowed = 1e-12 * (1 + z.abs().max())
        assert bool((z >= pre.lower[v] - allowed).all())
        assert bool((z <= pre.upper[v] + allowed).all())


def attacked(network: Network, box: Box, source: Source) -> Iterator[Tensor]:
    """Points where an attack makes a random sum of some layer's neurons small."""
    for v in network.relus:
        weight = source.normal(*network.shapes[v])

        def objective(x: Tensor, v: int = v, weight: Tensor = weight) -> Tensor:
            return (entering(network, x)[v] * weight).flatten(1).sum(1)

        yield pgd(objective, box, steps=8, step_size=0.4, restarts=1, generator=generator(0, v)).points


def ways(network: Network, box: Box) -> dict[str, PreActivation]:
    engine = Engine.of(network)
    with torch.no_grad():
        crown = preactivations(engine, box)
        return {
            "interval": interval(network, box)[0],
            "crown": crown,
            "optimised": preactivations(engine, box, steps=4),
            "optimised further": preactivations(engine, box, steps=3, known=crown),
        }


@examples(25)
@given(SEEDS)
def test_every_point_lies_inside_all_bounds(seed: int) -> None:
    network = random_network(seed, 10)
    box = random_box(seed, network)
    points = [random_points(seed, box, 300), *attacked(network, box, Source.of(seed))]
    for pre in ways(network, box).values():
        assert_inside(pre, network, torch.cat(points))


@examples(6)
@given(SEEDS)
def test_every_point_lies_inside_the_bounds_of_images(seed: int) -> None:
    network = images(seed)
    box = random_box(seed, network, radius=0.1)
    points = [random_points(seed, box, 100), *attacked(network, box, Source.of(seed))]
    for pre in ways(network, box).values():
        assert_inside(pre, network, torch.cat(points))


@examples(15)
@given(SEEDS)
def test_more_work_never_loosens_a_bound(seed: int) -> None:
    network = random_network(seed, 10)
    box = random_box(seed, network, n=2)
    found = ways(network, box)
    for better, worse in (("crown", "interval"), ("optimised further", "crown")):
        for v in network.relus:
            assert bool((found[better].lower[v] >= found[worse].lower[v] - 1e-12).all())
            assert bool((found[better].upper[v] <= found[worse].upper[v] + 1e-12).all())


@examples(6)
@given(SEEDS)
def test_forms_over_windows_equal_forms_over_whole_values(seed: int) -> None:
    network = images(seed)
    box = random_box(seed, network, n=2, radius=0.1)
    pre = interval(network, box)[0]
    around = lines(pre)
    source = Source.of(seed)
    for v in network.relus[1:]:
        value = network.node(v).inputs[0]
        count = pre.lower[v][0].numel()
        neuron = torch.tensor([source.whole(0, count - 1) for _ in range(20)])
        owner, sign = neuron % 2, torch.where(neuron % 3 > 0, 1.0, -1.0).double()
        bounds = []
        for windowed in (True, False):
            way = plan(network, value, windowed=windowed)
            rows = neuron_rows(way, network, owner, neuron, sign)
            bounds.append(
                dual_value(network, box, rows, {u: t for u, t in around.items() if u in way.windows})
            )
        torch.testing.assert_close(bounds[0], bounds[1], rtol=1e-10, atol=1e-10)


@examples(10)
@given(SEEDS)
def test_bounds_do_not_depend_on_the_other_boxes(seed: int) -> None:
    network = images(seed) if seed % 4 == 0 else random_network(seed, 10)
    box = random_box(seed, network, n=3, radius=0.15)
    engine = Engine.of(network)
    with torch.no_grad():
        together = preactivations(engine, box, steps=3)
        alone = preactivations(Engine.of(network, memory=1), box[slice(1, 2)], steps=3)
    for v in network.relus:
        torch.testing.assert_close(together.lower[v][1:2], alone.lower[v], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(together.upper[v][1:2], alone.upper[v], rtol=1e-4, atol=1e-4)


def subproblems(seed: int, count: int) -> tuple[Network, Relaxation, Subproblems]:
    """``count`` subproblems of one form with random splits and parameters, good and bad."""
    network = random_network(seed, 8)
    box = random_box(seed, network, radius=0.7)
    source = Source.of(seed + 2)
    engine = Engine.of(network)
    with torch.no_grad():
        pre = preactivations(engine, box)
    coeff = source.normal(1, network.outputs)
    relaxation = LayeredRelaxation.of(engine, box, coeff, source.normal(1), pre)
    root = relaxation.root()
    sub = root[torch.zeros(count, dtype=torch.int64)]
    sign = source.normal(count, relaxation.width).sign() * (source.uniform(count, relaxation.width) < 0.4)
    # The oracle imposes signs on the ReLUs that it finds open, so only these are split.
    known = encode(network, box).place
    sign = sign.float() * root.free * torch.tensor([float(where in known) for where in places(relaxation)])
    theta = source.uniform(count, relaxation.width).float() * torch.where(sign == 0, 1.0, 2.0)
    return network, relaxation, Subproblems(sub.task, theta, sign, sub.lower, sub.upper)


def places(relaxation: Relaxation) -> list[tuple[int, int]]:
    """Each column's ReLU value and flat neuron number, for one task."""
    return [(v, int(k)) for v, neuron in relaxation.index.neuron.items() for k in neuron[0]]


@examples(25)
@given(SEEDS)
def test_any_multipliers_bound_the_minimum_over_the_split_region(seed: int) -> None:
    network, relaxation, sub = subproblems(seed, 3)
    encoding = encode(network, relaxation.box)
    margin = Margin(
        relaxation.coeff.unsqueeze(1), relaxation.const.unsqueeze(1), torch.zeros(1, dtype=torch.int64)
    )
    proved = relaxation.prove(sub)
    better = relaxation.prove(sub.using(relaxation.ascend(sub, steps=10, rates=RATES, goal=1e9).theta))
    for k in range(len(sub)):
        signs = {
            where: int(s) for where, s in zip(places(relaxation), sub.sign[k].tolist(), strict=True) if s
        }
        least = by_enumeration(encoding, margin, signs=signs).lower
        assert float(proved[k]) <= least + 1e-7
        assert float(better[k]) <= least + 1e-7


@examples(20)
@given(SEEDS)
def test_float32_and_float64_bounds_agree(seed: int) -> None:
    _, relaxation, sub = subproblems(seed, 4)
    quick, exact = relaxation.quick_value(sub).value.double(), relaxation.prove(sub)
    torch.testing.assert_close(quick, exact, rtol=1e-3, atol=1e-3)


@examples(15)
@given(SEEDS)
def test_the_ascent_follows_the_gradient_of_the_proved_value(seed: int) -> None:
    _, relaxation, sub = subproblems(seed, 1)
    # What is not positive in float32 is worked out in float64, and only this is exact enough for differences.
    relaxation = replace(relaxation, const=relaxation.const - 1e3)
    walker, parameters = relaxation.walker(sub), sub.parameters()
    walker.set(parameters)
    gradient = walker.gradient(walker.walk(), parameters)[0].double()
    moving = ((sub.free > 0) | (sub.sign != 0))[0].nonzero()[:, 0]
    if len(moving) == 0:
        return
    step = 1e-6
    theta = sub.theta.double().repeat(2 * len(moving), 1)
    at = torch.arange(len(moving))
    theta[at, moving] += step
    theta[at + len(moving), moving] -= step
    many = sub[torch.zeros(len(theta), dtype=torch.int64)].using(theta.clamp(min=0))
    above, below = relaxation.prove(many).chunk(2)
    torch.testing.assert_close(gradient[moving], (above - below) / (2 * step), rtol=1e-3, atol=1e-3)


@examples(15)
@given(SEEDS)
def test_tightened_bounds_hold_where_the_form_is_not_positive(seed: int) -> None:
    network, relaxation, sub = subproblems(seed, 3)
    x = random_points(seed, relaxation.box, 4000)
    form = network(x) @ relaxation.coeff[0]
    # The region where the form is low must be neither empty nor everything.
    relaxation.const[0] = -form.quantile(0.3)
    done = tighten(relaxation, sub, torch.ones_like(sub.sign, dtype=torch.bool), steps=4, rates=RATES)
    z = entering(network, x)
    parts = [z[v].flatten(1)[:, k : k + 1] for v, k in places(relaxation)]
    columns = torch.cat([x.new_zeros(len(x), 0), *parts], 1)
    low = form + relaxation.const[0] <= 0
    for k in range(len(sub)):
        here = columns[low & (columns * sub.sign[k] >= 0).all(1)]
        assert not (bool(done.empty[k]) and len(here))
        assert bool((here >= done.sub.lower[k] - 1e-9).all())
        assert bool((here <= done.sub.upper[k] + 1e-9).all())
        assert bool((done.sub.lower[k] >= sub.lower[k]).all())
        assert bool((done.sub.upper[k] <= sub.upper[k]).all())


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_box_of_one_point_is_bounded_by_the_network_itself(kind: str) -> None:
    network = random_network(3, 9, kind)
    x = Source.of(1).uniform(2, *network.input_shape)
    pre, (low, high) = interval(network, Box(x, x))
    torch.testing.assert_close(low, network(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(high, network(x), rtol=1e-9, atol=1e-9)
    assert_inside(pre, network, x)
