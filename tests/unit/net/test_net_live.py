"""A module in training is the network that is read from it: values, gradients, and BatchNorm's bookkeeping."""

from __future__ import annotations

import copy
from itertools import combinations

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.nn.functional import relu

from certiprune.attack import frozen_statistics
from certiprune.core.errors import ModelError
from certiprune.net.live import Live, _BatchNormalise
from certiprune.net.zoo import ModelSpec, build
from helpers.networks import Source
from helpers.training import MODELS, SHAPE, Own, batch, pooled, shaken

ZOO = {"cnn_small": 0.5, "cnn7": 0.05, "resnet": 0.1, "cnn_b": 0.2, "mlp": 0.1}


def zoo(name: str) -> nn.Module:
    return shaken(build(ModelSpec(name, (2, 8, 8), 4, (0.4, 0.5), (0.3, 0.2), width=ZOO[name])), 1)


def made(name: str) -> tuple[nn.Module, Tensor]:
    """A model and images for it."""
    if name in ZOO:
        return zoo(name), batch(0, 5, (2, 8, 8), 4).images
    return {**MODELS, "pooled": pooled}[name](1), batch(0, 5).images


def live(module: nn.Module, images: Tensor) -> Live:
    return Live(module, tuple(images.shape[1:]))


def gradients(value: Tensor, module: nn.Module) -> dict[str, Tensor]:
    names = dict(module.named_parameters())
    found = torch.autograd.grad(value, list(names.values()), materialize_grads=True, allow_unused=True)
    return dict(zip(names, found, strict=True))


def assert_near(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert list(left) == list(right)
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", [*ZOO, *MODELS, "pooled"])
def test_values_gradients_and_statistics_are_the_modules(name: str, training: bool) -> None:
    module, images = made(name)
    module.train(training)
    other = copy.deepcopy(module)
    network, outputs = live(module, images)(images)
    expected = other(images)
    torch.testing.assert_close(outputs, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(network(images), expected, rtol=1e-9, atol=1e-10)
    # The module's own kernels keep the statistics, so that they are equal bit for bit.
    before = dict(other.named_buffers())
    assert all(torch.equal(buffer, before[key]) for key, buffer in module.named_buffers())
    weight = Source.of(3).normal(*expected.shape)
    wanted = gradients((weight * expected).sum(), other)
    assert_near(gradients((weight * outputs).sum(), module), wanted)
    assert_near(gradients((weight * live(module, images)(images)[0](images)).sum(), module), wanted)
    assert module.training == training and all(p.grad is None for p in module.parameters())


def test_elsewhere_it_normalises_by_the_clean_batch_with_gradients_through_its_statistics() -> None:
    module = shaken(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)), 5
    )
    images, points = batch(1).images, batch(2).images
    weight = Source.of(4).normal(6, 2)

    def explicit() -> Tensor:
        conv, norm, _, _, last = module
        clean = conv(images)
        mean = clean.mean((0, 2, 3))[:, None, None]
        var = (clean - mean).square().mean((0, 2, 3))[:, None, None]
        x = (conv(points) - mean) / (var + norm.eps).sqrt()  # type: ignore[operator]
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]  # type: ignore[index]
        return last(relu(x).flatten(1))

    network, _ = live(module, images)(images)
    torch.testing.assert_close(network(points), explicit())
    wanted = gradients((weight * explicit()).sum(), module)
    assert_near(gradients((weight * network(points)).sum(), module), wanted)


@pytest.mark.parametrize("shape", [(5, 3), (3, 3, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_the_gradients_of_a_normalisation_and_its_statistics(shape: tuple[int, ...], affine: bool) -> None:
    source = Source.of(8)
    x = source.normal(*shape).requires_grad_()
    weight, bias = ((source.normal(3).requires_grad_() if affine else None) for _ in range(2))
    for count in (1, 2, 3):
        for wanted in combinations(range(3), count):

            def outputs(*given: Tensor, wanted: tuple[int, ...] = wanted) -> tuple[Tensor, ...]:
                w, b = given[1:] if affine else (None, None)
                made = _BatchNormalise.apply(given[0], w, b, None, None, 0.0, 1e-3)
                return tuple(made[k] for k in wanted)

            assert gradcheck(outputs, (x, weight, bias) if affine else (x,))
    _, mean, invstd = _BatchNormalise.apply(x, weight, bias, None, None, 0.0, 1e-3)
    over = (0, *range(2, x.dim()))
    torch.testing.assert_close(mean, x.mean(over))
    torch.testing.assert_close(invstd, (x.var(over, unbiased=False) + 1e-3).rsqrt())


def test_a_normalisation_of_constants_has_gradients_to_its_scale_alone() -> None:
    x, weight, bias = batch().images.expand(6, 3, 4, 4), torch.ones(3).double(), torch.zeros(3).double()
    weight.requires_grad_()
    y, mean, invstd = _BatchNormalise.apply(x, weight, bias, None, None, 0.0, 1e-5)
    (y.square().sum() + mean.sum() + invstd.sum()).backward()
    assert weight.grad is not None and x.grad is None
    torch.testing.assert_close(
        weight.grad, torch.full((3,), 2.0 * x[:, 0].numel()).double(), rtol=1e-3, atol=0
    )


@pytest.mark.parametrize(
    "options",
    [{"momentum": None}, {"momentum": 0.3}, {"affine": False}, {"eps": 0.1}],
    ids=lambda given: next(iter(given)),
)
def test_every_kind_of_batch_norm(options: dict[str, float | None]) -> None:
    module = shaken(
        nn.Sequential(
            nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, **options), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
        ),
        3,  # type: ignore[arg-type]
    )
    other = copy.deepcopy(module)
    for seed in (0, 1, 2):
        images = batch(seed).images
        network, outputs = live(module, images)(images)
        torch.testing.assert_close(outputs, other(images))
        torch.testing.assert_close(network(images), outputs)
        assert all(torch.equal(a, b) for a, b in zip(module.buffers(), other.buffers(), strict=True))
    assert int(module.get_buffer("1.num_batches_tracked")) == 3


def test_frozen_statistics_stay_and_change_nothing_else() -> None:
    module, images = made("own")
    before = {name: t.clone() for name, t in module.named_buffers()}
    with frozen_statistics(module):
        network, outputs = live(module, images)(images)
    assert all(torch.equal(before[name], t) for name, t in module.named_buffers())
    again, expected = live(module, images)(images)
    assert torch.equal(outputs, expected) and torch.equal(network(images), again(images))
    assert not torch.equal(before["norm1.running_mean"], module.get_buffer("norm1.running_mean"))


def test_a_part_in_evaluation_mode_keeps_its_statistics() -> None:
    module, images = made("own")
    module.get_submodule("norm2").eval()
    other = copy.deepcopy(module)
    network, _ = live(module, images)(images)
    torch.testing.assert_close(network(images), other(images))
    assert int(module.get_buffer("norm2.num_batches_tracked")) == 0
    assert int(module.get_buffer("norm1.num_batches_tracked")) == 1


def test_one_live_follows_its_modules_weights_and_mode() -> None:
    module, images = made("own")
    one = live(module, images)
    for step in range(3):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(0.1)
        module.train(step != 1)
        network, outputs = one(images)
        torch.testing.assert_close(network(images), copy.deepcopy(module)(images))
        torch.testing.assert_close(network(images), outputs)


def test_a_module_in_single_precision_keeps_it() -> None:
    module, images = made("own")
    module.float()
    network, outputs = live(module, images)(images.float())
    assert network.dtype == torch.float32
    torch.testing.assert_close(network(images.float()), outputs)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(relu(self.norm(self.layer(x))))


def test_a_norm_that_is_used_twice_is_named() -> None:
    module = Twice()
    with pytest.raises(ModelError, match="norm: a BatchNorm layer that is used twice"):
        Live(module, (4,))(torch.rand(3, 4))
    network, outputs = Live(module.eval(), (4,))(torch.rand(3, 4))
    assert network.outputs == outputs.shape[1] == 4


@pytest.mark.parametrize("training", [True, False])
def test_a_norm_without_running_statistics_is_refused(training: bool) -> None:
    """Its evaluation would depend on the batch: nothing could be proved of it later."""
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False)).train(training)
    with pytest.raises(ModelError, match="1: batch norm without running statistics depends on the batch"):
        Live(module, (4,))(torch.rand(3, 4))


def test_one_value_is_no_batch() -> None:
    """As torch says itself, instead of running statistics that are not a number."""
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        module(torch.rand(1, 4))
    with pytest.raises(ModelError, match="1: BatchNorm in training needs more than 1 value per channel"):
        Live(module, (4,))(torch.rand(1, 4))
    assert bool(module.get_buffer("1.running_var").isfinite().all())


def test_what_cannot_be_traced_is_named() -> None:
    class Choosing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(ModelError, match="Choosing cannot be traced"):
        Live(Choosing(), SHAPE)(torch.rand(2, *SHAPE))


def test_the_norm_before_each_relu_is_known() -> None:
    module = Own()
    found = live(module, batch().images).norms
    assert found == {"relu": (module.norm1, None), "relu_2": (module.norm3,)}


def test_steps_that_nothing_reads_are_not_counted() -> None:
    class Idle(Own):
        def forward(self, x: Tensor) -> Tensor:
            self.relu(x)
            return super().forward(x)

    module = Idle()
    assert live(module, batch().images).norms["relu"] == (module.norm1, None)


@pytest.mark.parametrize("number", [torch.nan, -torch.inf])
def test_weights_that_are_no_numbers_are_named_outside_of_training(number: float) -> None:
    """Behind a ReLU what is minus infinite looks like a dead neuron, and bounds would say so."""
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 2))
    with torch.no_grad():
        module.get_parameter("0.bias")[0] = number
    images = torch.rand(4, 2, 5, 5)
    of = live(module.eval(), images)
    for ask in (of, of.fixed):
        with pytest.raises(ModelError, match=r"^0: the bias holds NaN or infinite numbers"):
            ask(images)
