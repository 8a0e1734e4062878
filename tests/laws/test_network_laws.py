"""Laws 3 and 5: pullbacks are autograd's, and a compact or re-read network computes what the original does."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from certiprune.core.rng import generator
from certiprune.net import Network, compact, onnx_in, onnx_out
from certiprune.net.build import Builder
from certiprune.net.fold import compose
from certiprune.net.ops import Affine, Conv, Dense, Pad, Permute, Reshape, Scale, Select, Shape

LAW = settings(derandomize=True, deadline=None, max_examples=120)
SEEDS = st.integers(0, 2**20)


class Random:
    """Seeded tensors in double precision; some of their rows and columns are zero where ``death`` says so."""

    def __init__(self, seed: int, death: float = 0.0):
        self.generator, self.death = generator(seed, "law"), death

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def weight(self, *shape: int) -> Tensor:
        """A weight [out, in, ...] without single weights, rows and columns, each by the same chance."""
        ones = (1,) * (len(shape) - 2)
        alive = [shape, (shape[0], 1, *ones), (1, shape[1], *ones)]
        keep = [torch.rand(size, generator=self.generator) >= self.death for size in alive]
        return self.draw(*shape) * keep[0] * keep[1] * keep[2]


@st.composite
def convolutions(draw: st.DrawFn, channels: int, height: int, width: int, random: Random) -> Conv:
    """A convolution of ``channels`` channels that leaves something of an image."""
    kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    padding = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    assume(height + 2 * padding[0] >= kernel[0] and width + 2 * padding[1] >= kernel[1])
    groups = draw(st.sampled_from([g for g in (1, 1, 2, channels) if channels % g == 0]))
    out = groups * draw(st.integers(1, 3))
    weight = random.weight(out, channels // groups, *kernel)
    biases = [None, random.draw(out, 1, 1)]
    conv = Conv(weight, draw(st.sampled_from(biases)), stride, padding, groups)
    if draw(st.booleans()):
        return Conv(weight, random.draw(*conv.shape((channels, height, width))), stride, padding, groups)
    return conv


@st.composite
def operations(draw: st.DrawFn) -> tuple[Affine, Shape, Random]:
    """An affine operation of any kind and the shape of its input."""
    random = Random(draw(SEEDS))
    c, h, w = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    image = (c, h, w)
    kind = draw(st.sampled_from(["conv", "dense", "scale", "reshape", "permute", "pad", "pick", "place"]))
    if kind == "conv":
        return draw(convolutions(c, h, w, random)), image, random
    if kind == "dense":
        return Dense(random.draw(h, c), draw(st.sampled_from([None, random.draw(h)]))), (c,), random
    if kind == "scale":
        sizes = st.sampled_from([(), (c, 1, 1), (w,), (h, 1), image])
        return Scale(random.draw(*draw(sizes)), random.draw(*draw(sizes))), image, random
    if kind == "reshape":
        return Reshape(draw(st.sampled_from([(c * h * w,), (h, c * w), (w, h, c)]))), image, random
    if kind == "permute":
        return Permute(tuple(draw(st.permutations(range(3))))), image, random
    if kind == "pad":
        amounts = draw(st.lists(st.integers(0, 2), min_size=2, max_size=6).filter(lambda a: len(a) % 2 == 0))
        return Pad(tuple(amounts)), image, random
    dim = draw(st.integers(0, 2))
    if kind == "pick":
        index = draw(st.lists(st.integers(0, image[dim] - 1), min_size=1, max_size=6))
        return Select(dim, torch.tensor(index)), image, random
    size = image[dim] + draw(st.integers(0, 3))
    index = draw(st.permutations(range(size)))[: image[dim]]
    return Select(dim, torch.tensor(index), size), image, random


@LAW
@given(operations())
def test_a_pullback_is_autograd_s_vector_jacobian_product(problem):
    op, shape, random = problem
    x = random.draw(2, *shape).requires_grad_()
    y = op.forward(x)
    assert y.shape == (2, *op.shape(shape))
    c = random.draw(*y.shape)
    (expected,) = torch.autograd.grad(y, x, c)
    torch.testing.assert_close(op.pull(c, shape), expected)


@LAW
@given(operations(), st.data())
def test_a_composition_equals_the_two_in_order(problem, data):
    first, shape, random = problem
    middle = first.shape(shape)
    if len(middle) == 1:
        second: Affine = data.draw(
            st.sampled_from(
                [Dense(random.draw(2, *middle), random.draw(2)), Scale(random.draw(), random.draw(*middle))]
            )
        )
    elif len(middle) == 3:
        sizes = st.sampled_from([(), (middle[0], 1, 1), middle])
        scale = Scale(random.draw(*data.draw(sizes)), random.draw(*data.draw(sizes)))
        second = scale if data.draw(st.booleans()) else data.draw(convolutions(*middle, random))
    else:
        second = Reshape((math.prod(middle),))
    one = compose(first, second, shape)
    if one is not None:
        x = random.draw(2, *shape)
        torch.testing.assert_close(one.forward(x), second.forward(first.forward(x)), rtol=1e-10, atol=1e-10)


@st.composite
def networks(draw: st.DrawFn) -> tuple[Network, Random]:
    """Residual, concatenated, pooled and grouped networks, with any part of their weights dead, up to all of it."""
    random = Random(draw(SEEDS), draw(st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0])))
    builder = Builder((draw(st.integers(1, 3)), draw(st.integers(2, 6)), draw(st.integers(2, 6))))
    x = 0
    for _ in range(draw(st.integers(1, 4))):
        x = _block(draw, builder, random, x)
    x = builder.flatten(x)
    if draw(st.booleans()):
        hidden = draw(st.integers(1, 5))
        x = builder.relu(_dense(builder, random, x, hidden))
        if draw(st.booleans()):
            x = builder.add(x, builder.relu(_dense(builder, random, x, hidden)))
    return builder.finish(_dense(builder, random, x, draw(st.integers(1, 3)))), random


def _dense(builder: Builder, random: Random, x: int, out: int) -> int:
    return builder.emit(Dense(random.weight(out, builder.shapes[x][0]), random.draw(out)), x)


def _block(draw: st.DrawFn, builder: Builder, random: Random, x: int) -> int:
    """One layer of any kind on an image-shaped value."""
    c, h, w = builder.shapes[x]
    kind = draw(
        st.sampled_from(["conv", "conv", "residual", "concat", "pool", "norm", "select", "pad", "permute"])
    )
    if kind == "conv":
        return builder.relu(builder.emit(draw(convolutions(c, h, w, random)), x))
    if kind == "residual":
        inner = builder.relu(
            builder.emit(Conv(random.weight(3, c, 3, 3), random.draw(3, 1, 1), padding=(1, 1)), x)
        )
        outer = builder.emit(Conv(random.weight(c, 3, 1, 1), random.draw(c, 1, 1)), inner)
        return builder.relu(builder.add(outer, x))
    if kind == "concat":
        other = builder.relu(builder.emit(Conv(random.weight(2, c, 1, 1), random.draw(2, 1, 1)), x))
        return builder.concat([x, other], 0)
    if kind == "pool":
        kernel = (min(h, 2), min(w, 2))
        return builder.pool_max(x, kernel, kernel, (0, 0), "pool")
    if kind == "norm":
        keep = torch.rand(c, 1, 1, generator=random.generator) >= random.death
        return builder.relu(builder.scale(x, random.draw(c, 1, 1) * keep, random.draw(c, 1, 1)))
    if kind == "select":
        dim = draw(st.integers(0, 2))
        size = builder.shapes[x][dim]
        index = draw(st.permutations(range(size)))[: draw(st.integers(1, size))]
        return builder.emit(Select(dim, torch.tensor(index)), x)
    if kind == "pad":
        return builder.pad(x, tuple(draw(st.lists(st.integers(0, 1), min_size=6, max_size=6))))
    return builder.emit(Permute(tuple(draw(st.permutations(range(3))))), x)


@LAW
@given(networks())
def test_a_compact_network_computes_what_the_network_does(problem):
    network, random = problem
    small, record = compact(network)
    x = 3 * random.draw(4, *network.input_shape)
    torch.testing.assert_close(small(x), network(x), rtol=1e-9, atol=1e-9)
    assert small.neurons <= network.neurons
    assert all(min(shape) >= 1 for shape in small.shapes)
    assert record.before.neurons - record.after.neurons == record.removed
    assert all(0 <= units.after <= units.before for units in record.units)


@LAW
@given(networks())
def test_the_relus_of_the_compact_network_hold_the_old_numbers_wherever_they_matter(problem):
    network, random = problem
    small, record = compact(network)
    x = (3 * random.draw(4, *network.input_shape)).requires_grad_()
    old, new = network.run(x), small.run(x)
    assert tuple(record.origins) == small.relus
    for value, origin in record.origins.items():
        theirs = old[origin.value]
        (slope,) = torch.autograd.grad(old[-1].sum(), theirs, retain_graph=True)
        kept = (slice(None), origin.kept)
        assert new[value].shape == theirs[kept].shape
        matters = slope[kept] != 0
        torch.testing.assert_close(new[value][matters], theirs[kept][matters], rtol=1e-9, atol=1e-9)


@LAW
@given(networks())
def test_no_unit_is_lost_that_the_output_depends_on(problem):
    network, random = problem
    _, record = compact(network)
    kept = {origin.value: origin.kept.tolist() for origin in record.origins.values()}
    x = random.draw(8, *network.input_shape).requires_grad_()
    values = network.run(x)
    for value in network.relus:
        (slope,) = torch.autograd.grad(values[-1].sum(), values[value], retain_graph=True, allow_unused=True)
        if slope is None:
            continue
        moves = (values[value] - values[value][:1]).abs().transpose(0, 1).flatten(1).amax(1) > 0
        used = slope.abs().transpose(0, 1).flatten(1).amax(1) > 0
        assert set((moves & used).nonzero()[:, 0].tolist()) <= set(kept.get(value, []))


@LAW
@given(networks())
def test_compacting_again_removes_nothing(problem):
    network, _ = problem
    small, _ = compact(network)
    _, record = compact(small)
    assert record.removed == 0


@settings(LAW, max_examples=25)
@given(networks())
def test_a_network_survives_being_written_and_read(problem):
    network, random = problem
    x = random.draw(3, *network.input_shape)
    with tempfile.TemporaryDirectory() as folder:
        again = onnx_in.read(onnx_out.write(network, Path(folder) / "network.onnx"))
    torch.testing.assert_close(again(x), network(x), rtol=1e-4, atol=1e-4)
