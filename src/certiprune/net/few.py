"""The transpose of a convolution whose input has few channels, as a network's first layer has.

    x = fold(W^T c):    every output position's patch of the input, W^T c, added up where the patches overlap

Libraries are slow at it: they work on channels in groups of 8 or 16, whatever the input has of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_FEW = 3


def few(weight: Tensor, groups: int) -> bool:
    """Whether a convolution's input has so few channels that ``transposed`` is quicker; grouped ones it cannot do."""
    return groups == 1 and weight.shape[1] <= _FEW


def transposed(
    c: Tensor, weight: Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """The convolution's transpose at ``c`` [n, out, *], for an input of ``size`` [h, w]; [n, in, h, w]."""
    patches = torch.matmul(weight.flatten(1).T, c.flatten(2))
    return F.fold(patches, size, tuple(weight.shape[2:]), 1, padding, stride)
