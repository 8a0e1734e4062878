"""Compaction: what goes, what stays, where constants end up, and what the record of it says."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from certiprune.core.errors import LoweringError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import Compaction, Network, compact, lower, prunable
from certiprune.net.build import Builder
from certiprune.net.ops import Add, Affine, Conv, Dense, Pad, Permute, Relu, Reshape, Scale, Select
from certiprune.net.zoo import ModelSpec, Residual, build

SHAPE = (2, 6, 6)
RANDOM = generator(0, "compact")


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=torch.float64)


def inputs(network: Network) -> Tensor:
    return draw(6, *network.input_shape)


def compacted(network: Network) -> tuple[Network, Compaction]:
    """``compact(network)``, compared with it on inputs of any sign."""
    small, record = compact(network)
    x = inputs(network)
    torch.testing.assert_close(small(x), network(x), rtol=1e-10, atol=1e-10)
    return small, record


def widths(network: Network) -> list[int]:
    return [network.shapes[k][0] for k in network.relus]


def model() -> nn.Sequential:
    """Three convolutions of 4 channels (layers 0, 2 and 4) and a linear layer."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 3, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(4, 4, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 3)).double()


@torch.no_grad()
def convolutional(dead_in: dict[int, list[int]], dead_out: dict[int, list[int]]) -> Network:
    """``model()`` without the weights of the given outgoing and incoming channels of its layers."""
    layers = model()
    for layer, channels in dead_in.items():
        layers[layer].weight[channels] = 0
    for layer, channels in dead_out.items():
        layers[layer].weight[:, channels] = 0
    return lower(layers, shape=SHAPE)


def test_a_network_without_dead_units_stays_as_it_is():
    network = convolutional({}, {})
    small, record = compacted(network)
    assert (record.removed, record.before) == (0, record.after)
    assert [type(node.op) for node in small.nodes] == [type(node.op) for node in network.nodes]
    assert all(torch.equal(a, b) for a, b in zip(small.tensors(), network.tensors(), strict=True))
    assert {new: origin.value for new, origin in record.origins.items()} == {k: k for k in network.relus}


def test_a_channel_without_incoming_weights_goes_and_its_constant_stays():
    network = convolutional({0: [1]}, {})
    small, record = compacted(network)
    assert widths(small) == [3, 4, 4]
    assert record.origins[small.relus[0]].kept.tolist() == [0, 2, 3]
    # The next convolution pads: the constant channel is missing at the border, so its share depends on the place.
    following = small.nodes[2].op
    assert isinstance(following, Conv) and following.bias is not None
    assert following.bias.shape == (4, 3, 3)
    assert not torch.allclose(following.bias[:, 0, 0], following.bias[:, 1, 1])


def test_behind_a_convolution_without_padding_the_bias_stays_one_number_a_channel():
    small, _ = compacted(convolutional({2: [0, 3]}, {}))
    assert widths(small) == [4, 2, 4]
    following = small.nodes[4].op
    assert isinstance(following, Conv) and following.bias is not None and following.bias.shape == (4, 1, 1)


def test_a_channel_that_nothing_reads_goes_without_a_trace():
    network = convolutional({}, {2: [1, 2]})
    small, _ = compacted(network)
    assert widths(small) == [2, 4, 4]
    first, following = small.nodes[0].op, small.nodes[2].op
    assert isinstance(first, Conv) and isinstance(following, Conv) and isinstance(network.nodes[2].op, Conv)
    assert first.bias is not None and first.bias.shape == (2, 1, 1)
    assert following.bias is not None and torch.equal(following.bias, network.nodes[2].op.bias)


def test_death_spreads_in_both_directions():
    layers = model()
    with torch.no_grad():
        layers[4].weight[0] = 0
        layers[4].weight[1:, 3] = 0  # now only the dead channel reads channel 3 of layer 2
        layers[2].weight[:3, 1] = 0  # and only that one reads channel 1 of layer 0
    small, _ = compacted(lower(layers, shape=SHAPE))
    assert widths(small) == [3, 3, 3]


def test_constants_spread_through_the_layers():
    layers = model()
    with torch.no_grad():
        layers[0].weight[1] = 0
        layers[2].weight[2, [0, 2, 3]] = 0  # reads the constant channel only, with padding
        layers[4].weight[3, [0, 1, 3]] = 0  # reads the constant channel behind it only
    small, _ = compacted(lower(layers, shape=SHAPE))
    assert widths(small) == [3, 3, 3]


def test_a_flattened_channel_takes_its_columns_with_it():
    small, record = compacted(convolutional({4: [2]}, {}))
    last = small.nodes[-1].op
    assert isinstance(last, Dense) and last.weight.shape == (3, 12)
    assert record.before.parameters - record.after.parameters == (4 * 4 + 1) + 3 * 4


def test_a_network_of_which_nothing_is_left_is_a_constant():
    network = convolutional({4: [0, 1, 2, 3]}, {})
    small, record = compacted(network)
    assert (small.neurons, small.outputs, dict(record.origins)) == (0, 3, {})
    assert record.after.nonzero == 0
    assert all(units.after == 0 for units in record.units)
    x = inputs(network).requires_grad_()
    small(x).sum().backward()
    assert x.grad is not None and not x.grad.any()


def test_the_record_counts_what_was_there_and_what_is_left():
    network = convolutional({0: [1]}, {2: [0]})
    small, record = compacted(network)
    assert [units.value for units in record.units] == list(range(1, network.output + 1))
    assert [units.name for units in record.units] == [node.name for node in network.nodes]
    channels = [(units.before, units.after) for units in record.units]
    assert channels == [(4, 2), (4, 2), (4, 4), (4, 4), (4, 4), (4, 4), (16, 16), (3, 3)]
    assert record.before.neurons == network.neurons == 4 * 36 + 4 * 9 + 4 * 4
    assert record.removed == 2 * 36
    weights = [4 * 2 * 9, 4 * 4 * 9, 4 * 4 * 4, 3 * 16]
    assert record.before.parameters == sum(weights) + 3 * 4 + 3
    assert record.before.nonzero == sum(weights) - 2 * 9 - 4 * 9
    # Of layer 2 the reader of the constant channel goes too: its weights are in the bias now.
    assert record.after.nonzero == record.before.nonzero - 2 * 9 - 4 * 9
    assert (record.before.multiply_adds, record.after.multiply_adds) == (network.cost(), small.cost())


def test_the_record_cannot_be_changed():
    small, record = compacted(convolutional({0: [1]}, {}))
    with pytest.raises(TypeError):
        record.origins[0] = record.origins[small.relus[0]]  # type: ignore[index]


def test_every_relu_says_where_it_comes_from():
    network = convolutional({0: [1], 4: [0]}, {2: [0]})
    small, record = compacted(network)
    x = inputs(network)
    old, new = network.run(x), small.run(x)
    assert tuple(record.origins) == small.relus
    for value, origin in record.origins.items():
        torch.testing.assert_close(new[value], old[origin.value][:, origin.kept], rtol=1e-10, atol=1e-10)


def residual(*, branch: list[int], shortcut: list[int]) -> Network:
    """A residual block over 4 channels with dead channels at the end of its branch and in its shortcut."""
    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(4, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 4, 3, padding=1))
    stem = nn.Conv2d(2, 4, 3)
    with torch.no_grad():
        body[2].weight[branch] = 0
        stem.weight[shortcut] = 0
    layers = [stem, nn.ReLU(), Residual(body, nn.Identity()), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)]
    return lower(nn.Sequential(*layers).double(), shape=SHAPE)


def test_in_a_sum_a_channel_goes_only_where_it_can_go_in_every_part():
    assert widths(compacted(residual(branch=[0], shortcut=[1]))[0]) == [4, 3, 4]
    assert widths(compacted(residual(branch=[0, 2], shortcut=[2, 3]))[0]) == [3, 3, 3]


def test_a_dead_branch_leaves_its_constant_and_takes_the_sum_with_it():
    small, record = compacted(residual(branch=[0, 1, 2, 3], shortcut=[]))
    assert widths(small) == [4, 4]
    assert not any(isinstance(node.op, Add) for node in small.nodes)
    assert [units.after for units in record.units if units.name == "2.body.1"] == [0]


def test_a_dead_shortcut_leaves_the_branch_nothing_to_do():
    small, _ = compacted(residual(branch=[], shortcut=[0, 1, 2, 3]))
    assert small.neurons == 0


def test_a_unit_that_only_a_sum_keeps_is_harmless():
    builder = Builder((3,))
    hidden = builder.relu(builder.emit(Dense(draw(4, 3), draw(4)), 0), "first")
    branch = builder.emit(Dense(draw(4, 4), draw(4)), hidden)
    total = builder.relu(builder.add(hidden, branch), "second")
    unread = torch.tensor([1.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    network = builder.finish(builder.emit(Dense(draw(2, 4) * unread, draw(2)), total))
    small, _ = compacted(network)
    assert widths(small) == [4, 4]


def test_batch_norm_with_a_zero_scale_kills_its_channel():
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    with torch.no_grad():
        model[1].weight[1:3] = 0
        model[1].bias[1] = 2.0
    assert widths(compacted(lower(model, shape=SHAPE))[0]) == [2]


def grouped(weight: Tensor) -> Network:
    """Six channels through a convolution in three groups of two."""
    builder = Builder((2, 6, 6))
    x = builder.relu(builder.emit(Conv(draw(6, 2, 3, 3), draw(6, 1, 1)), 0))
    y = builder.relu(builder.emit(Conv(weight, draw(6, 1, 1), (1, 1), (1, 1), 3), x))
    return builder.finish(builder.emit(Dense(draw(2, 96), draw(2)), builder.flatten(y)))


def groups(network: Network) -> list[int]:
    return [node.op.groups for node in network.nodes if isinstance(node.op, Conv)]


def test_groups_go_as_a_whole():
    weight = draw(6, 2, 3, 3)
    weight[2:4] = 0
    weight[0] = 0
    small, _ = compacted(grouped(weight))
    assert (widths(small), groups(small)) == ([4, 4], [1, 2])


def test_the_last_group_is_an_ordinary_convolution():
    weight = draw(6, 2, 3, 3)
    weight[1:, 0] = 0
    weight[:3] = 0
    weight[4:] = 0
    small, _ = compacted(grouped(weight))
    assert (widths(small), groups(small)) == ([1, 1], [1, 1])


def test_a_pooled_channel_goes_with_all_of_its_comparisons():
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2)
    )
    with torch.no_grad():
        model[0].weight[3] = 0
        model[4].weight[:, :9] = 0
    small, _ = compacted(lower(model, shape=SHAPE))
    assert widths(small) == [2] * 4


def through(*ops: Affine | Relu) -> Network:
    """Four channels through ``ops`` to a linear layer; number 1 is constant, number 2 unread at the end."""
    builder = Builder((2, 4, 4))
    weight = draw(4, 2, 3, 3)
    weight[1] = 0
    x = builder.relu(builder.emit(Conv(weight, draw(4, 1, 1), (1, 1), (1, 1)), 0))
    for op in ops:
        x = builder.emit(op, x)
    shape = builder.shapes[x]
    matrix = draw(2, *shape)
    if shape[0] == 4:
        matrix[:, 2] = 0
    flat = builder.flatten(x)
    return builder.finish(builder.emit(Dense(matrix.reshape(2, -1), draw(2)), flat))


PATHS = {
    "scale": ([Scale(draw(4, 1, 1), draw(4, 4))], [2]),
    "shift per pixel": ([Scale(torch.ones((), dtype=torch.float64), draw(4, 4, 4))], [2]),
    "pad": ([Pad((1, 1, 0, 2))], [2]),
    "padded channels": ([Pad((0, 0, 0, 0, 1, 1))], [4]),
    "transposed images": ([Permute((0, 2, 1))], [2]),
    "channels last": ([Permute((1, 2, 0))], [4]),
    "a picked row": ([Select(1, torch.tensor([1]))], [2]),
    "picked channels": ([Select(0, torch.tensor([3, 1, 3]))], [1]),
    "placed channels": ([Select(0, torch.tensor([4, 2, 1, 0]), 6)], [3]),
    "picked and placed": ([Select(0, torch.tensor([0, 1])), Select(0, torch.tensor([5, 3]), 6)], [1]),
    "split channels": ([Reshape((8, 2, 4)), Relu()], [3, 6]),
    "joined channels": ([Reshape((2, 8, 4)), Relu()], [4, 2]),
    "rows": ([Reshape((4, 16)), Relu(), Reshape((4, 4, 4))], [2, 2]),
}


@pytest.mark.parametrize("name", PATHS)
def test_units_are_followed_through(name):
    ops, expected = PATHS[name]
    small, _ = compacted(through(*ops))
    assert widths(small) == expected


def test_a_concatenation_loses_the_channels_of_each_part():
    builder = Builder((2, 4, 4))
    parts = []
    for dead in (0, 2):
        weight = draw(3, 2, 3, 3)
        weight[dead] = 0
        parts.append(builder.relu(builder.emit(Conv(weight, draw(3, 1, 1)), 0)))
    joined = builder.concat(parts, 0)
    out = builder.emit(Conv(draw(4, 6, 2, 2), draw(4, 1, 1), (1, 1), (1, 1)), joined)
    small, _ = compacted(builder.finish(out))
    assert widths(small) == [2, 2]


def test_the_input_and_the_output_keep_all_of_their_units():
    builder = Builder((4,))
    first = draw(5, 4)
    first[:, 1] = 0
    last = draw(3, 5)
    last[2] = 0
    hidden = builder.relu(builder.emit(Dense(first, draw(5)), 0))
    small, _ = compacted(builder.finish(builder.emit(Dense(last, draw(3)), hidden)))
    assert (small.input_shape, small.outputs, widths(small)) == ((4,), 3, [5])


def test_an_output_that_is_the_input_plus_a_constant():
    builder = Builder((3,))
    dead = builder.relu(builder.emit(Dense(torch.zeros(3, 3, dtype=torch.float64), draw(3).abs()), 0))
    small, _ = compacted(builder.finish(builder.add(0, dead)))
    assert [type(node.op) for node in small.nodes] == [Scale]


def test_compacting_twice_changes_nothing_more():
    small, _ = compact(residual(branch=[0, 2], shortcut=[2, 3]))
    again, record = compact(small)
    assert (record.before, widths(again)) == (record.after, widths(small))


def test_single_precision_networks_are_compacted_too():
    network = convolutional({0: [1]}, {}).to(torch.float32)
    small, record = compact(network)
    assert (small.dtype, record.removed) == (torch.float32, 36)
    x = inputs(network).float()
    torch.testing.assert_close(small(x), network(x), rtol=1e-5, atol=1e-5)


def test_a_result_that_computes_something_else_is_never_returned(monkeypatch):
    module = sys.modules[compact.__module__]  # the package's attribute of that name is the function
    real = module.liveness

    def wrong(network):
        known = real(network)
        return replace(known, level=tuple(level + 1 for level in known.level))

    monkeypatch.setattr(module, "liveness", wrong)
    with pytest.raises(LoweringError, match="differ by"):
        compact(convolutional({0: [1]}, {}))


def test_of_the_study_s_network_little_is_left():
    model = build(ModelSpec("cnn7", (3, 32, 32), 10, (0.5,) * 3, (0.5,) * 3)).eval()
    parameters = dict(model.named_parameters())
    mask = Mask(
        {name: torch.rand(parameters[name].shape, generator=RANDOM) < 0.003 for name in prunable(model)}
    )
    network = lower(model, shape=(3, 32, 32), mask=mask)
    small, record = compact(network)
    assert record.after.multiply_adds < record.before.multiply_adds / 3
    assert small.neurons < network.neurons / 2
