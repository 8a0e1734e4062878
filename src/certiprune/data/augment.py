"""Random crops and flips of training images, as tensor code over a whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Augment:
    """Shift each image by up to ``crop_padding`` pixels, filling with zeros, and mirror every second one.

    The study uses padding 4 with flips, and for SVHN crops only. For the training split only.

    Raises:
        InputError: ``crop_padding`` is negative.
    """

    crop_padding: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        if self.crop_padding < 0:
            raise InputError(f"crop_padding={self.crop_padding} must not be negative")

    def __call__(self, images: Tensor, *, generator: torch.Generator) -> Tensor:
        """A changed copy of ``images`` [n, c, h, w], of the same shape; every image draws its own numbers."""
        if self.crop_padding:
            images = _crop(images, self.crop_padding, generator)
        if self.flip:
            mirrored = torch.rand(len(images), generator=generator, device=generator.device) < 0.5
            images = torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(3), images)
        return images


def _crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    n, _, height, width = images.shape
    corner = torch.randint(0, 2 * padding + 1, (2, n), generator=generator, device=generator.device)
    top, left = corner.to(images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    padded = pad(images, (padding, padding, padding, padding))
    index = torch.arange(n, device=images.device)[:, None, None]
    # An index on each side of the channel slice puts the channels last.
    crops = padded[index, :, rows[:, :, None], columns[:, None, :]]
    return crops.permute(0, 3, 1, 2).contiguous()
