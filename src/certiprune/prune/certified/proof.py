"""What is proved of a network's ReLUs on a whole domain, with all that is needed to work it out again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor

from certiprune.bounds import PreActivation
from certiprune.core.box import Box


@dataclass(frozen=True)
class Forms:
    """Ends of neurons of one ReLU that were bounded by linear forms (``bounds.value``) instead of intervals.

    Attributes:
        neuron: [m] int64, flat numbers of neurons.
        upper: [m] bool, whether the end is the upper one.
        slopes: by earlier ReLU value, the lower slopes in [0, 1] of its unstable neurons as each form sees them,
            [m, *window or whole value] float32. ReLUs that are not named have CROWN's slopes, which the bounds on what
            enters them decide.
    """

    neuron: Tensor
    upper: Tensor
    slopes: Mapping[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "slopes", MappingProxyType(dict(self.slopes)))

    def __len__(self) -> int:
        return len(self.neuron)

    def __getitem__(self, index: Tensor | slice) -> Forms:
        return Forms(self.neuron[index], self.upper[index], {v: t[index] for v, t in self.slopes.items()})


@dataclass(frozen=True)
class Proof:
    """Bounds on what enters each ReLU, for every point of a domain.

    Attributes:
        digest: of the network (``net.digest``).
        domain: one box [1, *input_shape], in input units.
        bounds: for every ReLU value, a lower and an upper bound of what enters each of its neurons, [1, *shape]. A
            neuron is claimed to be off where the upper one is at most 0, and on where the lower one is at least 0.
        forms: by ReLU value, what was bounded by linear forms. Intervals need nothing but the network.
    """

    digest: str
    domain: Box
    bounds: PreActivation
    forms: Mapping[int, tuple[Forms, ...]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "forms", MappingProxyType(dict(self.forms)))

    def off(self, relu: int) -> Tensor:
        """Which neurons give 0 on the whole domain, [*shape] bool."""
        return self.bounds.upper[relu][0] <= 0

    def on(self, relu: int) -> Tensor:
        """Which neurons give what enters them on the whole domain, [*shape] bool; those that are 0 are off."""
        return (self.bounds.lower[relu][0] >= 0) & ~self.off(relu)

    @staticmethod
    def recorded(bounds: PreActivation) -> PreActivation:
        """``bounds`` a little wider, so that a machine that adds up in another order proves them as well.

        An end that is exactly 0 stays: it comes from weights that are 0 or from another ReLU, not from rounding.
        """
        lower, upper = {}, {}
        for v, low in bounds.lower.items():
            high = bounds.upper[v]
            room = torch.maximum(low.abs(), high.abs()) * 2.0**-30
            lower[v] = torch.where(low == 0, low, low - room)
            upper[v] = torch.where(high == 0, high, high + room)
        return PreActivation(lower, upper)
