"""By what the weights are chosen, and what a training asks of its schedules."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from certiprune.bounds.ibp import ibp
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Dataset, Split
from certiprune.net import lower
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import Plan, accuracy, losses, pgd_accuracy, train
from certiprune.train.choose import measure
from certiprune.train.scene import Scene
from certiprune.train.statistics import ibp_accuracy

PLAN = Plan(3, batch_size=32, learning_rate=0.02, eps=0.05, eps_start=0, eps_length=2)
CERTIFIED, ROBUST, CLEAN = (
    f"validation_{name}" for name in ("certified_accuracy", "robust_accuracy", "accuracy")
)


@pytest.mark.parametrize(
    ("choose", "loss", "eps", "metric"),
    [
        ("auto", "natural", 0.0, CLEAN),
        ("auto", "ibp", 0.0, CLEAN),
        ("auto", "natural", 0.05, ROBUST),
        ("auto", "fgsm", 0.05, ROBUST),
        ("auto", "ibp", 0.05, CERTIFIED),
        ("auto", "sabr", 0.05, CERTIFIED),
        ("clean", "ibp", 0.05, CLEAN),
        ("pgd", "ibp", 0.05, ROBUST),
        ("certified", "fgsm", 0.05, CERTIFIED),
    ],
)
def test_the_measure_is_the_one_asked_for(
    model: nn.Module, dataset: Dataset, choose: str, loss: str, eps: float, metric: str
) -> None:
    name, found = measure(replace(PLAN, eps=eps, choose=choose), losses.build(loss))
    assert name == metric
    split, value = dataset.validation, found(model, dataset.validation, generator(4))
    expected = {
        CLEAN: accuracy(model, split),
        CERTIFIED: ibp_accuracy(model, split, eps),
        ROBUST: pgd_accuracy(model, split, eps, steps=5, restarts=1, generator=generator(4), step_size=0.5),
    }
    assert value == expected[metric]


def test_a_penalised_loss_is_as_certified_as_its_loss() -> None:
    for loss, metric in (("ibp", CERTIFIED), ("fgsm", ROBUST)):
        assert measure(PLAN, losses.Penalised(losses.build(loss), ()))[0] == metric


def test_certified_accuracy_counts_the_images_whose_margins_are_above_zero(
    spec: ModelSpec, dataset: Dataset
) -> None:
    """Against float64 interval bounds of the lowered network, image by image and class by class."""
    model = build(spec)
    train(model, losses.build("ibp"), dataset, replace(PLAN, epochs=8))
    split, network = dataset.validation, lower(model, shape=(1, 8, 8))
    certified = 0
    for image, label in zip(split.images, split.labels.tolist(), strict=True):
        box = Box.ball(image.unsqueeze(0).double(), 0.03)
        centre, radius = (t[0] for t in ibp(network, box).last)
        weight, bias = network.node(network.output).op.weight, network.node(network.output).op.bias
        margins = [
            (weight[label] - weight[j]) @ centre
            + bias[label]
            - bias[j]
            - (weight[label] - weight[j]).abs() @ radius
            for j in range(4)
            if j != label
        ]
        certified += min(map(float, margins)) > 0
    assert 0 < certified < len(split)
    model.train()
    assert ibp_accuracy(model, split, 0.03) == certified / len(split)
    assert all(module.training for module in model.modules())
    with pytest.raises(InputError, match="no images"):
        ibp_accuracy(model, Split(split.images[:0], split.labels[:0]), 0.05)


def test_weights_are_chosen_by_it_and_not_before_eps_has_reached_its_end(
    spec: ModelSpec, dataset: Dataset
) -> None:
    model = build(spec)
    state = train(model, losses.build("ibp"), dataset, PLAN)
    assert [CERTIFIED in record.metrics for record in state.history] == [False, True, True]
    assert state.best is not None
    values = [record.metrics.get(CERTIFIED, -1.0) for record in state.history]
    assert state.best.value == max(values) and values[state.best.epoch - 1] == max(values)
    model.load_state_dict(dict(state.chosen))
    assert ibp_accuracy(model, dataset.validation, 0.05) == state.best.value


def test_the_learning_rate_is_read_anew_for_every_batch(model: nn.Module, dataset: Dataset) -> None:
    plan = replace(PLAN, epochs=2, warm_up=1, rate_shape="cosine", learning_rate=0.01)
    rates: list[float] = []

    class Slope(losses.Natural):
        """One gradient for all batches, so that plain descent moves by the rate."""

        def __call__(self, scene: Scene) -> losses.Terms:
            bias = scene.model.get_parameter("output.bias")
            rates.append(-float(bias.detach()[0]))
            return losses.Terms(bias[0], {"accuracy": 0.0})

    nn.init.zeros_(model.get_parameter("output.bias"))
    state = train(model, Slope(), dataset, replace(plan, momentum=0.0, weight_decay=0.0, clip=None))
    moved = torch.tensor([*rates, -float(model.get_parameter("output.bias").detach()[0])]).diff()
    # 97 images in batches of 32; the last batch of one image is left out.
    wanted = [plan.rates.at(epoch + (number + 0.5) / 4) for epoch in (0, 1) for number in range(3)]
    assert moved.tolist() == pytest.approx(wanted, rel=1e-4)
    assert [r.metrics["learning_rate"] for r in state.history] == [wanted[2], wanted[5]]
