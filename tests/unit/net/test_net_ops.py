"""Every operation on its own: shapes, the split into a linear part and an offset, and what bounds rely on."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from certiprune.core.errors import ModelError
from certiprune.core.rng import generator
from certiprune.net import Network
from certiprune.net.network import Node
from certiprune.net.ops import Add, Affine, Conv, Dense, Op, Pad, Permute, Relu, Reshape, Scale, Select

RANDOM = generator(0, "ops")


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


CASES: dict[str, tuple[Affine, tuple[int, ...]]] = {
    "conv": (Conv(draw(4, 3, 3, 3), draw(4, 1, 1), (1, 1), (1, 1)), (3, 6, 5)),
    "conv with a bias per position": (Conv(draw(4, 3, 2, 2), draw(4, 3, 2), (2, 2)), (3, 6, 5)),
    "conv that leaves a rest": (Conv(draw(2, 3, 2, 3), None, (3, 2), (0, 2)), (3, 7, 6)),
    "grouped conv": (Conv(draw(4, 2, 3, 1), draw(4, 1, 1), (2, 1), (1, 0), 2), (4, 5, 3)),
    "depthwise conv": (Conv(draw(3, 1, 2, 2), None, (1, 1), (0, 0), 3), (3, 4, 4)),
    "dense": (Dense(draw(5, 7), draw(5)), (7,)),
    "dense without bias": (Dense(draw(5, 7), None), (7,)),
    "scale of channels": (Scale(draw(3, 1, 1), draw(3, 1, 1)), (3, 4, 2)),
    "scale by a number": (Scale(torch.tensor(-2.0, dtype=torch.float64), None), (3, 4, 2)),
    "reshape": (Reshape((24,)), (3, 4, 2)),
    "permute": (Permute((2, 0, 1)), (3, 4, 2)),
    "pad": (Pad((1, 0, 2, 3)), (3, 4, 2)),
    "pad channels, crop columns": (Pad((-1, 0, 0, 0, 1, 1)), (3, 4, 2)),
    "pick": (Select(0, torch.tensor([2, 0, 2])), (3, 4, 2)),
    "place": (Select(1, torch.tensor([5, 1, 0, 3]), 6), (3, 4, 2)),
}


@pytest.fixture(params=CASES, name="case")
def each_case(request):
    return CASES[request.param]


def test_the_announced_shape_is_the_result_s_shape(case):
    op, shape = case
    assert op.forward(draw(2, *shape)).shape == (2, *op.shape(shape))


def test_forward_is_the_linear_part_plus_the_offset(case):
    op, shape = case
    x, y = draw(2, *shape), draw(2, *shape)
    offset = op.forward(torch.zeros(1, *shape, dtype=torch.float64))
    torch.testing.assert_close(op.forward(x), op.linear(x) + offset)
    torch.testing.assert_close(op.linear(x - 3 * y), op.linear(x) - 3 * op.linear(y))


def test_pull_is_autograd_s_vector_jacobian_product(case):
    op, shape = case
    x = draw(3, *shape).requires_grad_()
    y = op.forward(x)
    c = draw(*y.shape)
    (expected,) = torch.autograd.grad(y, x, c)
    torch.testing.assert_close(op.pull(c, shape), expected)


def test_absolute_bounds_every_image_of_a_box(case):
    op, shape = case
    centre, radius = draw(1, *shape), draw(1, *shape).abs()
    reach = op.absolute().linear(radius)
    inside = centre + radius * (2 * torch.rand(50, *shape, generator=RANDOM, dtype=torch.float64) - 1)
    assert bool(((op.forward(inside) - op.forward(centre)).abs() <= reach + 1e-12).all())
    limit = op.absolute().forward(inside.abs())
    assert bool((op.forward(inside).abs() <= limit + 1e-12).all())


def test_in_another_precision_it_is_the_same_operation(case):
    op, shape = case
    x = draw(2, *shape)
    single = op.to(torch.float32, "cpu").forward(x.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), op.forward(x), rtol=1e-5, atol=1e-5)


def test_a_convolution_is_torch_s():
    op, shape = CASES["grouped conv"]
    assert isinstance(op, Conv) and op.bias is not None
    x = draw(2, *shape)
    expected = F.conv2d(x, op.weight, op.bias.flatten(), op.stride, op.padding, groups=op.groups)
    torch.testing.assert_close(op.forward(x), expected)


def test_placing_undoes_picking():
    index = torch.tensor([3, 0])
    picked = Select(0, index).linear(x := draw(1, 4, 2))
    back = Select(0, index, 4).linear(picked)
    assert torch.equal(back[:, index], x[:, index])
    assert not back[:, [1, 2]].any()


def test_cost_counts_multiply_adds_and_the_longest_sum():
    conv = Conv(draw(4, 3, 3, 3), None, (1, 1), (1, 1))
    assert (conv.cost((3, 6, 5)), conv.fan_in) == (4 * 6 * 5 * 27, 27)
    assert (Dense(draw(5, 7), None).cost((7,)), Dense(draw(5, 7), None).fan_in) == (35, 7)
    assert Scale(draw(3, 1, 1), None).cost((3, 4, 2)) == 24
    assert (Reshape((24,)).cost((3, 4, 2)), Reshape((24,)).fan_in) == (0, 1)


def small() -> Network:
    """Two branches of a flat input, summed, with a ReLU in one."""
    nodes = (
        Node(Dense(draw(3, 3), draw(3)), (0,), "first"),
        Node(Relu(), (1,), "relu"),
        Node(Add(), (0, 2, 2), "sum"),
        Node(Dense(draw(2, 3), None), (3,), "last"),
    )
    return Network(nodes, (3,))


def test_a_network_knows_its_graph():
    network = small()
    assert network.shapes == ((3,), (3,), (3,), (3,), (2,))
    assert (network.relus, network.neurons, network.outputs, network.output) == ((2,), 3, 2, 4)
    assert network.ancestors(2) == (0, 1, 2)
    assert network.cost() == 9 + 6
    assert sum(t.numel() for t in network.tensors()) == 9 + 3 + 6
    x = draw(5, 3)
    hidden = network.run(x)[2]
    assert bool((hidden >= 0).all())
    torch.testing.assert_close(network(x), (x + 2 * hidden) @ network.nodes[3].op.weight.T)


def test_a_network_in_single_precision_and_one_without_weights():
    assert small().to(torch.float32).dtype == torch.float32
    bare = Network((Node(Relu(), (0,), "relu"),), (4,))
    assert (bare.dtype, bare.device.type, bare.cost()) == (torch.float64, "cpu", 0)


def test_a_value_can_only_be_read_after_it_was_made():
    with pytest.raises(ModelError, match=r"node 1 \(early\) reads a value that comes after it"):
        _ = Network((Node(Relu(), (1,), "early"),), (3,)).shapes


def test_an_operation_that_networks_do_not_know_is_refused():
    class Odd(Op):
        def shape(self, *inputs):
            return inputs[0]

    with pytest.raises(ModelError, match="unknown operation Odd"):
        Network((Node(Odd(), (0,)),), (3,))(draw(1, 3))


def test_the_input_s_size_is_what_a_reshape_moves():
    op, shape = CASES["reshape"]
    assert math.prod(op.shape(shape)) == math.prod(shape)
