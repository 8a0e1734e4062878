import copy

import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask
from certiprune.prune import prune
from helpers.pruned import pruned_and_mask


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def test_the_fraction_of_convolution_weights_is_gone_and_the_given_model_is_whole(model):
    before = copy.deepcopy(model.state_dict())
    pruned, mask = pruned_and_mask(model, amount=0.25)
    total = 36 + 144
    assert (mask.total, mask.kept) == (total, round(0.75 * total))
    assert set(mask) == {"0.weight", "2.weight"}
    assert int((pruned[0].weight != 0).sum() + (pruned[2].weight != 0).sum()) == mask.kept
    assert torch.equal(pruned[5].weight, model[5].weight)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_model_without_convolutions_loses_linear_weights():
    torch.manual_seed(0)
    _, mask = pruned_and_mask(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)), amount=0.5)
    assert (set(mask), mask.kept) == ({"0.weight", "2.weight"}, 15)


def test_the_largest_weights_stay(model):
    _, mask = pruned_and_mask(model, amount=0.5)
    weights = torch.cat([model[i].weight[mask[f"{i}.weight"]] for i in (0, 2)])
    gone = torch.cat([model[i].weight[~mask[f"{i}.weight"]] for i in (0, 2)])
    assert weights.abs().min() >= gone.abs().max()


def test_pruning_goes_on_from_an_earlier_mask_even_where_weights_came_back(model):
    _, first = pruned_and_mask(model, amount=0.5)
    pruned, second = pruned_and_mask(model, amount=0.5, mask=first)  # the dense model, not the pruned one
    assert second.nested_in(first)
    assert second.kept == 45
    assert int((pruned[0].weight != 0).sum() + (pruned[2].weight != 0).sum()) == 45


def test_the_method_sees_zeros_where_the_mask_has_pruned(model):
    first = Mask({"0.weight": torch.ones(4, 1, 3, 3).bool()})
    first["0.weight"][0] = False
    with torch.no_grad():
        model[0].weight[0] = torch.nan
    pruned, second = pruned_and_mask(model, amount=0.5, mask=first)
    assert second.kept == 27 - round(13.5)
    assert not pruned[0].weight[0].any()


def test_a_pruned_model_is_plain_and_stays_pruned_when_copied_and_reloaded(model):
    pruned, _ = pruned_and_mask(model, amount=0.5)
    assert set(pruned.state_dict()) == set(model.state_dict())
    fresh = copy.deepcopy(model)
    fresh.load_state_dict(copy.deepcopy(pruned).state_dict())
    assert torch.equal(fresh[2].weight, pruned[2].weight)


def test_the_seed_decides_random_pruning(model):
    masks = [pruned_and_mask(model, method="random", amount=0.5, seed=seed)[1] for seed in (0, 0, 1)]
    assert masks[0].nested_in(masks[1])
    assert not masks[0].nested_in(masks[2])


def test_nothing_removed_is_allowed(model):
    _, mask = pruned_and_mask(model, amount=0.0, scope="layer")
    assert mask.kept == mask.total


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"amount": 1.0}, "the amount 1.0 must be at least 0 and below 1"),
        ({"amount": 20}, "the amount 20 must"),
        ({"amount": 0.5, "method": "magnitudes"}, "did you mean magnitude"),
        ({"amount": 0.5, "mask": Mask({"0.weight": torch.zeros(4, 1, 3, 3).bool()})}, "no weights left"),
        ({"amount": 0.5, "mask": Mask({"9.weight": torch.ones(1).bool()})}, "mask of 9.weight"),
    ],
)
def test_wrong_use_is_explained(model, options, text):
    with pytest.raises(InputError, match=text):
        prune(model, **options)


def test_a_model_without_weights_or_with_broken_ones_is_refused(model):
    with pytest.raises(InputError, match="no weights left"):
        prune(nn.ReLU(), amount=0.5)
    nn.init.constant_(model[0].weight, torch.nan)
    with pytest.raises(ModelError, match="not all finite"):
        prune(model, amount=0.5)
