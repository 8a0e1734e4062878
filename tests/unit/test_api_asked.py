"""What ``verify`` is given: models in any mode and precision are left as they were, and mistakes are said in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import certiprune
from certiprune import CertipruneError
from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import InputError, ModelError


def net(outputs: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, outputs))


def ask(model, **changed):
    asked = {"images": torch.rand(2, 4), "labels": torch.tensor([0, 1]), "eps": 0.01, "timeout": 5} | changed
    return certiprune.verify(model, asked.pop("images"), asked.pop("labels"), **asked)


def test_a_model_in_training_stays_in_training():
    model = net().train()
    model[2].eval()
    ask(model)
    assert [part.training for part in model] == [True, True, False, True]


def test_a_model_in_double_precision_is_replayed_in_it():
    model = net().double()
    x = torch.rand(1, 4)
    label = model.eval()(x.double()).argmax(1)
    assert [str(outcome.verdict) for outcome in ask(model, images=x, labels=label, eps=0.0)] == ["certified"]
    (found,) = ask(model, images=x, labels=label, eps=1.0)
    assert found.counterexample is not None
    assert model(found.counterexample.double().reshape(1, 4)).argmax() != label


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_in_words(kind):
    with pytest.raises(ModelError, match=r"verify model\.float\(\)"):
        ask(net().to(kind))


def test_a_first_step_in_place_changes_no_image():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3))
    x = torch.full((1, 4), -0.5)
    label = model(x.clone()).argmax(1)
    (found,) = ask(model, images=x, labels=label, domain=(-1.0, 1.0), eps=0.9)
    assert bool((x == -0.5).all())
    assert str(found.verdict) == "falsified"
    assert bool((found.counterexample - x).abs().max() <= 0.9 + 1e-6)


def test_outputs_that_are_an_image_count_in_row_major_order():
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    x = torch.rand(1, 1, 4, 4)
    (found,) = ask(model, images=x, labels=model(x).flatten(1).argmax(1), eps=0.0)
    assert str(found.verdict) == "certified"


def test_one_output_is_no_classification():
    with pytest.raises(InputError, match="one output"):
        ask(net(1), labels=torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize(
    "changed",
    [
        {"nodes": "3"},
        {"nodes": 1.5},
        {"memory": 1.5},
        {"memory": []},
        {"domain": None},
        {"domain": (0,)},
        {"domain": ("a", "b")},
        {"device": None},
        {"eps": 10**400},
        {"eps": 1 + 2j},
        {"model": None},
        {"model": lambda x: x},
    ],
)
def test_wrong_arguments_are_said_in_words(changed):
    with pytest.raises(CertipruneError):
        ask(changed.pop("model", net()), **changed)


def test_a_fraction_too_large_for_a_float_is_no_radius():
    with pytest.raises(InputError, match="must lie in"):
        parse_epsilon(f"1{'0' * 400}/3")
