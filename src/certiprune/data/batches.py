"""Going through a split in batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from certiprune.core.errors import InputError
from certiprune.data.augment import Augment
from certiprune.data.types import Batch, Split


def batches(
    split: Split, size: int, *, generator: torch.Generator | None, augment: Augment | None = None
) -> Iterator[Batch]:
    """Every image of ``split`` once, ``size`` at a time; the last batch may be smaller.

    With a generator the order is random, and the same generator then feeds ``augment``; with None the images
    come in order and unchanged.

    Raises:
        InputError: ``size`` is not positive, or ``augment`` is given without a generator.
    """
    if size < 1:
        raise InputError(f"a batch must hold at least one image, not {size}")
    if augment is not None and generator is None:
        raise InputError("augmentation draws random numbers: give batches() a generator, or no augment")
    return _iterate(split, size, generator, augment)


def _iterate(
    split: Split, size: int, generator: torch.Generator | None, augment: Augment | None
) -> Iterator[Batch]:
    if generator is None:
        for start in range(0, len(split), size):
            part = split[start : start + size]
            yield Batch(part.images, part.labels)
        return
    order = torch.randperm(len(split), generator=generator, device=generator.device).to(split.images.device)
    for index in order.split(size):
        images = split.images[index]
        if augment is not None:
            images = augment(images, generator=generator)
        yield Batch(images, split.labels[index])
