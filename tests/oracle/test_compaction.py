"""Compacted networks against programs of others: onnxruntime, and Torch-Pruning, which removes channels of modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

import certiprune
from certiprune.core.rng import generator
from certiprune.net import compact, lower, onnx_out
from certiprune.net.layers import PositionBias
from certiprune.net.onnx_run import run_onnx, session
from certiprune.net.zoo import ModelSpec, build
from certiprune.prune import certified
from helpers.networks import random_network


@dataclass(frozen=True)
class Case:
    """A model of the zoo, and channels to remove: of each convolution that comes first, with what shares its channels.

    ``with_it`` names, for a convolution whose output is added to others', all that make the sum.
    """

    model: str
    side: int
    channels: dict[str, list[int]]
    with_it: dict[str, list[tuple[str, str]]] = field(default_factory=dict)


def _plain(*names: str) -> dict[str, list[tuple[str, str]]]:
    return {name: [(name, name.replace("conv", "norm"))] for name in names}


CASES = {
    "cnn_small": Case("cnn_small", 8, {"conv1": [0, 5], "conv2": [1, 2, 15]}, _plain("conv1", "conv2")),
    "cnn7": Case(
        "cnn7",
        16,
        {"conv1": [3], "conv2": [0, 1, 9], "conv4": [2, 30], "conv5": [31]},
        _plain("conv1", "conv2", "conv4", "conv5"),
    ),
    "resnet": Case(
        "resnet",
        8,
        {"conv": [1], "block1.body.conv1": [0, 7], "block1.body.conv2": [2, 3], "block2.body.conv2": [5]},
        {
            **_plain("conv", "block1.body.conv1"),
            **{
                f"{block}.body.conv2": [
                    (f"{block}.body.conv2", f"{block}.body.norm2"),
                    (f"{block}.shortcut.conv", f"{block}.shortcut.norm"),
                ]
                for block in ("block1", "block2")
            },
        },
    ),
}


@torch.no_grad()
def masked(case: Case, mean: float) -> nn.Module:
    """The model with random statistics, and the channels set to zero: filters, BatchNorm's scales and shifts."""
    width = 1.0 if case.model == "cnn_small" else 0.25
    spec = ModelSpec(case.model, (1, case.side, case.side), 4, (mean,), (0.3,), width=width)
    model, random = build(spec).eval(), generator(0, "oracle", case.model)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for t in (layer.running_mean, layer.bias):
                t.copy_(torch.randn(len(t), generator=random) * 0.3)
            for t in (layer.running_var, layer.weight):
                t.copy_(0.5 + torch.rand(len(t), generator=random))
    for name, dead in case.channels.items():
        for conv, norm in case.with_it[name]:
            model.get_submodule(conv).weight[dead] = 0
            model.get_submodule(norm).weight[dead] = 0
            model.get_submodule(norm).bias[dead] = 0
    return model


def numbers(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("mean", [0.0, 0.4])
@pytest.mark.parametrize("name", CASES)
def test_torch_pruning_removes_the_same(name: str, mean: float) -> None:
    tp = pytest.importorskip(
        "torch_pruning", reason="Torch-Pruning is not installed (it is in the extra dev)"
    )
    case = CASES[name]
    model = masked(case, mean)
    x = torch.rand(16, 1, case.side, case.side, generator=generator(1, "oracle", name))
    theirs = copy.deepcopy(model)
    for convolution, dead in case.channels.items():
        graph = tp.DependencyGraph().build_dependency(theirs, example_inputs=x[:2])
        layer = theirs.get_submodule(convolution)
        graph.get_pruning_group(layer, tp.prune_conv_out_channels, idxs=dead).prune()
    ours, _ = certiprune.compact(model, shape=x.shape[1:])
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(x), model(x), rtol=1e-4, atol=1e-5)

    # Torch-Pruning keeps BatchNorm, with a scale and a shift for each channel; here its layers are folded into the
    # convolutions, which have a bias for each channel instead. Normalisation, too, is folded into the first one: where
    # it subtracts a mean, that one's bias depends on the place, and three rows times three columns of it differ.
    norms = [layer.num_features for layer in theirs.modules() if isinstance(layer, nn.BatchNorm2d)]
    first = norms[0]
    biases = sum(norms) if mean == 0 else sum(norms) - first + 9 * first
    assert numbers(ours) == numbers(theirs) - 2 * sum(norms) + biases
    assert sum(isinstance(layer, PositionBias) for layer in ours.modules()) == (mean != 0)
    shapes = [
        sorted(tuple(t.shape) for t in m.state_dict().values() if t.dim() in (2, 4)) for m in (ours, theirs)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("seed", range(12))
def test_onnxruntime_computes_the_same_without_what_is_dead_or_provably_stable(seed: int, tmp_path) -> None:
    network = random_network(seed, 16)
    x = torch.rand(12, *network.input_shape, generator=generator(seed, "oracle"))
    x[6:] = x[6:].round()
    small, _, _ = certified.compact(network, steps=3)
    for one in (compact(network)[0], small):
        found = run_onnx(session(onnx_out.write(one, tmp_path / "small.onnx")), x)
        torch.testing.assert_close(found.double(), network(x.double()), rtol=1e-4, atol=1e-5)


def test_the_module_s_file_is_the_network_s(tmp_path) -> None:
    """What ``torch`` computes with the module, onnxruntime computes with the network."""
    model = masked(CASES["resnet"], 0.4)
    x: Tensor = torch.rand(4, 1, 8, 8, generator=generator(2, "oracle"))
    ours, _ = certiprune.compact(model, shape=(1, 8, 8))
    small, _ = compact(lower(model, shape=(1, 8, 8)))
    found = run_onnx(session(onnx_out.write(small, tmp_path / "small.onnx")), x)
    torch.testing.assert_close(found, ours(x), rtol=1e-4, atol=1e-5)
