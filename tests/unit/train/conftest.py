from __future__ import annotations

import pytest
import torch
from torch import nn

from certiprune.core.rng import generator
from certiprune.data import Dataset, Split
from certiprune.net.zoo import ModelSpec, build

CLASSES = 4


def blobs(n: int, *purpose: str) -> Split:
    """Images [n, 1, 8, 8] of one bright quarter each, which tells the class, with noise on top."""
    source = generator(0, *purpose)
    labels = torch.randint(0, CLASSES, (n,), generator=source)
    images = 0.5 * torch.rand(n, 1, 8, 8, generator=source)
    for item, label in enumerate(labels.tolist()):
        top, left = 4 * (label // 2), 4 * (label % 2)
        images[item, 0, top : top + 4, left : left + 4] += 0.5
    return Split(images, labels)


@pytest.fixture
def dataset() -> Dataset:
    splits = (blobs(97, "train"), blobs(40, "validation"), blobs(40, "test"))
    return Dataset("blobs", *splits, CLASSES, tuple("abcd"), (0.4,), (0.3,))


@pytest.fixture
def spec() -> ModelSpec:
    return ModelSpec("cnn_small", (1, 8, 8), CLASSES, (0.4,), (0.3,), width=0.5)


@pytest.fixture
def model(spec: ModelSpec) -> nn.Module:
    return build(spec)
