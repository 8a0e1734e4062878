"""Which form of the relaxation a search uses, and the scale of what it bounds."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Engine
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import walk_cost
from certiprune.bounds.reduced_walker import prefix_cost

# The forms take equally long where the reduced one's multiply-adds are the network's and so many for each neuron,
# whose lines and values a walk through the network writes and reads (``benchmarks/forms.py`` measures it).
_NEURON = 100
# Bytes for each number of the reduced form: in both precisions, and what making them takes for a while.
_NUMBER = 40


def reducible(engine: Engine, pre: PreActivation) -> bool:
    """Whether the reduced form of the one box of ``pre`` fits, and is quicker than walks through the network."""
    ends = [*pre.lower.values(), *pre.upper.values()]
    if any(not bool(t.isfinite().all()) for t in ends):
        return False
    network = engine.exact
    inputs = math.prod(network.input_shape)
    if int(walk_cost(pre, inputs)) * _NUMBER >= engine.memory:
        return False
    return int(walk_cost(pre, inputs, prefix_cost(network))) < network.cost() + _NEURON * network.neurons


def unit(coeff: Tensor, const: Tensor) -> Tensor:
    """For each form the power of two [...] that brings ``coeff`` [..., outputs] to unit size, dividing exactly.

    A search's goal is an absolute number, which is to mean the same for every row.
    """
    # A constant that is far larger decides the form alone, and is not to overflow.
    size = torch.maximum(coeff.abs().amax(-1), 1e-20 * const.abs()).clamp(min=1e-100, max=1e100)
    # Not by ``exp2``, whose results for many numbers at once are a rounding away from powers of two.
    return size / torch.frexp(size).mantissa
