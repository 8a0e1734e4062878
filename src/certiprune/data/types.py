"""What a dataset is: three splits of images with labels, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from certiprune.core.errors import InputError


class Batch(NamedTuple):
    """Some images [n, c, h, w] float32 in [0, 1] and their labels [n] int64."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Split:
    """``n`` images with their labels.

    Attributes:
        images: [n, c, h, w] float32 in [0, 1], not normalised; of a caller's own data also [n, ...] in another shape.
        labels: [n] int64, counted from 0.

    Raises:
        InputError: the tensors have other shapes or other types.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.dim() < 2 or self.images.dtype != torch.float32:
            raise InputError(
                "the images of a split must be float32 [n, ...], "
                f"not {self.images.dtype} {list(self.images.shape)}"
            )
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise InputError(
                f"the labels of a split must be int64 [{len(self.images)}], "
                f"not {self.labels.dtype} {list(self.labels.shape)}"
            )

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Split:
        return Split(self.images[index], self.labels[index])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, such as ``(c, h, w)``."""
        return tuple(self.images.shape[1:])

    def head(self, n: int) -> Split:
        """The first ``n`` images, or all of them where there are fewer."""
        return self[: max(n, 0)]

    def to(self, device: torch.device | str) -> Split:
        """The same split on another device."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """Three fixed splits of one set of images.

    The three splits share no image. Everything is chosen on ``validation``; ``test`` is for the end.

    Attributes:
        name: the name that it was loaded by.
        classes: how many classes there are; labels lie between 0 and ``classes - 1``.
        class_names: one name per class.
        mean: per channel, in input units, for the normalisation that is the first layer of every model.
        std: per channel, above 0.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape ``(c, h, w)`` of one image."""
        channels, height, width = self.train.shape
        return channels, height, width


@dataclass(frozen=True)
class DatasetInfo:
    """One dataset that ``load`` knows.

    ``where`` says where it was found, or, where ``found`` is false, what to do to get it.
    """

    name: str
    description: str
    found: bool
    where: str
