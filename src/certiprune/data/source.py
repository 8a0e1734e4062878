"""What a loader hands over: images as they lie in the files, checked but neither split nor scaled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import DataError


@dataclass(frozen=True)
class Part:
    """Images [n, c, h, w], uint8 in 0..255 or float32 in [0, 1], and labels [n] int64.

    Bytes stay bytes until the splits are made: a quarter of the memory while both copies exist.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.images.shape[0]


@dataclass(frozen=True)
class Raw:
    """A whole set: with ``test`` None, one set that is still to be split in three."""

    train: Part
    test: Part | None
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """One dataset that can be loaded.

    Attributes:
        description: one line for the listing.
        advice: what a user does to get it.
        read: everything, from the folder (or, for None, from its usual place); raises DataError.
        find: where it is, without reading it, or None.
        mean: the field's usual constants per channel, or None where the training split decides.
        std: likewise.
    """

    name: str
    description: str
    advice: str
    read: Callable[[Path | None], Raw]
    find: Callable[[Path | None], str | None]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def checked_part(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    where: str,
    classes: int,
    shape: tuple[int, int, int] | None = None,
) -> Part:
    """``images`` [n, c, h, w] and ``labels`` [n] as a Part, once they are seen to be what they should be.

    ``where`` names the file in messages; ``shape`` is the ``(c, h, w)`` that the images must have, if fixed.

    Raises:
        DataError: no images, wrong shapes or types, labels outside 0..classes-1, values outside [0, 1].
    """
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(f"{where}: images must be a non-empty array [n, c, h, w], not {list(images.shape)}")
    if shape is not None and images.shape[1:] != shape:
        raise DataError(
            f"{where}: images are {list(images.shape[1:])}, but {list(shape)} was expected; wrong file?"
        )
    if labels.shape != images.shape[:1]:
        raise DataError(
            f"{where}: {images.shape[0]} images, but labels of shape {list(labels.shape)}; "
            "give one whole number per image"
        )
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where}: labels must be whole numbers, not {labels.dtype}; save them as int64")
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if outside.size:
        first = int(outside[0])
        raise DataError(
            f"{where}: label {labels[first]} at index {first} is not between 0 and {classes - 1}; "
            "the file is damaged or holds something else"
        )
    return Part(_pixels(images, where), torch.from_numpy(labels.astype(np.int64)))


def _pixels(images: np.ndarray, where: str) -> Tensor:
    if images.dtype == np.uint8:
        return torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if images.dtype.kind != "f":
        raise DataError(f"{where}: images are {images.dtype}; save them as uint8, or as float in [0, 1]")
    low, high = float(images.min()), float(images.max())
    # Written so that a NaN, which is neither below nor above anything, is refused too.
    if not (low >= 0.0 and high <= 1.0):
        raise DataError(
            f"{where}: image values lie between {low:g} and {high:g}, not in [0, 1]; "
            "scale them, and leave normalisation to the model"
        )
    return torch.from_numpy(np.require(images, np.float32, ["C", "W"]))


def unit_pixels(images: Tensor) -> Tensor:
    """Images of a Part as float32 in [0, 1]."""
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255.0)
    return images
