"""A network of linear layers."""

from __future__ import annotations

import math

from torch import nn

from certiprune.net.zoo.spec import ModelSpec


def layers(spec: ModelSpec) -> dict[str, nn.Module]:
    """Two hidden layers of 256 neurons (at width 1)."""
    neurons = spec.scaled(256)
    return {
        "flatten": nn.Flatten(),
        "hidden1": nn.Linear(math.prod(spec.shape), neurons),
        "relu1": nn.ReLU(),
        "hidden2": nn.Linear(neurons, neurons),
        "relu2": nn.ReLU(),
        "output": nn.Linear(neurons, spec.classes),
    }
