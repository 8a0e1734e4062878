"""Accuracy, standard and under attack."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from certiprune.attack import evaluating, label_margin, pgd
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator as seeded
from certiprune.data import Batch, Split, batches


def accuracy(model: nn.Module, split: Split, *, batch_size: int = 500) -> float:
    """The fraction of ``split`` that ``model`` classifies rightly, in evaluation mode.

    Raises:
        InputError: the split is empty.
    """
    return mean(correct(model, split, batch_size=batch_size))


def pgd_accuracy(
    model: nn.Module,
    split: Split,
    eps: float,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator,
    step_size: float = 0.25,
    batch_size: int = 500,
) -> float:
    """The fraction of ``split`` that withstands a PGD attack of radius ``eps``; see ``withstands``.

    Raises:
        InputError: the split is empty.
    """
    robust = withstands(
        model, split, eps, steps=steps, restarts=restarts, generator=generator, step_size=step_size,
        batch_size=batch_size,
    )  # fmt: skip
    return mean(robust)


@torch.no_grad()
def correct(model: nn.Module, split: Split, *, batch_size: int = 500) -> Tensor:
    """Which images ``model`` classifies rightly in evaluation mode: a boolean tensor [n] on the CPU."""
    with evaluating(model):
        found = [
            (model(images).argmax(1) == labels).cpu() for images, labels in batched(model, split, batch_size)
        ]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)


def withstands(
    model: nn.Module,
    split: Split,
    eps: float,
    *,
    steps: int,
    restarts: int,
    generator: torch.Generator,
    step_size: float = 0.25,
    batch_size: int = 500,
) -> Tensor:
    """Which images are classified rightly, and so at every point that PGD tried: a boolean tensor [n].

    An image's answer does not depend on ``batch_size`` or on the other images.

    Args:
        model: from images in [0, 1] to class scores; it runs in evaluation mode.
        split: the images.
        eps: the L-infinity radius, in input units; the ball is clipped to [0, 1].
        steps: of the attack, see ``pgd``.
        restarts: random starts of the attack.
        generator: seeds the starts; it is read once.
        step_size: as a fraction of the ball's half width.
        batch_size: images attacked together.
    """
    robust = correct(model, split, batch_size=batch_size)
    # The same seed for every batch: no image's starts depend on how many images came before it.
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    open_cases = robust.nonzero().squeeze(1)
    kept = []
    with evaluating(model):
        for images, labels in batched(model, split[open_cases], batch_size):
            result = pgd(
                label_margin(model, labels), Box.ball(images, eps), steps=steps, step_size=step_size,
                restarts=restarts, generator=seeded(seed, "attack"), stop_at=0.0,
            )  # fmt: skip
            kept.append((result.values > 0).cpu())
    if kept:
        robust[open_cases] = torch.cat(kept)
    return robust


def batched(model: nn.Module, split: Split, size: int) -> Iterator[Batch]:
    """The images of ``split`` in order, ``size`` at a time, on the model's device."""
    parameter = next(model.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    for images, labels in batches(split, size, generator=None):
        yield Batch(images.to(device), labels.to(device))


def mean(answers: Tensor) -> float:
    """The fraction of ``answers`` [n] that are true.

    Raises:
        InputError: there are none.
    """
    if not len(answers):
        raise InputError("there are no images to measure accuracy on")
    return float(answers.double().mean())
