"""Weighted means of a clause's rows, as further dual parameters.

A clause of rows m_1 .. m_r fails where none of them is positive, so it holds wherever  sum_i w_i m_i(x) > 0  for any
weights w >= 0: they are multipliers of the constraints m_i <= 0. With sum w = 1 the mean is at most the largest row, so
its bound is one of the clause, too. The slope of the dual function in w_i is the i-th row's value at the minimiser that
the walk forward has already found (Danskin). Nothing here is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """The rows of ``m`` clauses, ``r`` each.

    Attributes:
        matrix: [m, r, outputs]; shorter clauses repeat a row of theirs, which changes no mean's meaning.
        offset: [m, r].
    """

    matrix: Tensor
    offset: Tensor

    def __getitem__(self, keep: Tensor) -> Mix:
        return Mix(self.matrix[keep], self.offset[keep])

    @property
    def rows(self) -> int:
        return self.matrix.shape[1]

    def to(self, dtype: torch.dtype) -> Mix:
        return Mix(self.matrix.to(dtype), self.offset.to(dtype))

    def form(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The means with ``weight`` [m, r]: coefficients [m, outputs] and constants [m]."""
        return (weight.unsqueeze(1) @ self.matrix).squeeze(1), (weight * self.offset).sum(1)

    def values(self, outputs: Tensor) -> Tensor:
        """The rows' values [m, r] at ``outputs`` [m, outputs]."""
        return (self.matrix @ outputs.unsqueeze(2)).squeeze(2) + self.offset


def shift(weight: Tensor, slope: Tensor, rate: float) -> None:
    """Move ``weight`` [m, r], in place and on the simplex, towards rows with larger ``slope`` [m, r].

    The largest change of a weight is ``rate`` before the sum is made 1 again, however the rows are scaled.
    """
    # What overflowed says nothing, and must not make the weights numbers that are none.
    slope = slope.nan_to_num(0.0, 0.0, 0.0)
    mean = (weight * slope).sum(1, keepdim=True)
    uphill = slope - mean
    # A row of no weight that is worse than the mean cannot move, and must not make the others' steps small.
    moves = (weight > 0) | (uphill > 0)
    uphill = uphill * moves
    # Rows that differ by rounding only are as good as each other.
    size = torch.maximum(uphill.abs(), 1e-5 * slope.abs() * moves).amax(1, keepdim=True)
    weight.addcdiv_(uphill, size.clamp(min=1e-30), value=rate).clamp_(min=0)
    weight /= weight.sum(1, keepdim=True)
