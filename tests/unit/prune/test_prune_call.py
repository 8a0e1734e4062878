"""``certiprune.prune`` as users call it: every method on a plain module, data in any form, errors in words."""

from __future__ import annotations

import copy
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import certiprune
from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.prune import AbstractScorer, Calibration, Scores, scores
from certiprune.train import losses

QUICK: dict[str, dict[str, Any]] = {
    "hydra": {"epochs": 1},
    "synflow": {"iterations": 3},
    "nrs": {"images": 8},
}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 16, 10),
    )


@pytest.fixture
def data() -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(0, "call")
    return torch.rand(24, 1, 8, 8, generator=source), torch.randint(10, (24,), generator=source)


def trained(model: nn.Module, data: tuple[torch.Tensor, torch.Tensor], steps: int = 3) -> None:
    """Someone's own loop, with momentum and weight decay."""
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data[0]), data[1]).backward()
        optimizer.step()


@pytest.mark.parametrize("method", scores.names())
def test_every_method_prunes_a_plain_module_for_good(model, data, method):
    pruned = certiprune.prune(model, method=method, amount=0.5, data=data, **QUICK.get(method, {}))
    mask = certiprune.mask_of(pruned)
    units = scores.build(method).of_units
    if units:
        alive = [mask[f"{layer}.weight"].flatten(1).any(1) for layer in (0, 3)]
        assert sum(int(rows.sum()) for rows in alive) == 7
    else:
        assert mask.kept == mask.total - round(0.5 * mask.total)
    assert [type(m) for m in pruned.modules()] == [type(m) for m in model.modules()]
    assert list(pruned.state_dict()) == list(model.state_dict())
    for other in (pruned, copy.deepcopy(pruned), pickle.loads(pickle.dumps(pruned))):
        trained(other.train(), data)
        for name, keep in mask.items():
            assert not other.get_parameter(name)[~keep].any()
            assert other.get_parameter(name)[keep].any()
    # The weights that stay are the model's own.
    fresh = certiprune.prune(model, method=method, amount=0.5, data=data, **QUICK.get(method, {}))
    for name, tensor in model.state_dict().items():
        keep = mask[name] if name in mask else torch.ones_like(tensor, dtype=torch.bool)
        assert torch.equal(fresh.state_dict()[name], tensor.masked_fill(~keep, 0))


def test_rounds_take_from_what_is_left(model, data):
    pruned, masks = model, []
    for _ in range(3):
        pruned = certiprune.prune(pruned, "taylor", 0.2, data, layers="all" if not masks else None)
        masks.append(certiprune.mask_of(pruned))
        trained(pruned, data)
    kept = [masks[0].total, *(mask.kept for mask in masks)]
    assert all(after == before - round(0.2 * before) for before, after in pairwise(kept))
    assert masks[2].nested_in(masks[1]) and masks[1].nested_in(masks[0])


def test_data_in_any_form_gives_the_same(model, data):
    forms = [
        data,
        list(data),
        (data[0].numpy(), data[1].numpy()),
        (data[0].double().numpy(), data[1].numpy().astype(np.int32)),
        Split(*data),
        Calibration(Split(*data), losses.build("natural"), 2 / 255),
    ]
    masks = [certiprune.mask_of(certiprune.prune(model, "snip", data=form)) for form in forms]
    assert all(torch.equal(mask[n], masks[0][n]) for mask in masks for n in mask)


def test_the_loss_and_its_radius_count(model, data):
    ways = [
        {},
        {"loss": "ibp", "eps": 0.1},
        {"loss": losses.build("ibp"), "eps": "1/10"},
        {"loss": "crown_ibp"},
    ]
    masks = [certiprune.mask_of(certiprune.prune(model, "snip", data=data, **way)) for way in ways]
    equal = [[all(torch.equal(a[n], b[n]) for n in a) for b in masks] for a in masks]
    assert equal == [[i == j or {i, j} == {1, 2} for j in range(4)] for i in range(4)]


def test_flat_inputs_and_functional_models_will_do(data):
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 12), nn.Linear(12, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.relu(self.first(x)))

    flat = (data[0].flatten(1), data[1])
    for method in ("magnitude", "snip", "taylor", "synflow", "l1-channel"):
        pruned = certiprune.prune(Own(), method, 0.25, flat, **QUICK.get(method, {}))
        assert certiprune.mask_of(pruned).kept > 0


def test_a_scorer_of_ones_own(model):
    class Last(AbstractScorer):
        """Keeps the weights with the highest places."""

        name = "last"

        def score(self, model, mask, data, *, keep, generator):
            return Scores({n: torch.arange(m.numel()).double().reshape(m.shape) for n, m in mask.items()})

    pruned = certiprune.prune(model, Last(), 0.5)
    mask = certiprune.mask_of(pruned)
    assert not mask["0.weight"].flatten()[:-1].any() and mask["0.weight"].flatten()[-1]
    with pytest.raises(InputError, match="has its options already: leave out depth"):
        certiprune.prune(model, Last(), 0.5, depth=1)


def test_registering_a_name_of_the_library_is_refused():
    class Other(AbstractScorer):
        name = "snip"

    with pytest.raises(InputError, match="own pruning methods"):
        scores.register(Other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "pruning by snip needs data: give training images and labels"),
        ({"data": 3}, r"data must be a pair \(images, labels\)"),
        ({"data": (torch.rand(4, 1, 8, 8), torch.zeros(3).long())}, r"must be int64 \[4\]"),
        ({"data": (torch.rand(4, 1, 8, 8), torch.zeros(4))}, "labels must be whole numbers"),
        (
            {"data": (torch.rand(4, 1, 9, 9), torch.zeros(4).long())},
            r"cannot be run on images of shape \(1, 9, 9\)",
        ),
        (
            {"data": (torch.rand(4, 1, 8, 8), torch.full((4,), 10))},
            "labels lie between 10 and 10, and the model",
        ),
        ({"data": (torch.rand(0, 1, 8, 8), torch.zeros(0).long())}, "data holds no image"),
        ({"data": (["a"], ["b"])}, "arrays of numbers"),
        (
            {"data": (2 * torch.rand(4, 1, 8, 8), torch.zeros(4).long()), "loss": "ibp"},
            "before normalisation",
        ),
        ({"amount": 1.0}, "below 1: it is the fraction to remove"),
        ({"amount": 0.9999}, "leaves none of 486 weights; choose a smaller one"),
        ({"amount": "0.5"}, "the amount '0.5' must be"),
        ({"method": None}, "a name or a scorer, not None"),
        ({"method": "snipp"}, "did you mean snip"),
        ({"loss": "crown"}, "crown_ibp"),
        ({"eps": 2}, "eps"),
        ({"batches": 0}, "batches"),
        ({"granularity": "filters"}, "granularity"),
        ({"layers": "conv"}, "layers"),
        ({"scope": "local"}, "scope"),
        ({"method": "slim", "granularity": "weights"}, "use granularity channels"),
        ({"method": "hydra", "granularity": "channels"}, "use granularity weights"),
    ],
)
def test_what_is_wrong_is_said(model, data, change, message):
    with pytest.raises(InputError, match=message):
        certiprune.prune(model, **({"method": "snip", "data": data, "amount": 0.5} | change))


def test_normalised_images_will_do_where_nothing_is_bounded(model, data):
    assert certiprune.prune(model, "taylor", 0.5, (data[0] * 4 - 2, data[1])) is not model


class Making(nn.Module):
    """A model with weights that makes of images whatever ``make`` says."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.layer, self.make = nn.Conv2d(1, 3, 8), make

    def forward(self, x: torch.Tensor) -> Any:
        return self.make(self.layer(x))


def refuse(x: torch.Tensor) -> Any:
    raise KeyError("nothing\nhere")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x: (x.flatten(1), x), "not tuple$"),
        (lambda x: {"scores": x.flatten(1)}, "not dict$"),
        (lambda x: x, r"not a tensor \[1, 3, 1, 1\]$"),
        (refuse, r"cannot be run on images of shape \(1, 8, 8\): "),
    ],
)
def test_a_model_that_is_no_classifier_is_named(data, make, message):
    with pytest.raises(InputError, match=message) as found:
        certiprune.prune(Making(make), "snip", 0.5, data)
    assert len(str(found.value).splitlines()) == 1


@pytest.mark.parametrize("method", scores.names())
def test_the_precision_is_the_models_own(model, data, method):
    options = QUICK.get(method, {}) | ({"images": 8} if method == "rs" else {})
    pruned = certiprune.prune(model.double(), method, 0.5, data, **options)
    assert certiprune.mask_of(pruned).kept > 0
    assert all(parameter.dtype == torch.float64 for parameter in pruned.parameters())
