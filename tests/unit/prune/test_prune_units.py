"""Masks of units, and the scores of units that look at weights, against loops that follow their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net import prunable
from certiprune.net.zoo import ModelSpec, build
from certiprune.prune import Scores, scores
from certiprune.prune.coupling import groups
from certiprune.prune.groups import Groups
from helpers.pruned import pruned_and_mask
from helpers.training import shaken
from helpers.units import random_units

UNITS = [name for name in scores.names() if scores.build(name).of_units]


def resnet(seed: int = 0) -> nn.Module:
    return shaken(build(ModelSpec("resnet", (1, 8, 8), 3, (0.4,), (0.5,), width=0.15)), seed).float().eval()


def flat(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def ranked(name: str, model: nn.Module, found: Groups, units: Mask, keep: int = 5) -> Scores:
    method = scores.build(name)
    return method.score_units(model, found, units, None, keep=keep, generator=generator(3))


def incoming(model: nn.Module, found: Groups, units: Mask) -> dict[tuple[str, int], list[tuple[float, str]]]:
    """For every unit its incoming weights and their layers, those from pruned units left out, one by one."""
    tensors, result = flat(model), {}
    for name, group in found.items():
        for k in range(group.size):
            result[name, k] = [
                (float(tensors[weight][k, c, i, j]), weight)
                for weight in group.weights
                for c in range(tensors[weight].shape[1])
                if not any(weight in g.readers and not units[n][c] for n, g in found.items())
                for i in range(tensors[weight].shape[2])
                for j in range(tensors[weight].shape[3])
            ]
    return result


def test_l1_channel_sums_what_comes_in_from_kept_units() -> None:
    model = resnet()
    found = groups(model)
    for units in (found.ones(), random_units(found, 1)):
        expected = incoming(model, found, units)
        given = ranked("l1-channel", model, found, units)
        same = ranked("magnitude", model, found, units)
        for name, group in found.items():
            for k in range(group.size):
                if units[name][k]:
                    total = sum(abs(weight) for weight, _ in expected[name, k])
                    assert float(given[name][k]) == pytest.approx(total)
                    assert float(same[name][k]) == pytest.approx(total)


def test_slim_is_the_mean_scale() -> None:
    model = resnet()
    found, tensors = groups(model), flat(resnet())
    given = ranked("slim", model, found, found.ones())
    one, two = (tensors[f"block1.{part}.weight"].abs() for part in ("body.norm2", "shortcut.norm"))
    torch.testing.assert_close(given["block1.body.conv2"], ((one + two) / 2).double())
    torch.testing.assert_close(given["conv"], tensors["norm.weight"].abs().double())


def test_slim_needs_scales() -> None:
    model = shaken(build(ModelSpec("cnn_b", (1, 8, 8), 3, (0.4,), (0.5,), width=0.1)), 0)
    with pytest.raises(InputError, match="slim needs BatchNorm scales, and the units of conv1 have none"):
        ranked("slim", model, groups(model), groups(model).ones())


@pytest.mark.parametrize("keep", [1, 5, 9])
def test_refill_sums_what_magnitude_pruning_leaves(keep: int) -> None:
    model = resnet()
    found = groups(model)
    units = random_units(found, 2)
    expected = incoming(model, found, units)
    alive = [w for (name, k), parts in expected.items() if units[name][k] for w in parts]
    count = max(1, round(len(alive) * keep / units.kept))
    # The floor of magnitude pruning: the largest weight of each layer comes first.
    layers = {layer for _, layer in alive}
    best = {max((abs(w), layer) for w, layer in alive if layer == name) for name in layers}
    order = sorted(alive, key=lambda w: ((abs(w[0]), w[1]) not in best, -abs(w[0])))
    left = {abs(weight) for weight, _ in order[:count]}
    given = ranked("refill", model, found, units, keep)
    for name, group in found.items():
        for k in range(group.size):
            if units[name][k]:
                total = sum(abs(w) for w, _ in expected[name, k] if abs(w) in left)
                assert float(given[name][k]) == pytest.approx(total)


def test_refill_keeps_the_channels_that_iterative_pruning_leaves_heaviest() -> None:
    model, mask = resnet(), None
    for _ in range(8):
        sparse, mask = pruned_and_mask(model, amount=0.3, mask=mask)
    assert mask is not None and mask.kept < 0.1 * mask.total
    found = groups(sparse)
    heavy = {
        (name, k): sum(abs(w) for w, _ in parts)
        for (name, k), parts in incoming(sparse, found, found.ones()).items()
    }
    alive = found.units(mask)
    refilled, after = pruned_and_mask(model, method="refill", granularity="channels", amount=0.4, mask=mask)
    kept = found.units(after)
    wanted = alive.kept - round(0.4 * alive.kept)
    best = {max((v, key) for key, v in heavy.items() if key[0] == name)[1] for name in found}
    order = sorted((k for k in heavy if alive[k[0]][k[1]]), key=lambda key: (key not in best, -heavy[key]))
    assert {(n, int(k)) for n in found for k in kept[n].nonzero()[:, 0]} == set(order[:wanted])
    # The channels that stay have all of their weights again.
    for name, group in found.items():
        for weight in group.weights:
            assert bool(after[weight][kept[name]].all()) and not bool(after[weight][~kept[name]].any())
            assert torch.equal(flat(refilled)[weight][kept[name]], flat(model)[weight][kept[name]])


def test_random_units_do_not_depend_on_how_many_weights_they_have() -> None:
    model = resnet()
    found = groups(model)
    given = ranked("random", model, found, found.ones())
    nn.init.zeros_(model.get_parameter("conv.weight"))
    again = ranked("random", model, found, found.ones())
    assert all(torch.equal(given[name], again[name]) for name in found)
    assert all(float(given[name].min()) >= 0 and float(given[name].max()) < 1 for name in found)


@pytest.mark.parametrize("name", UNITS)
def test_methods_of_units_do_not_rank_weights(name: str) -> None:
    model = resnet()
    mask = Mask.ones(model, prunable(model))
    with pytest.raises(InputError, match=f"{name} ranks channels and neurons, not weights: use granularity"):
        scores.build(name).score(model, mask, None, keep=1, generator=generator(0))


def test_expanding_takes_everything_of_a_unit_and_nothing_else() -> None:
    model = resnet()
    found = groups(model)
    units = found.ones()
    units["block1.body.conv2"][1] = False
    mask = found.expand(model, units)
    gone = {name for name, keep in mask.items() if not bool(keep.all())}
    group = found["block1.body.conv2"]
    assert gone == {*group.weights, *group.others}
    assert all(not bool(mask[name][1].any()) for name in gone)
    assert (mask.total - mask.kept) == sum(flat(model)[name][1].numel() for name in gone)
    assert units.total - units.kept == 1


def test_weights_that_read_pruned_units_are_left_out_and_do_nothing() -> None:
    for network, layers in ((resnet(), "all"), (resnet(1), "convolutions")):
        found = groups(network, layers=layers)  # type: ignore[arg-type]
        units = random_units(found, 4)
        weights, expanded = found.weights(network, units), found.expand(network, units)
        assert all(name in weights and name in expanded for g in found.values() for name in g.weights)
        dead = {name: int((expanded[name] & ~keep).sum()) for name, keep in weights.items()}
        hit = [g for name, g in found.items() if not bool(units[name].all())]
        expected = {reader for g in hit for reader in g.readers if reader in weights}
        assert {name for name, count in dead.items() if count} == expected
        x = torch.rand(3, 1, 8, 8)
        expanded.apply_(network)
        before = network(x)
        weights.apply_(network)
        torch.testing.assert_close(network(x), before)


def test_a_unit_is_kept_where_any_of_its_weights_is() -> None:
    model = resnet()
    found = groups(model)
    mask = Mask.ones(model, prunable(model))
    mask["block1.body.conv2.weight"][0] = False
    assert found.units(mask).kept == found.ones().kept  # the shortcut has weights for it
    mask["block1.shortcut.conv.weight"][0] = False
    assert found.units(mask)["block1.body.conv2"].tolist() == [False] + [True] * 4
    del_one = Mask({name: keep for name, keep in mask.items() if name != "block1.shortcut.conv.weight"})
    assert found.units(del_one).kept == found.ones().kept  # what a mask does not name is kept


def test_units_of_another_model_are_refused() -> None:
    found = groups(resnet())
    with pytest.raises(InputError, match=r"units of conv do not fit the model's conv\.weight"):
        found.expand(nn.Sequential(), found.ones())
    with pytest.raises(InputError, match="units of conv do not fit"):
        found.expand(resnet(), Mask({"conv": torch.ones(99).bool()}))


def test_prunable_weights_by_layers() -> None:
    model = resnet()
    convolutions = [n for n in flat(model) if "conv" in n]
    assert prunable(model) == prunable(model, "convolutions") == convolutions
    assert prunable(model, "linear") == ["hidden.weight", "output.weight"]
    assert prunable(model, "all") == [*convolutions, "hidden.weight", "output.weight"]
    assert prunable(nn.Sequential(nn.Linear(2, 2))) == ["0.weight"]
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight
    assert prunable(tied, "linear") == ["0.weight"]
    with pytest.raises(InputError, match="no layers called 'conv'"):
        prunable(model, "conv")  # type: ignore[arg-type]
