"""Arrays of whatever kind a user has, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import InputError

Array = Tensor | np.ndarray | Sequence[Any]


def tensor(values: Array, dtype: torch.dtype, what: str) -> Tensor:
    """``values`` in ``dtype``; ``what`` they are is for the error.

    Raises:
        InputError: they are no array of real numbers, or not whole where ``dtype`` is int64.
    """
    try:
        found = values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise InputError(f"the {what} are no array of numbers") from error
    if found.is_complex():
        raise InputError(f"the {what} are complex numbers")
    if dtype == torch.int64 and found.is_floating_point() and bool((found != found.round()).any()):
        raise InputError(f"the {what} must be whole numbers")
    return found.to(dtype)
