"""Three fixed splits, which depend on the dataset's name, the seed and the validation share only."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from certiprune.core.errors import DataError
from certiprune.core.rng import generator
from certiprune.data.source import Part, Raw

# The share of a set without a test part of its own that becomes the test split.
TEST_SHARE = 0.2


class Parts(NamedTuple):
    """The three splits, still as they lie in the files."""

    train: Part
    validation: Part
    test: Part


def split_in_three(raw: Raw, *, name: str, seed: int, validation: float) -> Parts:
    """Divide ``raw`` by seed.

    The test part is as given; where there is none, it is drawn first, so that it does not depend on
    ``validation``. Of the rest, the rounded share ``validation`` (but at least one image, unless it is 0)
    becomes the validation split. Training and validation images come in a random order, so a head of them is
    a fair sample.

    Raises:
        DataError: no image would be left to train on.
    """
    order = torch.randperm(len(raw.train), generator=generator(seed, "split", name))
    test = raw.test
    if test is None:
        held = _count(len(order), TEST_SHARE)
        test, order = _take(raw.train, order[:held]), order[held:]
    held = _count(len(order), validation)
    if held >= len(order):
        raise DataError(
            f"dataset {name} has only {len(raw.train)} images to train on: too few for its splits"
        )
    return Parts(_take(raw.train, order[held:]), _take(raw.train, order[:held]), test)


def _count(n: int, share: float) -> int:
    return max(round(n * share), 1) if share > 0 else 0


def _take(part: Part, index: Tensor) -> Part:
    return Part(part.images[index], part.labels[index])
