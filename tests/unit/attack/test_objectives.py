from __future__ import annotations

import torch
from torch import nn

from certiprune.attack import (
    evaluating,
    frozen_statistics,
    label_margin,
    negative_cross_entropy,
    property_margin,
)
from certiprune.core.margin import Margin
from certiprune.core.rng import generator

OUTPUTS = torch.tensor([[1.0, 3.0, 2.0], [0.5, 0.5, -1.0], [4.0, 1.0, 5.0]])
LABELS = torch.tensor([1, 0, 0])


def test_the_label_margin_is_the_distance_to_the_best_other_class() -> None:
    assert label_margin(lambda x: x, LABELS)(OUTPUTS).tolist() == [1.0, 0.0, -1.0]


def test_the_property_margin_agrees_with_the_label_margin() -> None:
    outputs = torch.randn(50, 7, generator=generator(0))
    labels = torch.randint(0, 7, (50,), generator=generator(1))
    margin = Margin.classified_as(labels, 7)
    by_property = property_margin(lambda x: x, margin)(outputs)
    torch.testing.assert_close(by_property, label_margin(lambda x: x, labels)(outputs))


def test_cross_entropy_falls_with_the_objective() -> None:
    values = negative_cross_entropy(lambda x: x, LABELS)(OUTPUTS)
    expected = OUTPUTS.log_softmax(1)[torch.arange(3), LABELS]
    torch.testing.assert_close(values, expected)


def test_evaluating_restores_the_mode_of_every_module() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU()).train()
    model[1].eval()
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False]


def test_frozen_statistics_normalise_by_the_batch_and_leave_no_trace() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).train()
    images = 3 + torch.rand(4, 2, 3, 3, generator=generator(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with frozen_statistics(model):
        during = model(images)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(during, model(images))
    assert not torch.equal(before["0.running_mean"], model[0].running_mean)
    model.eval()
    plain = model(images)
    with frozen_statistics(model):
        assert torch.equal(model(images), plain)
