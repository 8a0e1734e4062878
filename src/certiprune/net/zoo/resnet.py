"""A small residual network."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from certiprune.net.zoo.layers import Convolution, Residual, head
from certiprune.net.zoo.spec import ModelSpec

_STEM = Convolution(16, kernel=3, stride=1, padding=1)
_BLOCKS = (
    Convolution(32, kernel=3, stride=2, padding=1),
    Convolution(64, kernel=3, stride=2, padding=1),
)


def layers(spec: ModelSpec) -> dict[str, nn.Module]:
    """A stem and two residual blocks that each halve the image, then two linear layers; any image fits."""
    channels, height, width = spec.shape
    stem = spec.scaled(_STEM.channels)
    built: dict[str, nn.Module] = {
        "conv": _STEM.layer(channels, stem, bias=False),
        "norm": nn.BatchNorm2d(stem),
        "relu0": nn.ReLU(),
    }
    channels = stem
    for position, first in enumerate(_BLOCKS, 1):
        outgoing = spec.scaled(first.channels)
        built[f"block{position}"] = _block(channels, outgoing, first)
        built[f"relu{position}"] = nn.ReLU()
        channels, height, width = outgoing, first.size(height), first.size(width)
    return built | head(spec, channels * height * width, hidden=100)


def _block(incoming: int, outgoing: int, first: Convolution) -> Residual:
    second = Convolution(first.channels, kernel=3, stride=1, padding=1)
    straight = Convolution(first.channels, kernel=1, stride=first.stride, padding=0)
    body = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=first.layer(incoming, outgoing, bias=False),
            norm1=nn.BatchNorm2d(outgoing),
            relu=nn.ReLU(),
            conv2=second.layer(outgoing, outgoing, bias=False),
            norm2=nn.BatchNorm2d(outgoing),
        )
    )
    shortcut = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv=straight.layer(incoming, outgoing, bias=False), norm=nn.BatchNorm2d(outgoing)
        )
    )
    return Residual(body, shortcut)
