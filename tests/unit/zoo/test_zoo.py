from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from certiprune.core.errors import ModelError
from certiprune.core.rng import generator
from certiprune.net.prunable import prunable
from certiprune.net.zoo import ModelSpec, Normalise, Residual, build, initialise_, names

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 9, 13)]


def spec_of(name: str, shape: tuple[int, int, int] = (1, 8, 8), **changes: object) -> ModelSpec:
    values = {"classes": 10, "mean": (0.3,) * shape[0], "std": (0.5,) * shape[0], "width": 0.25} | changes
    return ModelSpec(name, shape, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", names())
def test_every_network_gives_one_score_per_class(name: str, shape: tuple[int, int, int]) -> None:
    model = build(spec_of(name, shape)).eval()
    scores = model(torch.rand(3, *shape))
    assert scores.shape == (3, 10) and scores.isfinite().all()
    assert isinstance(model[0], Normalise)


@pytest.mark.parametrize("name", names())
def test_networks_hold_only_layers_that_can_be_bounded(name: str) -> None:
    known = (nn.Sequential, Residual, nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.ReLU, nn.Flatten, Normalise)
    assert all(type(module) in known for module in build(spec_of(name)).modules())


def test_cnn7_is_the_network_of_the_study() -> None:
    model = build(spec_of("cnn7", (3, 32, 32), width=1.0))
    convolutions = [module for module in model if isinstance(module, nn.Conv2d)]
    geometry = [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions]
    assert geometry == [(3, 32, 3, 1), (32, 64, 4, 2), (64, 64, 3, 1), (64, 128, 4, 2), (128, 128, 4, 2)]
    linear = [module for module in model if isinstance(module, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(2048, 100), (100, 10)]
    grey = build(spec_of("cnn7", (1, 28, 28), width=1.0))
    assert grey.get_submodule("hidden").in_features == 1152


def test_width_scales_channels_and_hidden_neurons_but_not_classes() -> None:
    model = build(spec_of("cnn_small", width=0.5))
    assert model.get_submodule("conv1").out_channels == 4
    assert model.get_submodule("hidden").out_features == 50
    assert model.get_submodule("output").out_features == 10
    assert build(spec_of("mlp", width=1e-6)).get_submodule("hidden1").out_features == 1


def test_the_first_layer_normalises_each_channel() -> None:
    layer = Normalise((0.5, 0.0), (0.25, 1.0))
    out = layer(torch.ones(1, 2, 1, 1))
    assert out.flatten().tolist() == [2.0, 1.0]
    assert set(layer.state_dict()) == {"mean", "std"} and not list(layer.parameters())


def test_initial_weights_follow_the_generator_and_leave_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    first = build(spec_of("cnn_small"), generator=generator(1, "a"))
    same = build(spec_of("cnn_small"), generator=generator(1, "a"))
    other = build(spec_of("cnn_small"), generator=generator(2, "a"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.conv1.weight, same.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)
    assert torch.equal(build(spec_of("mlp")).output.weight, build(spec_of("mlp")).output.weight)


def test_initialise_resets_batch_norm_and_stays_within_the_default_bound() -> None:
    model = build(spec_of("cnn_small"))
    model.norm1.running_mean.fill_(3.0)
    nn.init.constant_(model.norm1.weight, 7.0)
    initialise_(model, generator(0, "again"))
    assert (model.norm1.running_mean == 0).all() and (model.norm1.weight == 1).all()
    weight = model.hidden.weight
    bound = weight.shape[1] ** -0.5
    assert weight.abs().max() <= bound and weight.abs().max() > 0.9 * bound


def test_weights_for_interval_bounds_have_the_deviation_of_the_paper() -> None:
    """Shi et al. 2021: normal with standard deviation sqrt(2 pi) / fan_in, and no biases."""
    model = build(spec_of("cnn_b", width=1.0), generator=generator(3), initial="ibp")
    for name, fan_in in (("conv1", 25), ("conv2", 16 * 32), ("hidden", 128 * 2 * 2)):
        layer = model.get_submodule(name)
        deviation = math.sqrt(2 * math.pi) / fan_in
        weight, count = layer.weight.detach(), layer.weight.numel()
        assert float(weight.std()) == pytest.approx(deviation, rel=4 / count**0.5)
        assert abs(float(weight.mean())) < 4 * deviation / count**0.5
        assert not layer.bias.any()
    again = build(spec_of("cnn_b", width=1.0), generator=generator(3), initial="ibp")
    assert torch.equal(model.output.weight, again.output.weight)


def test_those_weights_keep_intervals_as_wide_as_they_are() -> None:
    """The mean radius is about the same before and behind a layer with its ReLU, and grows by default."""

    @torch.no_grad()
    def growth(initial: str) -> float:
        layers = [nn.Linear(400, 400) for _ in range(4)]
        model = nn.Sequential(*layers)
        initialise_(model, generator(0), initial)
        low, high = torch.full((1, 400), -0.1), torch.full((1, 400), 0.1)
        for layer in layers:
            centre, radius = (low + high) / 2, (high - low) / 2
            centre, radius = layer(centre), radius @ layer.weight.abs().T
            low, high = (centre - radius).relu(), (centre + radius).relu()
        return float((high - low).mean() / 0.2)

    assert 0.7 < growth("ibp") < 1.4
    assert growth("default") > 100


@pytest.mark.parametrize(
    ("name", "shape", "fragment"),
    [("cnn7", (1, 4, 4), "conv5"), ("cnn_small", (1, 3, 9), "conv2"), ("cnn_b", (1, 1, 1), "conv2")],
)
def test_images_that_are_too_small_are_refused_by_name(
    name: str, shape: tuple[int, int, int], fragment: str
) -> None:
    with pytest.raises(ModelError, match=f"{name} does not fit images of {shape[1]}x{shape[2]}.*{fragment}"):
        build(spec_of(name, shape))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ModelError, match="no model called 'cnn8'; did you mean cnn7"):
        build(spec_of("cnn8"))
    with pytest.raises(ModelError, match="choose one of cnn7"):
        build(spec_of("zzz"))
    with pytest.raises(ModelError, match="no initialisation called 'ipb'; did you mean ibp"):
        build(spec_of("mlp"), initial="ipb")


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"mean": (0.1, 0.2)}, "mean has 2 and std 1"),
        ({"std": (0.0,)}, "std must be above 0"),
        ({"mean": (float("nan"),)}, "mean must be finite"),
        ({"width": -1.0}, "width must be above 0"),
        ({"classes": 1}, "at least 2 classes"),
    ],
)
def test_a_spec_checks_its_values(change: dict[str, object], fragment: str) -> None:
    with pytest.raises(ModelError, match=fragment):
        spec_of("mlp", **change)


def test_a_spec_made_from_lists_equals_one_made_from_tuples() -> None:
    assert ModelSpec("mlp", [1, 8, 8], 10, [0.3], [0.5]) == ModelSpec("mlp", (1, 8, 8), 10, (0.3,), (0.5,))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="shape is"):
        ModelSpec("mlp", (8, 8), 10, (0.0,), (1.0,))  # type: ignore[arg-type]


def test_convolutions_are_pruned_and_linear_layers_only_without_them() -> None:
    assert prunable(build(spec_of("cnn_small"))) == ["conv1.weight", "conv2.weight"]
    assert prunable(build(spec_of("mlp"))) == ["hidden1.weight", "hidden2.weight", "output.weight"]
    assert prunable(build(spec_of("resnet"))) == [
        "conv.weight",
        "block1.body.conv1.weight",
        "block1.body.conv2.weight",
        "block1.shortcut.conv.weight",
        "block2.body.conv1.weight",
        "block2.body.conv2.weight",
        "block2.shortcut.conv.weight",
    ]
    assert prunable(nn.Conv2d(1, 1, 1)) == ["weight"]
