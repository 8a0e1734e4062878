"""Certified losses equal the same numbers worked out another way; their ends are the losses that they lie between."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.bounds.ibp import ibp
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.train import losses
from certiprune.train.losses import sabr
from certiprune.train.losses.attack import attacked
from certiprune.train.losses.base import AbstractLoss
from certiprune.train.losses.sabr import Sabr
from certiprune.train.scene import Scene, ball
from helpers.training import MODELS, batch, convolutional, dense, loop_intervals, scene, steps

EPS = 0.1


def worst_by_loops(model: nn.Sequential, images: Tensor, labels: Tensor, box: Box) -> list[list[float]]:
    """The largest that each output less the label's can be, for each image."""
    found = steps(model, images)
    return [
        [high for _, high in loop_intervals(found, box.lower[k], box.upper[k], label)[-1]]
        for k, label in enumerate(labels.tolist())
    ]


def entropy(scores: list[float], label: int) -> float:
    return math.log(sum(math.exp(score - scores[label]) for score in scores))


def value(loss: AbstractLoss, where: Scene) -> float:
    return float(loss(where).total.detach())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_ibp_is_interval_arithmetic_number_by_number(seed: int, training: bool) -> None:
    model, data = dense(seed).train(training), batch(seed)
    assert isinstance(model, nn.Sequential)
    where = scene(model, data, EPS)
    worst = worst_by_loops(model, *data, where.box)
    entropies = [entropy(scores, label) for scores, label in zip(worst, data.labels.tolist(), strict=True)]
    terms = losses.build("ibp")(where)
    assert float(terms.total.detach()) == pytest.approx(sum(entropies) / 6, rel=1e-10)
    certified = [
        all(score < 0 for j, score in enumerate(scores) if j != label)
        for scores, label in zip(worst, data.labels.tolist(), strict=True)
    ]
    assert terms.parts["certified_accuracy"] == pytest.approx(sum(certified) / 6)
    assert terms.parts["accuracy"] == pytest.approx(
        float((where.outputs.argmax(1) == data.labels).float().mean())
    )
    # What the loss says it bounded is what it bounded.
    assert terms.bounds is not None
    assert [t.shape for t in terms.bounds.lower.values()] == [(6, 6), (6, 5)]
    for k, (lower, upper) in enumerate(
        zip(terms.bounds.lower.values(), terms.bounds.upper.values(), strict=True)
    ):
        label = int(data.labels[1])
        ends = loop_intervals(steps(model, data.images), where.box.lower[1], where.box.upper[1], label)[k]
        torch.testing.assert_close(torch.stack([lower[1], upper[1]], 1).detach(), torch.tensor(ends).double())


def test_ibp_mixes_in_the_natural_loss() -> None:
    model, data = dense(1), batch(1)
    certified = value(losses.build("ibp"), scene(model, data, EPS))
    natural = value(losses.build("natural"), scene(model, data, EPS))
    mixed = value(losses.build("ibp", natural=0.25), scene(model, data, EPS))
    assert mixed == pytest.approx(0.75 * certified + 0.25 * natural)
    assert natural < certified


@pytest.mark.parametrize("name", [n for n in losses.names() if n != "natural"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_every_loss_is_the_natural_one_at_eps_0(name: str, kind: str, training: bool) -> None:
    models = [MODELS[kind](2).train(training) for _ in range(2)]
    data = batch(2)
    natural = losses.build("natural")(scene(models[0], data, 0.0, target=EPS))
    loss = losses.build(name)
    terms = loss(scene(models[1], data, 0.0, target=EPS, tracked=loss.certified))
    assert torch.equal(terms.total, natural.total) and terms.parts == natural.parts
    assert terms.bounds is None
    natural.total.backward()
    terms.total.backward()
    for mine, other in zip(models[1].parameters(), models[0].parameters(), strict=True):
        assert mine.grad is not None and other.grad is not None
        torch.testing.assert_close(mine.grad, other.grad)
    # The batch has moved the running statistics on exactly once.
    assert all(torch.equal(a, b) for a, b in zip(*(m.buffers() for m in models), strict=True))


@pytest.mark.parametrize("name", [n for n in losses.names() if losses.build(n).certified])
def test_the_clean_images_move_the_statistics_on_once(name: str) -> None:
    models, data = [MODELS["own"](2) for _ in range(2)], batch(2)
    losses.build("natural")(scene(models[0], data, EPS))
    losses.build(name)(scene(models[1], data, EPS, target=2 * EPS, tracked=True))
    assert all(torch.equal(a, b) for a, b in zip(*(m.buffers() for m in models), strict=True))
    assert int(models[1].get_buffer("norm1.num_batches_tracked")) == 1


@pytest.mark.parametrize("kind", MODELS)
def test_small_boxes_of_the_whole_radius_are_ibp_exactly(kind: str) -> None:
    model, data = MODELS[kind](3), batch(3)
    small = losses.build("sabr", ratio=1.0)(scene(model, data, EPS))
    whole = losses.build("ibp")(scene(model, data, EPS))
    assert torch.equal(small.total, whole.total)
    assert small.parts["small_box_accuracy"] == whole.parts["certified_accuracy"]
    assert "certified_accuracy" not in small.parts


@pytest.mark.parametrize("build", [dense, convolutional])
def test_small_boxes_of_no_radius_are_pgd(build: type) -> None:
    model, data = build(4, norm=False), batch(4)
    small = losses.build("sabr", ratio=0.0)(scene(model, data, EPS))
    attacked = losses.build("pgd")(scene(model, data, EPS))
    torch.testing.assert_close(small.total, attacked.total, rtol=1e-9, atol=1e-9)


def test_small_boxes_stay_inside_of_the_ball_and_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Box] = []
    points: list[Tensor] = []

    def watched_ibp(network: Network, box: Box) -> object:
        seen.append(box)
        return ibp(network, box)

    def watched_attack(*given: object, **options: object) -> Tensor:
        points.append(attacked(*given, **options))  # type: ignore[arg-type]
        return points[-1]

    monkeypatch.setattr(sabr, "ibp", watched_ibp)
    monkeypatch.setattr(sabr, "attacked", watched_attack)
    for seed in range(3):
        for dtype in (torch.float64, torch.float32):
            model, data = convolutional(seed).to(dtype), batch(seed)
            data = data._replace(images=data.images.round(decimals=1).to(dtype))
            for ratio, eps in ((0.4, 0.3), (0.1, 0.05), (0.9, 8 / 255)):
                where = scene(model, data, eps)
                Sabr(ratio=ratio)(where)
                small, centre = seen[-1], points[-1]
                assert bool((small.lower >= where.box.lower).all() and (small.upper <= where.box.upper).all())
                assert float(small.lower.min()) >= 0 and float(small.upper.max()) <= 1
                assert bool(((centre - data.images).abs() <= (1 - ratio) * eps * (1 + 1e-6) + 1e-7).all())
                assert bool(small.contains(where.box.clamp(centre)).all())
                width = (small.upper - small.lower).flatten()
                torch.testing.assert_close(float(width.max()), 2 * ratio * eps, rtol=1e-5, atol=1e-7)
                # The attack has moved: the small boxes are not all around the images.
                assert float((centre - data.images).abs().mean()) > 0.3 * (1 - ratio) * eps


def test_the_small_boxes_loss_is_the_interval_loss_of_those_boxes() -> None:
    model, data = dense(5), batch(5)
    where = scene(model, data, EPS)
    terms = Sabr(ratio=0.3)(where)
    again = scene(model, data, EPS)
    reach = 0.7 * EPS
    unit = torch.rand(data.images.shape, generator=again.generator).double()
    inner = ball(data.images, reach)
    points = inner.clamp(data.images + reach * (2 * unit - 1))
    for _ in range(8):
        points = points.detach().requires_grad_()
        (slope,) = torch.autograd.grad(
            cross_entropy(again.network(points), data.labels, reduction="sum"), points
        )
        points = inner.clamp(points.detach() + 0.25 * reach * slope.sign())
    small = Box((points - 0.3 * EPS).clamp(0, 1), (points + 0.3 * EPS).clamp(0, 1))
    worst = worst_by_loops(model, *data, small)
    entropies = [entropy(scores, label) for scores, label in zip(worst, data.labels.tolist(), strict=True)]
    assert float(terms.total.detach()) == pytest.approx(sum(entropies) / 6, rel=1e-9)


def test_another_radius_is_the_same_batch() -> None:
    model, data = dense(3).eval(), batch(3)
    where = scene(model, data, EPS, target=0.4)
    assert where.left == pytest.approx(0.75) and replace(where, eps=0.4).left == 0.0
    assert replace(where, eps=0.0).left == 1.0 and scene(model, data, 0.0).left == 0.0
    within = replace(where, eps=0.2)
    assert value(losses.build("ibp"), within) == value(losses.build("ibp"), scene(model, data, 0.2))
