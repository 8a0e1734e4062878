"""Networks whose stable neurons on [0, 1] are known."""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.ops import Dense
from helpers.networks import F64, Source


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=F64)


OFF, ON, FREE = [0, 3], [1, 4], [2, 5]


def planted(outputs: int) -> Network:
    """Three inputs, then neurons 0 and 3 off, 1 and 4 on, 2 and 5 free on [0, 1]^3; ``outputs`` more behind them."""
    weight = tensor([-1, -1, 0], [1, 2, 0], [1, -1, 0], [0, -2, -1], [0, 1, 1], [1, 1, -2])
    bias = tensor(-0.1, 0.1, 0.0, -0.1, 0.5, 0.0)
    b = Builder((3,))
    hidden = b.relu(b.emit(Dense(weight, bias), 0), "hidden")
    return b.finish(b.emit(Source.of(outputs).dense(outputs, 6), hidden))


def crossing(gap: float, at: float) -> Network:
    """relu(x - at) - relu(x - at) - gap enters one neuron: off wherever it is, but intervals do not see that."""
    b = Builder((1,))
    h = b.relu(b.emit(Dense(tensor([1], [1]), tensor(-at, -at)), 0))
    z = b.relu(b.emit(Dense(tensor([1, -1]), tensor(-gap)), h))
    return b.finish(
        b.emit(Dense(tensor([1], [2]), tensor(0.5, 0.0)), b.add(z, b.emit(Dense(tensor([1, 1]), None), h)))
    )
