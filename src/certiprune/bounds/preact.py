"""Bounds on what enters each ReLU, and what a search has decided about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.core.box import round_down, round_up


@dataclass(frozen=True)
class PreActivation:
    """Sound bounds for ``n`` boxes: for each ReLU (named by the value that it makes) what its input can be.

    Attributes:
        lower: ReLU value -> [n, *shape].
        upper: ReLU value -> [n, *shape].
    """

    lower: Mapping[int, Tensor]
    upper: Mapping[int, Tensor]

    def unstable(self, relu: int) -> Tensor:
        """Which neurons of a ReLU may be on or off: a boolean tensor [n, *shape]."""
        return (self.lower[relu] < 0) & (self.upper[relu] > 0)

    def counts(self) -> Tensor:
        """Unstable neurons over all ReLUs, [n] int64."""
        return torch.stack([self.unstable(v).flatten(1).sum(1) for v in self.lower]).sum(0)

    def __getitem__(self, index: Tensor | slice) -> PreActivation:
        return PreActivation(
            {v: t[index] for v, t in self.lower.items()}, {v: t[index] for v, t in self.upper.items()}
        )

    def put(self, index: Tensor, better: PreActivation) -> PreActivation:
        """These bounds with the items ``index`` [m] replaced by the ``m`` items of ``better``."""
        lower = {v: t.index_copy(0, index, better.lower[v]) for v, t in self.lower.items()}
        return PreActivation(
            lower, {v: t.index_copy(0, index, better.upper[v]) for v, t in self.upper.items()}
        )

    def to(self, dtype: torch.dtype) -> PreActivation:
        """The same bounds in another precision, rounded outward."""
        low = {v: round_down(t, dtype) for v, t in self.lower.items()}
        return PreActivation(low, {v: round_up(t, dtype) for v, t in self.upper.items()})
