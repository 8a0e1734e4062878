"""Mean and standard deviation of each channel, for the normalisation that is every model's first layer."""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.data.source import unit_pixels

# Below this a channel is constant, and its standard deviation is rounding error.
SMALLEST = 1e-6


def channel_statistics(images: Tensor, *, chunk: int = 4096) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and the standard deviation over ``images`` [n, c, h, w], per channel and in input units.

    A constant channel gets the standard deviation 1, so that normalising never divides by zero.
    """
    total = torch.zeros(images.shape[1], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for piece in images.split(chunk):
        values = unit_pixels(piece).double()
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    count = images.numel() // images.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0.0).sqrt()
    std = torch.where(std < SMALLEST, torch.ones_like(std), std)
    return tuple(mean.tolist()), tuple(std.tolist())
