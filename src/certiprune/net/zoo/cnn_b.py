"""A network without BatchNorm: two convolutions and two linear layers."""

from __future__ import annotations

from torch import nn

from certiprune.net.zoo.layers import Convolution, convolutional
from certiprune.net.zoo.spec import ModelSpec

_CONVOLUTIONS = (
    Convolution(32, kernel=5, stride=2, padding=2),
    Convolution(128, kernel=4, stride=2, padding=1),
)


def layers(spec: ModelSpec) -> dict[str, nn.Module]:
    """``cnn_b`` of Li et al. (TMLR 2023), known from the verification literature."""
    return convolutional(spec, _CONVOLUTIONS, batch_norm=False, hidden=250)
