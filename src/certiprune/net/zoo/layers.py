"""The layers that the networks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from certiprune.core.errors import ModelError
from certiprune.net.zoo.spec import ModelSpec


class Normalise(nn.Module):
    """``(x - mean) / std`` in each channel of images [n, c, h, w]; the statistics are buffers [c, 1, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class Residual(nn.Module):
    """``body(x) + shortcut(x)``; the ReLU that usually follows is a layer of its own."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


@dataclass(frozen=True)
class Convolution:
    """One convolution of an architecture: its outgoing channels at width 1, and its geometry in pixels."""

    channels: int
    kernel: int
    stride: int
    padding: int

    def size(self, size: int) -> int:
        """The outgoing height or width for an incoming one."""
        return (size + 2 * self.padding - self.kernel) // self.stride + 1

    def layer(self, incoming: int, outgoing: int, *, bias: bool) -> nn.Conv2d:
        return nn.Conv2d(incoming, outgoing, self.kernel, stride=self.stride, padding=self.padding, bias=bias)


def convolutional(
    spec: ModelSpec, convolutions: Sequence[Convolution], *, batch_norm: bool, hidden: int
) -> dict[str, nn.Module]:
    """Convolutions, each followed by (BatchNorm and) ReLU, then one hidden linear layer, then the classes.

    With BatchNorm the convolutions have no bias of their own: BatchNorm would subtract it again.

    Raises:
        ModelError: the images are too small, so that a convolution would have no output.
    """
    layers: dict[str, nn.Module] = {}
    channels, height, width = spec.shape
    for position, convolution in enumerate(convolutions, 1):
        outgoing = spec.scaled(convolution.channels)
        layers[f"conv{position}"] = convolution.layer(channels, outgoing, bias=not batch_norm)
        if batch_norm:
            layers[f"norm{position}"] = nn.BatchNorm2d(outgoing)
        layers[f"relu{position}"] = nn.ReLU()
        channels, height, width = outgoing, convolution.size(height), convolution.size(width)
        if height < 1 or width < 1:
            size = f"{spec.shape[1]}x{spec.shape[2]}"
            raise ModelError(
                f"{spec.name} does not fit images of {size}: nothing is left after conv{position}"
            )
    return layers | head(spec, channels * height * width, hidden)


def head(spec: ModelSpec, features: int, hidden: int) -> dict[str, nn.Module]:
    """Flatten, a linear layer of ``hidden`` neurons (at width 1) with ReLU, and one of ``spec.classes``."""
    neurons = spec.scaled(hidden)
    return {
        "flatten": nn.Flatten(),
        "hidden": nn.Linear(features, neurons),
        "relu": nn.ReLU(),
        "output": nn.Linear(neurons, spec.classes),
    }
