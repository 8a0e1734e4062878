"""Many scales in a row are not composed into one whose rounding nobody counts."""

from __future__ import annotations

from fractions import Fraction

import torch

from certiprune.bounds.interval import interval
from certiprune.core.box import Box
from certiprune.net import compact
from certiprune.net.build import Builder, fold
from certiprune.net.network import Network
from certiprune.net.ops import Scale


def chain(factors: torch.Tensor) -> Network:
    builder = Builder((1,))
    value = 0
    for factor in factors:
        value = builder.emit(Scale(factor.reshape(1), None), value)
    return builder.finish(value)


def rounded_one_way(count: int) -> torch.Tensor:
    """Factors near 1 whose products, taken from the left, are all rounded up by more than a sixteenth of a unit."""
    source = torch.Generator().manual_seed(0)
    # The first product, with 1, would be exact.
    total = torch.tensor(1.0, dtype=torch.float64) / 3
    factors = [total]
    while len(factors) < count:
        factor = 1 + 0.01 * (torch.rand((), generator=source, dtype=torch.float64) - 0.5)
        product = total * factor
        error = Fraction(float(product)) - Fraction(float(total)) * Fraction(float(factor))
        if error > Fraction(float(product)) * Fraction(1, 2**57):
            factors.append(factor)
            total = product
    return torch.stack(factors)


def test_the_interval_of_a_long_chain_holds_the_exact_value() -> None:
    factors = rounded_one_way(120)
    exact = Fraction(1)
    for factor in factors:
        exact *= Fraction(float(factor))
    one = torch.ones(1, 1, dtype=torch.float64)
    network = chain(factors)
    for found in (network, fold(network, network.output), compact(network)[0]):
        low, high = interval(found, Box(one, one))[1]
        assert Fraction(float(low)) <= exact <= Fraction(float(high))
        assert all(node.folded <= 6 for node in found.nodes)
        assert 120 / 7 <= len(found.nodes) < 120


def test_usual_neighbours_are_one_operation_still() -> None:
    assert len(chain(torch.tensor([0.5, 2.0, 3.0, 0.1, 7.0], dtype=torch.float64)).nodes) == 1
