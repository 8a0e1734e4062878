"""The L1 norm of the weights.

    sum over weights of convolutions and linear layers of |w|

It makes interval bounds narrow (a row's |A| is what widens them) and weights sparse (Xiao et al. 2019 use it for both).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from certiprune.bounds.preact import PreActivation
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class L1(AbstractPenalty):
    """The sum of the weights' absolute values, biases and BatchNorm left out."""

    name: ClassVar[str] = "l1"

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        del bounds
        layers = [m for m in scene.model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        sizes = [layer.weight.abs().sum() for layer in layers]
        return torch.stack(sizes).sum() if sizes else scene.batch.images.new_zeros(())
