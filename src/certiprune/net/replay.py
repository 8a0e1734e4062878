"""The model itself, as what counterexamples are replayed on."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from certiprune.core.errors import ModelError


def replayed(model: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """What runs ``model`` as it is now, in evaluation mode and in its precision; leaves it and its inputs alone.

    Returns:
        a function from inputs [n, *shape] to outputs [n, outputs].

    Raises:
        ModelError: its weights are in half precision, or in several.
    """
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if kinds & {torch.float16, torch.bfloat16} or len(kinds) > 1:
        raise ModelError(
            f"the model's weights are {' and '.join(sorted(map(str, kinds)))}, in which its outputs are too coarse to "
            "replay counterexamples on; verify model.float()"
        )
    kind = kinds.pop() if kinds else torch.float32
    copied = copy.deepcopy(model).to(device).eval()
    # A copy of the inputs: the first step may be one in place.
    return lambda x: copied(x.to(kind, copy=True)).flatten(1)
