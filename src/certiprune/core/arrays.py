"""Arrays of whatever kind a user has, as tensors."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.epsilon import parse_epsilon
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


def shape_of(shape: Sequence[int]) -> tuple[int, ...]:
    """``shape`` as plain whole numbers.

    Raises:
        InputError: it is none.
    """
    try:
        if not any(isinstance(size, bool) for size in shape):
            return tuple(map(operator.index, shape))
    except TypeError:
        pass
    raise InputError(f"the shape {shape!r} must be whole numbers, such as (1, 28, 28)")


def radii(eps: float | str | Array, numbers: Sequence[int]) -> float | Tensor:
    """``eps`` as one radius, or as one for each of the inputs ``numbers``.

    Raises:
        InputError: it is no number, out of range, or of another count.
    """
    if isinstance(eps, str | float | int):
        return parse_epsilon(eps)
    radius = tensor(eps, torch.float64, "epsilons").flatten()
    if len(radius) not in (1, len(numbers)):
        raise InputError(
            f"there are {len(radius)} epsilons for {len(numbers)} images; give one, or one per image"
        )
    wrong = ~((radius >= 0) & (radius <= 1))
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        number = numbers[place] if len(numbers) == len(radius) else place
        raise InputError(
            f"epsilon {float(radius[place])} (number {number}) must lie in [0, 1]: it is in input units"
        )
    return float(radius[0]) if len(radius) == 1 else radius
