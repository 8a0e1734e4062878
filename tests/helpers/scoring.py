"""What tests of pruning scores share: images, and losses worked out without the library's gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Batch, Split
from certiprune.prune import Calibration, Scores, scores
from certiprune.train.losses import AbstractLoss
from certiprune.train.losses.natural import Natural
from helpers.training import CLASSES, SHAPE, loop_intervals, steps


def images(n: int = 14, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES, seed: int = 0) -> Split:
    """Random images in float32, and labels."""
    source = generator(seed, "images")
    return Split(torch.rand(n, *shape, generator=source), torch.randint(classes, (n,), generator=source))


def calibration(
    n: int = 14, *, loss: AbstractLoss | None = None, eps: float = 0.0, size: int = 6
) -> Calibration:
    return Calibration(images(n), loss or Natural(), eps, size)


def weights(model: nn.Module) -> Mask:
    """Everything of the weights of convolutions and linear layers."""
    return Mask.ones(model, [name for name, p in model.named_parameters() if p.dim() > 1])


def scored(
    name: str,
    model: nn.Module,
    mask: Mask,
    data: Calibration | None,
    *,
    keep: int = 1,
    seed: int = 0,
    **options: object,
) -> Scores:
    scorer = scores.build(name, **options)
    return scorer.score(model, mask, data, keep=keep, generator=generator(seed))


def batches(data: Calibration, seed: int = 0) -> list[Batch]:
    """The batches in float64 that a score sees whose generator has this seed."""
    found = data.ordered(generator(seed))
    return [Batch(batch.images.double(), batch.labels) for batch in found if len(batch.images) > 1]


def natural(model: nn.Module, batch: Batch) -> float:
    with torch.no_grad():
        return float(cross_entropy(model(batch.images), batch.labels))


def interval(eps: float) -> Callable[[nn.Module, Batch], float]:
    """The loss of interval bounds of a ``dense`` model, number by number."""

    def loss(model: nn.Module, batch: Batch) -> float:
        found, worst = steps(model, batch.images), []  # type: ignore[arg-type]
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            low, high = (image - eps).clamp(0, 1), (image + eps).clamp(0, 1)
            worst.append([upper for _, upper in loop_intervals(found, low, high, label)[-1]])
        for row, label in zip(worst, batch.labels.tolist(), strict=True):
            row[label] = 0.0
        return float(cross_entropy(torch.tensor(worst, dtype=torch.float64), batch.labels))

    return loss


def slopes(model: nn.Module, name: str, value: Callable[[], float], *, factor: float = 1e-5) -> Tensor:
    """``w dL/dw`` for each weight of a parameter, by central differences of the loss in a factor on it."""
    parameter = model.get_parameter(name)
    flat, found = parameter.data.flatten(), []
    for k, weight in enumerate(flat.tolist()):
        ends = []
        for c in (1 + factor, 1 - factor):
            flat[k] = c * weight
            parameter.data.copy_(flat.reshape(parameter.shape))
            ends.append(value())
        flat[k] = weight
        parameter.data.copy_(flat.reshape(parameter.shape))
        found.append((ends[0] - ends[1]) / (2 * factor))
    return torch.tensor(found, dtype=torch.float64).reshape(parameter.shape)
