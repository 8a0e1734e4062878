"""The study's network: five convolutions and two linear layers."""

from __future__ import annotations

from torch import nn

from certiprune.net.zoo.layers import Convolution, convolutional
from certiprune.net.zoo.spec import ModelSpec

_CONVOLUTIONS = (
    Convolution(32, kernel=3, stride=1, padding=1),
    Convolution(64, kernel=4, stride=2, padding=1),
    Convolution(64, kernel=3, stride=1, padding=1),
    Convolution(128, kernel=4, stride=2, padding=1),
    Convolution(128, kernel=4, stride=2, padding=1),
)


def layers(spec: ModelSpec) -> dict[str, nn.Module]:
    """``cnn7`` of Li et al. (TMLR 2023): it flattens to 2048 features for 32x32 images, 1152 for 28x28."""
    return convolutional(spec, _CONVOLUTIONS, batch_norm=True, hidden=100)
