"""Epsilons, random generators, and masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import derive_seed, generator


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2/255", 2 / 255),
        (" 8 / 255 ", 8 / 255),
        ("0.1", 0.1),
        (0, 0.0),
        (1, 1.0),
        (0.25, 0.25),
        ("1e-3", 0.001),
    ],
)
def test_epsilons_are_numbers_or_fractions(text: str | float, value: float) -> None:
    assert parse_epsilon(text) == value


@pytest.mark.parametrize("text", ["2", "-0.1", "nan", "inf", "1/0", "two", "", "1/2/3", "-1/255", None])
def test_other_epsilons_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="epsilon"):
        parse_epsilon(text)


def test_each_purpose_draws_its_own_numbers() -> None:
    draws = {
        float(torch.rand((), generator=generator(*purpose)))
        for purpose in [(0, "a"), (0, "b"), (1, "a"), (0, "a", 1), (0, "a", 2), (0,)]
    }
    assert len(draws) == 6
    assert torch.equal(torch.rand(4, generator=generator(3, "x")), torch.rand(4, generator=generator(3, "x")))
    assert 0 <= derive_seed(5, "any") < 2**63


def linear() -> nn.Linear:
    return nn.Linear(3, 2)


def test_a_mask_counts_what_it_keeps() -> None:
    mask = Mask.ones(linear(), ["weight"])
    fewer = Mask({"weight": torch.tensor([[True, False, True], [False, False, False]])})
    assert (mask.kept, mask.total, fewer.kept, fewer.total) == (6, 6, 2, 6)
    assert fewer.nested_in(mask) and not mask.nested_in(fewer)
    assert not fewer.nested_in(Mask({}))
    assert list(fewer) == ["weight"] and len(fewer) == 1


def test_a_mask_sets_pruned_weights_to_zero_and_no_others() -> None:
    layer = linear()
    before = layer.weight.detach().clone()
    keep = torch.tensor([[True, False, True], [False, True, True]])
    Mask({"weight": keep}).apply_(layer)
    assert torch.equal(layer.weight.detach(), before * keep)


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit"):
        Mask({"weight": torch.ones(2, 2, dtype=torch.bool)}).apply_(linear())
    with pytest.raises(InputError, match="does not fit"):
        Mask({"other": torch.ones(2, 3, dtype=torch.bool)}).apply_(linear())
    with pytest.raises(InputError, match="boolean"):
        Mask({"weight": torch.ones(2, 3)})


def test_a_mask_cannot_be_changed_from_outside() -> None:
    given = {"weight": torch.ones(2, 3, dtype=torch.bool)}
    mask = Mask(given)
    given["bias"] = torch.ones(2, dtype=torch.bool)
    assert list(mask) == ["weight"]
    with pytest.raises(TypeError):
        mask.keep["bias"] = torch.ones(2, dtype=torch.bool)  # type: ignore[index]
