"""What ``prune``, ``lower`` and ``compact`` cannot take is said in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune

import certiprune
from certiprune.core.errors import CertipruneError, InputError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))


def test_weights_that_torch_prune_works_out_are_named_with_the_way_to_make_them_plain():
    model = net()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(InputError, match=r"prune\.remove"):
        certiprune.prune(model, method="magnitude", amount=0.5)
    torch_prune.remove(model[0], "weight")
    assert isinstance(certiprune.prune(model, method="magnitude", amount=0.5), nn.Module)


@pytest.mark.parametrize(
    "changed",
    [{"model": None}, {"loss": 3}, {"granularity": 1}, {"layers": 1}, {"mask": 3}, {"mask": {"0.weight": 1}}],
)
def test_wrong_arguments_of_prune(changed):
    data = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    asked = {"method": "snip", "amount": 0.5, "data": data} | changed
    with pytest.raises(CertipruneError):
        certiprune.prune(asked.pop("model", net()), **asked)


@pytest.mark.parametrize("shape", [3, ("a",), (1.0, 4, 4), (True, 4, 4)])
def test_a_shape_that_is_none(shape):
    for function in (certiprune.lower, certiprune.compact):
        with pytest.raises(InputError, match="shape"):
            function(net(), shape=shape)


def test_what_is_no_model_or_mask():
    for function in (certiprune.lower, certiprune.compact):
        with pytest.raises(InputError, match="NoneType"):
            function(None, shape=(1, 4, 4))
        with pytest.raises(InputError, match="mask"):
            function(net(), shape=(1, 4, 4), mask=3)
