"""The builder: pooling as affine operations and ReLUs, concatenation, and the mistakes it names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from certiprune.core.errors import ModelError
from certiprune.core.rng import generator
from certiprune.net.build import Builder
from certiprune.net.ops import Conv, Dense, Relu, Scale

GEOMETRIES = [
    ((2, 2), (2, 2), (0, 0)),
    ((3, 2), (2, 1), (1, 1)),
    ((3, 3), (1, 1), (1, 1)),
    ((1, 3), (1, 2), (0, 1)),
]


def images() -> torch.Tensor:
    return torch.randn(3, 2, 7, 6, generator=generator(0, "pooling"), dtype=torch.float64)


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
@pytest.mark.parametrize("divisor", [True, False])
def test_average_pooling_is_torch_s(kernel, stride, padding, divisor):
    builder = Builder((2, 7, 6))
    network = builder.finish(builder.pool_average(0, kernel, stride, padding, "pool", divisor))
    expected = F.avg_pool2d(images(), kernel, stride, padding, count_include_pad=divisor)
    torch.testing.assert_close(network(images()), expected.flatten(1))


@pytest.mark.parametrize(("kernel", "stride", "padding"), GEOMETRIES)
def test_max_pooling_after_a_relu_is_torch_s(kernel, stride, padding):
    builder = Builder((2, 7, 6))
    network = builder.finish(builder.pool_max(builder.relu(0), kernel, stride, padding, "pool"))
    expected = F.max_pool2d(images().relu(), kernel, stride, padding)
    torch.testing.assert_close(network(images()), expected.flatten(1))


def test_max_pooling_of_any_numbers_is_torch_s_without_padding():
    builder = Builder((2, 7, 6))
    network = builder.finish(builder.pool_max(0, (3, 2), (2, 2), (0, 0), "pool"))
    torch.testing.assert_close(network(images()), F.max_pool2d(images(), (3, 2), 2).flatten(1))
    assert all(isinstance(network.node(k).op, Relu) for k in network.relus)


def test_padded_max_pooling_of_numbers_below_zero_is_refused():
    builder = Builder((2, 7, 6))
    with pytest.raises(
        ModelError, match="pool: max pooling with padding is supported only right after a ReLU"
    ):
        builder.pool_max(0, (3, 3), (1, 1), (1, 1), "pool")


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_concatenation_is_torch_s(dim):
    builder = Builder((2, 7, 6))
    network = builder.finish(builder.concat([0, builder.relu(0), 0], dim))
    x = images()
    expected = torch.cat([x, x.relu(), x], dim + 1)
    torch.testing.assert_close(network(x), expected.flatten(1))


def test_scales_take_constants_with_a_batch_dimension_of_one():
    builder = Builder((2, 7, 6))
    network = builder.finish(builder.scale(0, torch.tensor([2.0, 3.0]).reshape(1, 2, 1, 1), 1.0))
    expected = images() * torch.tensor([2.0, 3.0]).reshape(1, 2, 1, 1) + 1
    torch.testing.assert_close(network(images()), expected.flatten(1))


def conv(*shape: int) -> Conv:
    return Conv(torch.ones(shape), None)


MISTAKES = {
    "weights that are not numbers": (
        lambda b: b.emit(Conv(torch.full((1, 2, 1, 1), torch.nan), None), 0, name="first"),
        "first: the weight holds NaN or infinite numbers",
    ),
    "an infinite shift": (
        lambda b: b.emit(Scale(torch.ones(()), torch.tensor(torch.inf)), 0),
        "Scale: the shift holds NaN or infinite numbers",
    ),
    "a kernel larger than the image": (
        lambda b: b.emit(conv(1, 2, 9, 9), 0, name="c"),
        "c: Conv leaves nothing",
    ),
    "a stride of zero": (
        lambda b: b.emit(Conv(torch.ones(1, 2, 1, 1), None, (0, 1)), 0, name="c"),
        "c: Conv does not fit",
    ),
    "a convolution of a flat value": (
        lambda b: b.emit(conv(1, 2, 1, 1), b.flatten(0), name="c"),
        r"c: Conv does not fit \(84,\)",
    ),
    "a sum of two shapes": (lambda b: b.add(0, b.flatten(0), name="s"), "s: Add of different shapes"),
    "a constant that would enlarge": (
        lambda b: b.scale(0, torch.ones(5, 2, 7, 6), name="k"),
        r"k: a constant of shape \(5, 2, 7, 6\) does not fit a value of \(2, 7, 6\)",
    ),
    "a constant of another size": (lambda b: b.scale(0, torch.ones(4), name="k"), "k: a constant of shape"),
    "a reshape to another size": (
        lambda b: b.reshape(0, (5,), "r"),
        r"r: cannot reshape \(2, 7, 6\) to \(5,\)",
    ),
    "pooling of a flat value": (
        lambda b: b.pool_average(b.flatten(0), (2, 2), (2, 2), (0, 0), "p", True),
        "p: pooling needs an image",
    ),
    "an output that is the input": (lambda b: Builder((3,)).finish(0), "the model computes nothing"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    act, message = MISTAKES[name]
    with pytest.raises(ModelError, match=message) as caught:
        act(Builder((2, 7, 6), torch.float32))
    assert "\n" not in str(caught.value)


def test_what_nothing_reads_is_left_out():
    builder = Builder((3,))
    builder.emit(Dense(torch.ones(9, 3), None), 0, name="unread")
    network = builder.finish(builder.emit(Dense(torch.ones(2, 3), None), 0, name="read"))
    assert [node.name for node in network.nodes] == ["read"]
