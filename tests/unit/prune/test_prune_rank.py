"""A round of pruning, of weights and of units, and several in a row."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.experiment.steps.prune import text
from certiprune.net import compact, lower, prunable
from certiprune.net.prunable import Layers
from certiprune.net.zoo import ModelSpec, build
from certiprune.prune import Calibration, prune, rank_and_select, remaining, scores
from certiprune.prune.coupling import groups
from helpers.pruned import pruned_and_mask
from helpers.training import shaken
from helpers.units import check_gone

SHAPE = (1, 8, 8)
OF_UNITS = [name for name in scores.names() if name != "hydra"]  # which ranks weights alone


def model(name: str = "resnet", width: float = 0.2, seed: int = 0) -> nn.Module:
    return shaken(build(ModelSpec(name, SHAPE, 3, (0.4,), (0.5,), width=width)), seed).float().eval()


def data() -> Calibration:
    images = torch.rand(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    return Calibration(Split(images, torch.zeros(4).long()), eps=0.01)


def round_of(network: nn.Module, mask: Mask | None, name: str, keep: int, **options: object):
    method = scores.build(name, **({"iterations": 5} if name == "synflow" else {}))
    return rank_and_select(network, mask, method, data(), keep=keep, generator=generator(0), **options)


@torch.no_grad()
def trained(network: nn.Module, mask: Mask, seed: int) -> nn.Module:
    """The network with all weights moved, as training under the mask would leave it."""
    other, random = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    for parameter in other.parameters():
        parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    mask.apply_(other)
    return other


@pytest.mark.parametrize(
    ("name", "layers"),
    [(name, "convolutions") for name in OF_UNITS] + [(name, "all") for name in OF_UNITS if name != "slim"],
)
def test_units_that_are_gone_stay_gone_round_after_round(name: str, layers: Layers) -> None:
    network, mask = model(), None
    found = groups(network, layers=layers)
    alive = found.ones()
    for number, share in enumerate((0.8, 0.5, 0.3)):
        keep = round(share * alive.total)
        chosen = round_of(network, mask, name, keep, granularity="channels", layers=layers)
        assert (chosen.kept, chosen.total) == (keep, alive.total)
        units = found.units(chosen.mask)
        assert units.kept == keep and units.nested_in(alive)
        assert mask is None or chosen.mask.nested_in(mask)
        network, mask, alive = trained(network, chosen.mask, number), chosen.mask, units
        check_gone(network, found, alive, SHAPE, exact=True)


@pytest.mark.parametrize("name", ["random", "magnitude"])
def test_weights_that_are_gone_stay_gone_round_after_round(name: str) -> None:
    network, mask = model(), None
    for number, keep in enumerate((2000, 1000, 100)):
        chosen = round_of(network, mask, name, keep)
        assert chosen.kept == chosen.mask.kept == keep
        assert mask is None or chosen.mask.nested_in(mask)
        network, mask = trained(network, chosen.mask, number), chosen.mask


def test_fewer_units_are_nested_in_more() -> None:
    network, found = model(), groups(model())
    for scope in ("global", "layer"):
        masks = [
            round_of(network, None, "l1-channel", keep, granularity="channels", scope=scope).mask
            for keep in (30, 20, 10)
        ]
        assert [found.units(mask).kept for mask in masks] == [30, 20, 10]
        if scope == "global":
            assert masks[2].nested_in(masks[1]) and masks[1].nested_in(masks[0])


def test_equal_units_go_by_position() -> None:
    network = model("cnn_small", 0.5)
    with torch.no_grad():
        for layer in ("norm1", "norm2"):
            network.get_submodule(layer).weight.fill_(1.0)
    chosen = round_of(network, None, "slim", 6, granularity="channels")
    units = groups(network).units(chosen.mask)
    # The floor takes the first of each layer; then comes what is left of the first layer, and the second.
    assert units["conv1"].tolist() == [True] * 4
    assert units["conv2"].tolist() == [True] * 2 + [False] * 6


def test_the_floor_holds_a_layer_and_says_so() -> None:
    network = model("cnn_small", 0.5)
    with torch.no_grad():
        network.get_submodule("norm1").weight.mul_(1e-3)
    chosen = round_of(network, None, "slim", 5, granularity="channels")
    assert text(chosen, "channels") == "5 of 12 channels kept; the floor holds conv1"
    units = groups(network).units(chosen.mask)
    assert int(units["conv1"].sum()) == 1 and chosen.floored == ("conv1",)
    assert round_of(network, None, "slim", 11, granularity="channels").floored == ()
    with torch.no_grad():
        network.get_submodule("conv1").weight.mul_(1e-3)
    chosen = round_of(network, None, "magnitude", 20)
    assert chosen.floored == ("conv1.weight",)
    assert text(chosen, "weights") == f"20 of {chosen.total} weights kept; the floor holds conv1"


def test_a_residual_sum_loses_a_channel_in_all_of_its_parts() -> None:
    network = model()
    pruned, mask = pruned_and_mask(network, method="slim", granularity="channels", amount=0.3)
    units = groups(network).units(mask)["block1.body.conv2"]
    assert not bool(units.all())
    for layer in ("body.conv2", "body.norm2", "shortcut.conv", "shortcut.norm"):
        assert not bool(pruned.get_parameter(f"block1.{layer}.weight")[~units].any())


def test_pruning_units_counts_units_and_leaves_the_model() -> None:
    network = model("cnn_small", 1.0)
    before = copy.deepcopy(network.state_dict())
    pruned, mask = pruned_and_mask(network, method="l1-channel", granularity="channels", amount=0.25)
    found = groups(network)
    assert found.units(mask).kept == 24 - round(0.25 * 24)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    again, second = pruned_and_mask(pruned, method="random", granularity="channels", amount=0.5, mask=mask)
    assert found.units(second).kept == 9 and second.nested_in(mask)
    small, _ = compact(lower(again, shape=SHAPE))
    assert [small.shapes[k][0] for k in small.relus][:2] == [
        int(u.sum()) for u in found.units(second).values()
    ]


@pytest.mark.parametrize(
    ("layers", "wanted"), [("linear", {"hidden"}), ("all", {"conv1", "conv2", "hidden"})]
)
def test_which_layers_are_pruned(layers: Layers, wanted: set[str]) -> None:
    network = model("cnn_small")
    units = remaining(network, None, granularity="channels", layers=layers)
    assert set(units) == wanted
    _, mask = pruned_and_mask(network, granularity="channels", layers=layers, amount=0.5)
    assert groups(network, layers=layers).units(mask).kept == units.total - round(units.total / 2)
    pruned, mask = pruned_and_mask(network, layers=layers, amount=0.5)
    assert list(mask) == prunable(network, layers)
    assert not bool(pruned.get_parameter("output.weight").all())


def test_weights_after_units_are_weights_alone() -> None:
    network = model("cnn_small")
    pruned, units = pruned_and_mask(network, method="slim", granularity="channels", amount=0.5)
    left = remaining(pruned, units)
    assert set(left) == {"conv1.weight", "conv2.weight"}
    sparse, mask = pruned_and_mask(pruned, amount=0.5, mask=units)
    assert mask.nested_in(units)
    assert all(torch.equal(mask[n], units[n]) for n in units if n not in left)
    assert groups(network).units(mask).nested_in(groups(network).units(units))
    assert torch.equal(sparse.get_parameter("norm1.weight"), pruned.get_parameter("norm1.weight"))


def test_units_after_weights_of_other_layers_leave_these_as_they_are() -> None:
    network = model("cnn_small")
    sparse, weights = pruned_and_mask(network, layers="linear", amount=0.5)
    both, mask = pruned_and_mask(
        sparse, granularity="channels", layers="convolutions", amount=0.5, mask=weights
    )
    assert groups(network).units(mask).kept == 3
    assert all(torch.equal(mask[name], weights[name]) for name in weights)
    assert not bool(both.get_parameter("hidden.weight")[~weights["hidden.weight"]].any())


def test_layers_go_on_as_the_mask_says_unless_they_are_given() -> None:
    network = model("cnn_small")
    for granularity in ("weights", "channels"):
        _, first = pruned_and_mask(network, granularity=granularity, layers="all", amount=0.5)  # type: ignore[arg-type]
        for layers in (None, "all"):
            left = remaining(network, first, granularity=granularity, layers=layers)  # type: ignore[arg-type]
            wanted = ["conv1", "conv2", "hidden", "output"][: 4 if granularity == "weights" else 3]
            assert [name.removesuffix(".weight") for name in left] == wanted
        _, narrow = pruned_and_mask(network, granularity=granularity, amount=0.5)  # type: ignore[arg-type]
        assert len(remaining(network, narrow, granularity=granularity)) == 2  # type: ignore[arg-type]
        wide = remaining(network, narrow, granularity=granularity, layers="all")  # type: ignore[arg-type]
        assert len(wide) == len(wanted) and bool(wide[list(wide)[2]].all())


def test_a_method_of_weights_is_told_how_many_weights_go_with_the_units() -> None:
    network, asked = model("cnn_small", 1.0), []

    class Asked(scores.Magnitude):
        def score(self, network, mask, data=None, *, keep, generator):
            asked.append((keep, mask.kept))
            return super().score(network, mask, data, keep=keep, generator=generator)

    rank_and_select(network, None, Asked(), None, keep=6, granularity="channels", generator=generator(0))
    total = sum(network.get_parameter(name).numel() for name in prunable(network))
    assert asked == [(round(total / 4), total)]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"granularity": "filters"}, "there is no granularity 'filters'; choose one of weights, channels"),
        ({"layers": "convolution"}, "no layers called 'convolution'; did you mean convolutions"),
        ({"granularity": "channels", "keep": 25}, "cannot keep 25: 24 are left"),
        ({"granularity": "channels", "keep": 0}, "cannot keep 0: 24 are left"),
        ({"name": "slim"}, "slim ranks channels and neurons, not weights"),
        ({"name": "slim", "granularity": "channels", "layers": "linear"}, "the units of hidden have none"),
    ],
)
def test_wrong_use_is_explained(options: dict[str, object], text: str) -> None:
    given = {"name": "magnitude", "keep": 3} | options
    with pytest.raises(InputError, match=text):
        round_of(model("cnn_small", 1.0), None, given.pop("name"), given.pop("keep"), **given)  # type: ignore[arg-type]


def test_a_model_without_units_is_refused() -> None:
    alone = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(InputError, match="no channels or neurons that can be removed left to prune"):
        prune(alone, granularity="channels", amount=0.5)
