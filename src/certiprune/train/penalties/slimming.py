"""Network slimming: the L1 norm of BatchNorm's scales.

    sum over BatchNorm channels of |gamma|

so that channels that matter little end with a scale near 0 and can be removed. Liu et al., "Learning efficient
convolutional networks through network slimming", ICCV 2017. The study's weight is 1e-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from certiprune.bounds.preact import PreActivation
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Slimming(AbstractPenalty):
    """The sum of the scales' absolute values; 0 for a model without BatchNorm."""

    name: ClassVar[str] = "slimming"

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        del bounds
        layers = [m for m in scene.model.modules() if isinstance(m, _BatchNorm) and m.weight is not None]
        scales = [layer.weight.abs().sum() for layer in layers]
        return torch.stack(scales).sum() if scales else scene.batch.images.new_zeros(())
