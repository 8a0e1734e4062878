"""A pruned model together with what it keeps."""

from __future__ import annotations

from typing import Any

from torch import nn

from certiprune.core.mask import Mask
from certiprune.prune import mask_of, prune


def pruned_and_mask(model: nn.Module, **settings: Any) -> tuple[nn.Module, Mask]:
    """``prune``, and the mask that the result holds."""
    pruned = prune(model, **settings)
    mask = mask_of(pruned)
    assert mask is not None
    return pruned, mask
