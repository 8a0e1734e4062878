"""Which units there are, and that pruned ones are gone for every input."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError, ModelError
from certiprune.net.zoo import ModelSpec, build
from certiprune.net.zoo import names as zoo_names
from certiprune.prune.coupling import groups
from helpers.training import own, pooled, shaken
from helpers.units import CASES, check_gone, modules, random_units, tied, weights_of

IMAGES = (1, 12, 12)


def zoo(name: str, seed: int = 0) -> nn.Module:
    return shaken(build(ModelSpec(name, IMAGES, 3, (0.4,), (0.5,), width=0.1)), seed).eval()


def convolutions(count: int) -> list[str]:
    return [f"conv{k}" for k in range(1, count + 1)]


@pytest.mark.parametrize(
    ("name", "channels", "neurons"),
    [
        ("cnn7", convolutions(5), ["hidden"]),
        ("cnn_small", convolutions(2), ["hidden"]),
        ("cnn_b", convolutions(2), ["hidden"]),
        ("mlp", ["hidden1", "hidden2"], ["hidden1", "hidden2"]),
        (
            "resnet",
            ["conv", "block1.body.conv1", "block1.body.conv2", "block2.body.conv1", "block2.body.conv2"],
            ["hidden"],
        ),
    ],
)
def test_the_groups_of_the_zoo(name: str, channels: list[str], neurons: list[str]) -> None:
    model = zoo(name)
    assert list(groups(model)) == channels
    assert list(groups(model, layers="linear")) == neurons
    assert list(groups(model, layers="all")) == list(dict.fromkeys(channels + neurons))


def test_a_group_has_all_that_goes_with_its_units() -> None:
    group = groups(zoo("resnet"))["block1.body.conv2"]
    norms = ("block1.body.norm2", "block1.shortcut.norm")
    assert group.size == 3
    assert group.weights == ("block1.body.conv2.weight", "block1.shortcut.conv.weight")
    assert group.scales == tuple(f"{norm}.weight" for norm in norms)
    assert set(group.others) == {f"{norm}.{part}" for norm in norms for part in ("weight", "bias")}
    assert group.readers == ("block2.body.conv1.weight", "block2.shortcut.conv.weight")
    assert group.relus == (("relu1", 0),)
    hidden = groups(zoo("resnet"), layers="linear")["hidden"]
    assert (hidden.others, hidden.readers) == (("hidden.bias",), ("output.weight",))


@pytest.mark.parametrize("layers", ["convolutions", "linear", "all"])
@pytest.mark.parametrize("name", zoo_names())
def test_pruned_units_of_the_zoo_are_gone(name: str, layers: str) -> None:
    model = zoo(name)
    found = groups(model, layers=layers)  # type: ignore[arg-type]
    check_gone(model, found, random_units(found, 3), IMAGES, exact=True)


@pytest.mark.parametrize("name", CASES)
def test_the_groups_of_modules_of_every_kind(name: str) -> None:
    module = CASES[name].module()
    before = copy.deepcopy(module.state_dict())
    assert weights_of(groups(module, layers="all")) == CASES[name].wanted
    assert all(torch.equal(before[key], tensor) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize(
    ("name", "module", "shape"), list(modules()), ids=lambda v: v if isinstance(v, str) else ""
)
def test_pruned_units_of_modules_of_every_kind_are_gone(
    name: str, module: nn.Module, shape: tuple[int, ...]
) -> None:
    found = groups(module, layers="all")
    for seed in range(3):
        check_gone(module, found, random_units(found, seed), shape, exact=True)


def test_a_group_may_go_altogether() -> None:
    model = zoo("resnet")
    found = groups(model, layers="all")
    for name in found:
        units = found.ones()
        units[name][:] = False
        check_gone(model, found, units, IMAGES, exact=False)


def test_the_relus_of_a_group_are_named_by_their_places() -> None:
    found = groups(own(0), layers="all")
    assert weights_of(found) == {"first": ("first.weight", "second.weight"), "hidden": ("hidden.weight",)}
    assert found["first"].relus == (("relu", 0), ("relu", 1))
    assert [place[0] for place in found["hidden"].relus] == ["relu_2"]


def test_layers_with_one_weight_prune_it_once() -> None:
    found = groups(tied(), layers="all")
    assert weights_of(found) == {"first": ("first.weight",), "a": ("a.weight",)}
    assert set(found["a"].others) == {"a.bias", "b.bias"}
    # The weight reads both sets, each at one place, so no column of it is free when one of them is pruned.
    assert found["first"].readers == () and found["a"].readers == ("last.weight",)


def test_what_moves_pruned_units_away_from_0_leaves_nothing_open() -> None:
    assert len(groups(pooled(0), layers="all")) == 0


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(InputError, match="no layers called 'linaer'; did you mean linear"):
        groups(zoo("mlp"), layers="linaer")  # type: ignore[arg-type]

    class Choosing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if bool(x.sum() > 0) else -x

    with pytest.raises(ModelError, match="Choosing cannot be traced"):
        groups(Choosing())
