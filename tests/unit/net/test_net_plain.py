"""What a trace does not see, and a probe need not meet, is refused before anything is proved of a module."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils import prune as torch_prune

from certiprune.core.errors import ModelError
from certiprune.core.mask import Mask
from certiprune.net import lower
from certiprune.prune.hold import hold


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


class Steps(nn.Module):
    """Two layers with ``between`` in the middle."""

    def __init__(self, between) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(4, 6), between, nn.Linear(6, 3)
        # Every neuron is on at every probe, so that no comparison there tells a ReLU from none.
        self.first.weight.data.abs_()
        self.first.bias.data.fill_(0.1)

    def forward(self, x):
        return self.last(self.between(self.first(x)))


def small_ones_grow(x):
    return torch.where(x < 1e-3, x + 10, x)


def test_hooks_are_refused_wherever_they_are():
    for place in (0, 1, None):
        for register in ("register_forward_hook", "register_forward_pre_hook"):
            model = net()
            getattr(model if place is None else model[place], register)(lambda *_: None)
            with pytest.raises(ModelError, match="hook"):
                lower(model, shape=(4,))


def test_a_hook_that_shows_only_between_the_probes_certifies_nothing():
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    model[1].register_forward_hook(lambda layer, inputs, output: small_ones_grow(output))
    with pytest.raises(ModelError, match="1: its hook"):
        lower(model, shape=(1,))


def test_the_hooks_of_torch_prune_are_named_with_the_way_to_take_them_off():
    model = net()
    torch_prune.l1_unstructured(model[0], "weight", 0.5)
    with pytest.raises(ModelError, match=r"L1Unstructured.*prune\.remove"):
        lower(model, shape=(4,))
    torch_prune.remove(model[0], "weight")
    lower(model, shape=(4,))


def test_what_prune_holds_at_zero_and_parametrised_weights_are_lowered():
    model = net()
    hold(model, Mask({"0.weight": torch.rand(6, 4) > 0.5}))
    lower(model, shape=(4,))
    model = net()
    parametrizations.weight_norm(model[0])
    lower(model, shape=(4,))


def test_a_layer_with_a_forward_of_its_own_is_refused():
    model = net()
    model[1].forward = small_ones_grow
    with pytest.raises(ModelError, match="1: its forward"):
        lower(model, shape=(4,))


def relu(x):
    return small_ones_grow(x)


def test_a_function_with_the_name_of_torchs_is_not_taken_for_it(monkeypatch):
    monkeypatch.setattr(
        "torch.fx._symbolic_trace._wrapped_fns_to_patch", {(id(globals()), "relu"): globals()}
    )
    with pytest.raises(ModelError, match=r"test_net_plain\.relu"):
        lower(Steps(lambda x: relu(x)), shape=(4,))


def plus_itself(x):
    y = x
    y += 0.5
    return x


@pytest.mark.parametrize(
    "between",
    [
        lambda x: x + F.relu_(x),
        lambda x: x + x.relu_(),
        lambda x: x + F.relu(x, inplace=True),
        lambda x: x + F.relu(x, True),
        lambda x: x.view(-1, 6) + F.relu_(x),
        lambda x: F.relu_(x.view(-1, 6)) + x,
        lambda x: operator.add(F.relu_(x), x),
        plus_itself,
    ],
)
def test_a_value_that_is_read_after_it_was_changed_in_place_is_refused(between):
    with pytest.raises(ModelError, match="in place"):
        lower(Steps(between), shape=(4,))


def test_layers_in_place_are_seen_too():
    model = Steps(lambda x: model.rectify(x) + x)
    model.rectify = nn.ReLU(inplace=True)
    with pytest.raises(ModelError, match="in place"):
        lower(model, shape=(4,))


def residual(x):
    out = F.relu_(x * 1.0)
    out += x
    return F.relu_(out)


@pytest.mark.parametrize("between", [residual, lambda x: F.relu_(x), lambda x: F.relu_(x.view(-1, 6))])
def test_steps_in_place_whose_results_are_read_are_fine(between):
    model = Steps(between)
    x = torch.rand(3, 4, dtype=torch.float64)
    expected = model.double()(x)
    torch.testing.assert_close(lower(model, shape=(4,))(x), expected, rtol=1e-9, atol=1e-9)


def test_values_in_a_list_and_weights_without_numbers_are_refused_in_words():
    with pytest.raises(ModelError, match="cat"):
        lower(Steps(lambda x: torch.cat([x, x], 1)), shape=(4,))
    with pytest.raises(ModelError, match="meta"):
        lower(net().to("meta"), shape=(4,))
