"""Lowering: the network equals the module, the module stays as it was, and what is not supported is named."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from certiprune.core.errors import LoweringError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import lower, prunable
from certiprune.net.zoo import ModelSpec, build, names

SHAPE = (3, 8, 8)


def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give every BatchNorm statistics and weights that change its input."""
    random = generator(seed, "statistics")
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                for tensor in (layer.running_mean, layer.weight, layer.bias):
                    if tensor is not None:
                        tensor.normal_(generator=random)
                layer.running_var.uniform_(0.3, 3, generator=random)
    return model.eval()


def probe(n: int = 5, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.randn(n, *shape, generator=generator(1, "probe"), dtype=torch.float64)


def assert_same(module: nn.Module, shape: tuple[int, ...] = SHAPE) -> None:
    network = lower(module, shape=shape)
    x = probe(shape=shape)
    expected = copy.deepcopy(module).double().eval()(x).flatten(1)
    torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", names())
def test_every_model_of_the_zoo_lowers_to_what_it_computes(name):
    spec = ModelSpec(name, SHAPE, 4, (0.1, 0.4, 0.6), (0.2, 0.3, 0.4), width=0.25)
    assert_same(randomise_(build(spec)))


class Functional(nn.Module):
    """Functional calls, sizes, a residual sum and arithmetic with parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, stride=(2, 1))
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.linear = nn.Linear(4 * 4 * 8, 5)
        self.gain = nn.Parameter(torch.tensor([0.5, 2.0, -1.0]))
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x - self.mean.view(1, -1, 1, 1)) / (self.gain.abs()[None, :, None, None] + 1e-2)
        x = F.relu(self.conv(x))
        x = torch.relu(0.5 - self.second(x) * 3) + x
        x = x.contiguous().view(x.size(0), -1)
        return self.linear(F.dropout(x, 0.5, self.training)) / 2


class Shapes(nn.Module):
    """Reshapes that ask for every size, and method calls."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 4 * 4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n, channels = x.shape[:2]
        x = F.avg_pool2d(x.relu(), 2)
        x = x.reshape(n, channels, x.shape[2] * x.shape[3]).reshape(-1, channels, 4, 4)
        return self.linear(x.flatten(start_dim=1))


class Nested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), nn.MaxPool2d(2)])
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for part in self.parts:
            x = part(x)
        return self.head(x)


MODULES = {
    "functional": Functional,
    "shapes": Shapes,
    "nested": Nested,
    "batch norm of neurons": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)
    ),
    "batch norm without weights": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.Identity(), nn.ReLU(), nn.Flatten()
    ),
    "batch norm first": lambda: nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    ),
    "batch norm after a ReLU": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3, padding=1), nn.Flatten()
    ),
    "pooling": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 1, 1, count_include_pad=False),
        nn.Flatten(),
    ),
    "no ReLU": lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)),
    "an output that is an image": lambda: nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()),
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_lowers_to_what_it_computes(name):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = MODULES[name]()
    assert_same(randomise_(module))


def test_evaluation_mode_counts_and_the_module_stays_as_it_was():
    module = Functional().train()
    module.conv.eval()
    before = (set(vars(module)), {name: t.clone() for name, t in module.state_dict().items()})
    network = lower(module, shape=SHAPE)
    assert (module.training, module.conv.training, module.linear.training) == (True, False, True)
    assert set(vars(module)) == before[0]
    assert all(torch.equal(t, before[1][name]) for name, t in module.state_dict().items())
    torch.testing.assert_close(network(probe()), copy.deepcopy(module).double().eval()(probe()))


def test_the_network_does_not_change_when_the_module_trains_on():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double()
    network = lower(module, shape=SHAPE)
    before = network(probe())
    with torch.no_grad():
        module[1].weight.zero_()
    assert torch.equal(network(probe()), before)


def test_a_mask_makes_weights_zero_in_the_network_only():
    module = randomise_(build(ModelSpec("cnn_small", SHAPE, 4, (0.5,) * 3, (0.5,) * 3, width=0.5)))
    parameters = dict(module.named_parameters())
    random = generator(2, "mask")
    mask = Mask(
        {name: torch.rand(parameters[name].shape, generator=random) < 0.3 for name in prunable(module)}
    )
    before = {name: t.clone() for name, t in module.state_dict().items()}
    network = lower(module, shape=SHAPE, mask=mask)
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    mask.apply_(module)
    torch.testing.assert_close(network(probe()), module.double()(probe()))


def test_in_single_precision_the_gradient_reaches_the_parameters():
    module = randomise_(build(ModelSpec("cnn_small", SHAPE, 4, (0.5,) * 3, (0.5,) * 3, width=0.5)))
    x = probe().float()
    lower(module, shape=SHAPE, dtype=torch.float32)(x).square().sum().backward()
    ours = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    module(x).square().sum().backward()
    assert set(ours) == {name for name, _ in module.named_parameters()}
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-3, atol=1e-3)


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers)


def poisoned() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    return model


class Calls(nn.Module):
    """Any forward."""

    def __init__(self, call) -> None:
        super().__init__()
        self.call, self.scale = call, nn.Parameter(torch.ones(3, 1, 1))

    def forward(self, x):
        return self.call(x, self)


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


REFUSED = {
    "an unsupported layer": (sequential(nn.Conv2d(3, 2, 1), nn.Sigmoid()), r"^1: the layer Sigmoid\(\) is not"),
    "one deep inside": (sequential(sequential(nn.Identity(), nn.GELU())), "0.1: the layer GELU"),
    "a dilated convolution": (sequential(nn.Conv2d(3, 2, 3, dilation=2)), "0: the layer Conv2d"),
    "padding by reflection": (sequential(nn.Conv2d(3, 2, 3, padding=1, padding_mode="reflect")), "0: the layer"),
    "pooling with ceil_mode": (sequential(nn.MaxPool2d(3, ceil_mode=True)), "0: the layer MaxPool2d"),
    "average pooling with ceil_mode": (sequential(nn.AvgPool2d(3, ceil_mode=True)), "0: average pooling with"),
    "pooling to several pixels": (sequential(nn.AdaptiveAvgPool2d(2)), "0: the layer AdaptiveAvgPool2d"),
    "flattening a part": (sequential(nn.Flatten(2)), "0: the layer Flatten"),
    "weights that are not numbers": (poisoned(), "^0: the weight holds NaN or infinite numbers"),
    "batch norm of the batch": (
        sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        "1: batch norm without running statistics",
    ),
    "too many channels": (sequential(nn.Conv2d(5, 2, 1)), "0: a convolution of 5 channels does not fit"),
    "a linear layer on an image": (sequential(nn.Linear(8, 2)), "0: a linear layer of 8 inputs does not fit"),
    "a linear layer of another size": (sequential(nn.Flatten(), nn.Linear(7, 2)), "1: a linear layer of 7 inputs"),
    "a forward that depends on values": (Calls(lambda x, m: x if x.sum() > 0 else -x), "Calls cannot be traced"),
    "a forward that fails": (Calls(lambda x, m: m.missing), "Calls cannot be traced .*'missing'"),
    "a loop over the batch": (Calls(lambda x, m: sum(len(x) * [x])), "Calls cannot be traced"),
    "an operation": (Calls(lambda x, m: torch.exp(x)), "exp: the operation exp is not supported"),
    "an operation of a method": (Calls(lambda x, m: x.sigmoid()), "sigmoid: the operation sigmoid"),
    "indexing": (Calls(lambda x, m: x[:, :1]), "the operation getitem is not supported"),
    "a product of values": (Calls(lambda x, m: x * x), "mul: a product or quotient of two values"),
    "a quotient by a value": (Calls(lambda x, m: m.scale / x), "a product or quotient of two values"),
    "a weighted sum": (Calls(lambda x, m: torch.add(x, x, alpha=2)), "add: the operation add is not supported"),
    "arithmetic with the batch": (Calls(lambda x, m: x.view(x.size(0) * 2, -1)), "the batch size is not supported"),
    "a reshape of the batch": (Calls(lambda x, m: x.view(2, -1)), "must keep the batch dimension first"),
    "flattening the batch": (Calls(lambda x, m: torch.flatten(x)), "flatten: the operation flatten"),
    "dropout that never ends": (Calls(lambda x, m: F.dropout(x, 0.5)), "dropout: the operation dropout"),
    "two inputs": (Two(), "a model must have one input, not 2"),
    "no input": (Calls(lambda x, m: m.scale * 2), "one output tensor that depends on its input"),
    "two outputs": (Calls(lambda x, m: (x, x)), "one output tensor that depends on its input"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(name):
    module, message = REFUSED[name]
    with pytest.raises(ModelError, match=message):
        lower(module, shape=SHAPE)


class Moody(nn.Module):
    """Computes something else when it is run than when it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(192, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x.flatten(1))
        return y if isinstance(x, torch.fx.Proxy) else y * 1.001


def test_a_network_that_differs_from_its_module_is_never_returned():
    with pytest.raises(LoweringError, match=r"the network and the model differ by .* on a probe"):
        lower(Moody(), shape=SHAPE)


def test_the_comparison_uses_the_given_probe():
    module = Moody()
    with torch.no_grad():
        module.linear.bias.zero_()
    lower(module, shape=SHAPE, probe=torch.zeros(2, *SHAPE))
    with pytest.raises(LoweringError):
        lower(module, shape=SHAPE, probe=torch.ones(2, *SHAPE))


def test_a_probe_of_another_shape_is_a_mistake_with_a_name():
    with pytest.raises(ModelError, match="cannot be run on inputs"):
        lower(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), shape=SHAPE, probe=torch.zeros(2, 3, 4, 4))
