from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.data import Batch, Dataset
from certiprune.train import losses
from certiprune.train.scene import Scene


class Watched(nn.Module):
    """Remembers the points that the loss looks at last."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.points = torch.empty(0)

    def forward(self, points: Tensor) -> Tensor:
        self.points = points.detach().clone()
        return self.inner(points)


@pytest.fixture
def batch(dataset: Dataset) -> Batch:
    return Batch(dataset.train.images[:16], dataset.train.labels[:16])


def test_the_natural_loss_is_cross_entropy_with_the_accuracy(model: nn.Module, batch: Batch) -> None:
    model.eval()
    terms = losses.build("natural")(Scene.of(model, batch, eps=0.1, generator=generator(0)))
    scores = model(batch.images)
    torch.testing.assert_close(terms.total, cross_entropy(scores, batch.labels))
    assert terms.parts["accuracy"] == pytest.approx(float((scores.argmax(1) == batch.labels).float().mean()))
    terms.total.backward()
    assert model.get_parameter("conv1.weight").grad is not None


def test_fgsm_at_eps_zero_is_the_natural_loss_exactly(model: nn.Module, batch: Batch) -> None:
    natural, fgsm = (
        losses.build(name)(Scene.of(model, batch, eps=0.0, generator=generator(0)))
        for name in ("natural", "fgsm")
    )
    assert torch.equal(natural.total, fgsm.total) and natural.parts == fgsm.parts


@pytest.mark.parametrize("eps", [0.03, 0.3])
def test_fgsm_trains_on_points_of_the_ball_and_of_the_images(
    model: nn.Module, batch: Batch, eps: float
) -> None:
    watched = Watched(model.eval())
    natural = losses.build("natural")(Scene.of(watched, batch, eps=eps, generator=generator(0)))
    adversarial = losses.build("fgsm")(Scene.of(watched, batch, eps=eps, generator=generator(0)))
    distance = (watched.points - batch.images).abs()
    assert float(distance.max()) <= eps + 1e-6 and float(distance.mean()) > 0.5 * eps
    assert float(watched.points.min()) >= 0 and float(watched.points.max()) <= 1
    assert bool(adversarial.total > natural.total)


def test_fgsm_goes_one_step_of_the_given_length_from_its_start(batch: Batch) -> None:
    linear = Watched(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    middle = Batch(torch.full_like(batch.images, 0.5), batch.labels)
    losses.build("fgsm", step=1e-9)(Scene.of(linear, middle, eps=0.1, generator=generator(3)))
    start = linear.points
    losses.build("fgsm")(Scene.of(linear, middle, eps=0.1, generator=generator(3)))
    moved = linear.points - start
    corner = (linear.points - middle.images).abs() > 0.1 - 1e-6
    torch.testing.assert_close(moved.abs()[~corner], torch.full_like(moved[~corner], 0.125))
    assert not torch.equal(start[0], start[1])


def test_the_attack_leaves_statistics_and_gradients_alone(model: nn.Module, batch: Batch) -> None:
    model.train()
    losses.build("fgsm")(Scene.of(model, batch, eps=0.1, generator=generator(0)))
    assert int(model.get_buffer("norm1.num_batches_tracked")) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_wrong_names_and_options_are_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="no loss called 'fgsn'; did you mean fgsm"):
        losses.build("fgsn")
    with pytest.raises(InputError, match="no option of the loss fgsm called 'stp'; did you mean step"):
        losses.build("fgsm", stp=1.0)
    with pytest.raises(InputError, match="called 'step'; choose one of none"):
        losses.build("natural", step=1.0)
    with pytest.raises(InputError, match="option step of the loss fgsm must be above 0"):
        losses.build("fgsm", step=0.0)
    assert losses.options("fgsm") == {"step": 1.25} and losses.names()[:2] == ["natural", "fgsm"]
