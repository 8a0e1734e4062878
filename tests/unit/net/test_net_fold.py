"""One folded operation equals the two in order; the borders of padded convolutions are where that goes wrong."""

from __future__ import annotations

import itertools

import pytest
import torch

from certiprune.core.rng import generator
from certiprune.net import Network
from certiprune.net.build import Builder, fold
from certiprune.net.fold import compose
from certiprune.net.network import Node
from certiprune.net.ops import Affine, Conv, Dense, Pad, Permute, Relu, Reshape, Scale

RANDOM = generator(0, "fold")
IMAGE = (3, 5, 4)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


PADDED = Conv(draw(4, 3, 3, 3), draw(4, 1, 1), (2, 1), (1, 1))
PLAIN = Conv(draw(4, 3, 2, 2), None)
GROUPED = Conv(draw(6, 1, 3, 3), None, (1, 1), (1, 1), 3)
CHANNELS = Scale(draw(3, 1, 1), draw(3, 1, 1))
PICKS = torch.eye(4, dtype=torch.float64)[[2, 0, 2]] * draw(3, 1)

EXACT: dict[str, tuple[Affine, Affine, tuple[int, ...]]] = {
    "normalisation, padded convolution": (CHANNELS, PADDED, IMAGE),
    "normalisation, plain convolution": (CHANNELS, PLAIN, IMAGE),
    "normalisation, grouped convolution": (CHANNELS, GROUPED, IMAGE),
    "one number, padded convolution": (Scale(draw(), draw()), PADDED, IMAGE),
    "a shift per pixel, convolution": (Scale(draw(3, 1, 1), draw(*IMAGE)), PLAIN, IMAGE),
    "a shift per column, convolution": (Scale(draw(), draw(4)), PADDED, IMAGE),
    "convolution, batch norm": (PADDED, Scale(draw(4, 1, 1), draw(4, 1, 1)), IMAGE),
    "convolution, shift by a number": (PLAIN, Scale(draw(1, 1, 1), draw(1, 1, 1)), IMAGE),
    "convolution, shift per column": (PADDED, Scale(draw(), draw(4)), IMAGE),
    "convolution, shift per row": (PADDED, Scale(draw(), draw(1, 3, 1)), IMAGE),
    "scale, scale": (CHANNELS, Scale(draw(4), draw(5, 1)), IMAGE),
    "scale, scale without shift": (Scale(draw(3, 1, 1), None), Scale(draw(3, 1, 1), None), IMAGE),
    "scale, dense": (Scale(draw(6), draw(1)), Dense(draw(4, 6), None), (6,)),
    "dense, scale": (Dense(draw(4, 6), draw(4)), Scale(draw(), draw(4)), (6,)),
    "dense without bias, scale without shift": (Dense(draw(4, 6), None), Scale(draw(4), None), (6,)),
    "dense, one that picks": (Dense(draw(4, 6), draw(4)), Dense(PICKS, draw(3)), (6,)),
    "reshape, reshape": (Reshape((60,)), Reshape((5, 12)), IMAGE),
    "pad, convolution": (Pad((2, 2, 1, 1)), PADDED, IMAGE),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_composition_equals_the_two_in_order(name):
    first, second, shape = EXACT[name]
    one = compose(first, second, shape)
    assert one is not None
    x = draw(4, *shape)
    torch.testing.assert_close(one.forward(x), second.forward(first.forward(x)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in EXACT if "convolution" in name])
def test_a_folded_convolution_keeps_a_bias_of_the_announced_shape(name):
    first, second, shape = EXACT[name]
    one = compose(first, second, shape)
    assert isinstance(one, Conv)
    out = one.shape(shape)
    assert one.bias is None or one.bias.shape in ((out[0], 1, 1), out)


APART: dict[str, tuple[Affine, Affine, tuple[int, ...]]] = {
    "a scale that varies inside a channel": (Scale(draw(5, 4), None), PADDED, IMAGE),
    "matrices through a bottleneck": (
        Dense(draw(2, 9), None),
        Dense(torch.eye(2, dtype=torch.float64)[[0] * 9], None),
        (9,),
    ),
    "matrices whose product is made of sums": (Dense(draw(4, 6), None), Dense(draw(3, 4), None), (6,)),
    "uneven padding": (Pad((1, 0, 0, 0)), PADDED, IMAGE),
    "cropping": (Pad((-1, -1, -1, -1)), PLAIN, IMAGE),
    "a permutation": (Permute((0, 2, 1)), PADDED, (3, 4, 5)),
    "two convolutions": (PADDED, Conv(draw(2, 4, 1, 1), None), IMAGE),
}


@pytest.mark.parametrize("name", APART)
def test_what_would_not_be_exact_or_cheaper_stays_apart(name):
    assert compose(*APART[name]) is None


def chain(*ops: Affine | Relu, shape: tuple[int, ...]) -> Network:
    return Network(tuple(Node(op, (k,)) for k, op in enumerate(ops)), shape)


def test_a_network_folds_to_one_affine_operation_between_relus():
    ops = (
        CHANNELS,
        PADDED,
        Scale(draw(4, 1, 1), draw(4, 1, 1)),
        Relu(),
        Scale(draw(4, 1, 1), None),
        Reshape((48,)),
    )
    network = chain(*ops, Dense(draw(5, 48), None), Scale(draw(5), draw(5)), shape=IMAGE)
    small = fold(network, network.output)
    assert [type(node.op) for node in small.nodes] == [Conv, Relu, Reshape, Dense]
    x = draw(3, *IMAGE)
    torch.testing.assert_close(small(x), network(x), rtol=1e-12, atol=1e-12)


def test_a_value_with_two_readers_is_not_folded_away():
    builder = Builder((6,))
    flat = builder.scale(builder.emit(Dense(draw(6, 6), None), 0), draw(6), draw(6))
    shaped = builder.reshape(builder.scale(builder.reshape(flat, (2, 3)), 2.0, 1.0), (3, 2))
    both = builder.add(builder.relu(builder.flatten(shaped)), builder.relu(flat))
    network = builder.finish(both)
    plain = Network(tuple(builder.nodes), (6,))
    x = draw(3, 6)
    torch.testing.assert_close(network(x), plain.run(x)[both], rtol=1e-12, atol=1e-12)


def test_a_scale_moves_behind_a_reshape_that_another_value_reads_too():
    builder = Builder((6,))
    base = builder.reshape(0, (2, 3))
    scaled = builder.reshape(builder.scale(base, 2.0, 1.0), (3, 2))
    both = builder.add(builder.flatten(scaled), builder.flatten(base))
    network = builder.finish(both)
    x = draw(3, 6)
    torch.testing.assert_close(network(x), 3 * x + 1)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_folding_keeps_any_order_of_scales_and_reshapes(order):
    parts = [Scale(draw(6), draw(6)), Reshape((6,)), Dense(draw(6, 6), draw(6))]
    network = chain(*(parts[k] for k in order), Relu(), shape=(6,))
    x = draw(3, 6)
    torch.testing.assert_close(fold(network, network.output)(x), network(x), rtol=1e-12, atol=1e-12)


BARE: dict[str, tuple[Affine, Affine, tuple[int, ...]]] = {
    "dense, one that picks": (Dense(draw(4, 6), None, draw(4).abs()), Dense(PICKS, None), (6,)),
    "dense, one that picks and shifts": (Dense(draw(4, 6), None, draw(4).abs()), Dense(PICKS, draw(3)), (6,)),
    "dense, scale": (Dense(draw(4, 6), None, draw(4).abs()), Scale(draw(4), None), (6,)),
    "scale, dense": (Scale(draw(6), None, draw(6).abs()), Dense(draw(4, 6), draw(4)), (6,)),
    "scale, scale": (Scale(draw(6), None, draw(6).abs()), Scale(draw(6), None), (6,)),
    "convolution, scale": (
        Conv(draw(4, 3, 2, 2), None, slack=draw(4, 1, 1).abs()),
        Scale(draw(4, 1, 1), None),
        IMAGE,
    ),
    "scale, convolution": (Scale(draw(3, 1, 1), None, draw(3, 1, 1).abs()), PADDED, IMAGE),
}


@pytest.mark.parametrize("name", BARE)
def test_a_slack_without_an_offset_goes_on_into_the_composition(name):
    first, second, shape = BARE[name]
    one = compose(first, second, shape)
    assert one is not None and one.slack is not None
    assert (one.offset() is None) == (second.offset() is None)
    far = second.absolute().linear(first.slack.expand(first.shape(shape)).unsqueeze(0))[0]
    assert bool((one.slack.expand(far.shape) >= far).all())
