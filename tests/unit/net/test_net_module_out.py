"""Plain modules of networks: the same function in torch's layers, to be copied, saved, trained and read again."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

import certiprune
from certiprune.core.errors import InputError, LoweringError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import Network, lower, module_out
from certiprune.net.build import Builder
from certiprune.net.module_out import module
from certiprune.net.network import Node
from certiprune.net.ops import Affine, Conv, Dense, Pad, Permute, Relu, Reshape, Scale, Select
from certiprune.net.zoo import ModelSpec, build, names
from helpers.reduced import NAMES, network_of

RANDOM = generator(0, "module out")
IMAGE = (3, 6, 5)
F64 = torch.float64


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=RANDOM, dtype=F64)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


OPS: dict[str, tuple[Affine | Relu, list[str]]] = {
    "convolution": (Conv(draw(4, 3, 3, 3), draw(4, 1, 1), (2, 1), (1, 0)), ["Conv2d"]),
    "convolution without bias": (Conv(draw(4, 3, 3, 2), None), ["Conv2d"]),
    "bias per position": (Conv(draw(4, 3, 3, 3), draw(4, 6, 5), (1, 1), (1, 1)), ["Conv2d", "PositionBias"]),
    "grouped convolution": (Conv(draw(6, 1, 2, 2), draw(6, 1, 1), (1, 1), (0, 1), 3), ["Conv2d"]),
    "relu": (Relu(), ["ReLU"]),
    "scale and shift": (Scale(draw(3, 1, 1), draw(6, 5)), ["Elementwise"]),
    "scale by a number": (Scale(draw(), None), ["Elementwise"]),
    "shift": (Scale(torch.ones((), dtype=F64), draw(3, 1, 1)), ["Elementwise"]),
    "nothing": (Scale(torch.ones((), dtype=F64), None), ["Identity"]),
    "reshape": (Reshape((5, 18)), ["Flatten", "Unflatten"]),
    "permute": (Permute((1, 2, 0)), ["Permute"]),
    "pad": (Pad((1, 0, 2, 3)), ["ZeroPad2d"]),
    "pad columns": (Pad((1, 0)), ["ZeroPad1d"]),
    "crop rows": (Pad((0, 0, -1, -2)), ["ZeroPad2d"]),
    "pad channels": (Pad((0, 0, 0, 0, 1, 2)), ["ZeroPad3d"]),
    "pick": (Select(2, torch.tensor([4, 0, 0, 1])), ["Pick"]),
    "place": (Select(0, torch.tensor([4, 0, 2]), 6), ["Place"]),
    "entries on top of each other": (Select(0, torch.tensor([1, 0, 1]), 2), ["Place"]),
}


@pytest.mark.parametrize("name", OPS)
def test_every_operation_has_layers_that_are_read_as_itself(name):
    op, layers = OPS[name]
    size = Network((Node(op, (0,)),), IMAGE).outputs
    network = Network((Node(op, (0,), name), Node(Reshape((size,)), (1,), "end")), IMAGE)
    made = module(network, F64)
    assert [type(layer).__name__ for layer in made] == [*layers, "Flatten"]
    x = draw(4, *IMAGE)
    torch.testing.assert_close(made(x), network(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(lower(made, shape=IMAGE)(x), network(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_whole_networks_survive_every_way_of_keeping_them(name):
    for seed in range(3):
        network = network_of(name, seed)
        made = module(network, F64)
        x = draw(4, *network.input_shape)
        torch.testing.assert_close(made(x), network(x), rtol=1e-10, atol=1e-10)
        again = lower(made, shape=network.input_shape)
        torch.testing.assert_close(again(x), network(x), rtol=1e-10, atol=1e-10)
        assert again.neurons == network.neurons or name == "apart"  # two of its ReLUs are read by nothing
        copied = pickle.loads(pickle.dumps(copy.deepcopy(made)))
        assert torch.equal(copied(x), made(x))
        stream = io.BytesIO()
        torch.save(made.state_dict(), stream)
        stream.seek(0)
        with torch.no_grad():
            for p in copied.parameters():
                p.zero_()
        copied.load_state_dict(torch.load(stream))
        assert torch.equal(copied(x), made(x))


def test_a_chain_is_a_sequential_with_the_names_of_the_model():
    model = build(ModelSpec("cnn_small", (1, 8, 8), 4, (0.0,), (0.5,), width=0.5)).eval()
    made = module(lower(model, shape=(1, 8, 8)))
    assert isinstance(made, nn.Sequential)
    found = {name: type(layer) for name, layer in made.named_children()}
    expected = {name: type(layer) for name, layer in model.named_children() if name in found}
    # Folding a shift into a padded convolution makes a bias per position; it is 0, but ``compact`` sees that first.
    assert found.pop("conv1_2") is module_out.PositionBias
    assert found == expected and list(found) == [
        "conv1",
        "relu1",
        "conv2",
        "relu2",
        "flatten",
        "hidden",
        "relu",
        "output",
    ]


def test_names_that_a_module_cannot_have_are_changed():
    nodes = [
        Node(Scale(draw(), None), (k,), name)
        for k, name in enumerate(["a.b", "pop", "training", "code", "a_b", ""])
    ]
    made = module(Network(tuple(nodes), (3,)), F64)
    assert list(dict(made.named_children())) == ["a_b", "pop_", "training_2", "code_", "a_b_2", "elementwise"]


def test_a_module_can_be_trained_further_without_its_network():
    network = network_of("residual_conv", 1, 12)
    before = [t.clone() for t in network.tensors()]
    made = module(network)
    x, y = draw(16, *network.input_shape).float(), torch.arange(16) % 2
    optimiser = torch.optim.SGD(made.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        losses.append(nn.functional.cross_entropy(made(x), y))
        losses[-1].backward()
        assert all(p.grad is not None for p in made.parameters())
        optimiser.step()
    assert losses[-1] < losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, network.tensors(), strict=True))


@pytest.mark.parametrize("name", names())
def test_normalisation_in_front_of_padding_takes_few_parameters(name):
    """Folded into the first convolution it is one number per position, but few of these numbers differ."""
    model = build(ModelSpec(name, (3, 20, 20), 4, (0.3,) * 3, (0.2,) * 3, width=0.25)).eval()
    network = lower(model, shape=(3, 20, 20))
    made = module(network)
    borders = [layer for layer in made.children() if isinstance(layer, module_out.PositionBias)]
    assert all(layer.numbers.shape[1:] == (3, 3) for layer in borders) and len(borders) == (name != "mlp")
    assert parameters(made) <= parameters(model) + 9 * sum(len(layer.numbers) for layer in borders)
    x = draw(4, 3, 20, 20).float()
    torch.testing.assert_close(made(x), model(x), rtol=1e-3, atol=1e-3)


def test_an_operation_without_a_layer_is_named():
    nodes = [Node(Pad((0, 0, 0, 0, 0, 0, 1, 0)), (0,), "odd"), Node(Reshape((2 * 1 * 2 * 2,)), (1,))]
    with pytest.raises(ModelError, match=r"value 1 \(odd\): there is no layer"):
        module(Network(tuple(nodes), (1, 1, 2, 2)), F64)


def test_a_module_that_computes_something_else_is_never_returned(monkeypatch):
    monkeypatch.setattr(module_out, "_own", lambda t: t.detach() + 1)
    with pytest.raises(LoweringError, match="differ by"):
        module(network_of("mlp", 0))


def test_only_an_unflatten_of_a_flat_value_is_read():
    with pytest.raises(ModelError, match="Unflatten"):
        lower(nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Flatten()), shape=(2, 3, 3))


def pruned(seed: int) -> tuple[nn.Module, Mask]:
    model = build(ModelSpec("cnn_small", (1, 8, 8), 4, (0.3,), (0.5,))).eval()
    keep = {name: torch.ones_like(p, dtype=torch.bool) for name, p in model.named_parameters() if p.dim() > 1}
    for name, flags in keep.items():
        if name != "output.weight":
            flags[seed % 2 :: 2] = False
    return model, Mask(keep)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_a_module_is_compacted_to_a_smaller_module(dtype):
    model, mask = pruned(0)
    model = model.to(dtype)
    small, done = certiprune.compact(model, shape=(1, 8, 8), mask=mask)
    assert isinstance(small, nn.Sequential) and {p.dtype for p in small.parameters()} == {dtype}
    masked = copy.deepcopy(model)
    mask.apply_(masked)
    x = torch.rand(8, 1, 8, 8, generator=RANDOM).to(dtype)
    torch.testing.assert_close(small(x), masked(x), rtol=1e-4, atol=1e-5)
    assert parameters(small) < parameters(model) / 2
    assert done.after.neurons == lower(small, shape=(1, 8, 8)).neurons == done.before.neurons / 2
    again, nothing = certiprune.compact(small, shape=(1, 8, 8))
    assert nothing.removed == 0 and parameters(again) == parameters(small)


def test_compact_says_what_it_needs():
    model, mask = pruned(0)
    with pytest.raises(InputError, match="give the shape"):
        certiprune.compact(model)
    with pytest.raises(InputError, match="no shape and no mask"):
        certiprune.compact(lower(model, shape=(1, 8, 8)), mask=mask)


def test_a_constant_network_is_a_module_too():
    builder = Builder((2, 3, 3))
    flat = builder.flatten(0)
    network = builder.finish(builder.emit(Dense(torch.zeros(4, 18, dtype=F64), draw(4)), flat))
    small, _ = certiprune.compact(network)
    x = draw(3, 2, 3, 3)
    torch.testing.assert_close(module(small, F64)(x), network(x))
    assert parameters(module(small, F64)) == 8
