"""The study's small network: two convolutions and two linear layers."""

from __future__ import annotations

from torch import nn

from certiprune.net.zoo.layers import Convolution, convolutional
from certiprune.net.zoo.spec import ModelSpec

_CONVOLUTIONS = (
    Convolution(8, kernel=4, stride=2, padding=1),
    Convolution(16, kernel=4, stride=2, padding=1),
)


def layers(spec: ModelSpec) -> dict[str, nn.Module]:
    """The small network of Li et al. (TMLR 2023), for images of 4x4 and larger."""
    return convolutional(spec, _CONVOLUTIONS, batch_norm=True, hidden=100)
