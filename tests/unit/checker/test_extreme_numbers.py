"""The checker's bounds where numbers are as small or as large as float64 has them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp

from certiprune.checker.bounds import intervals, walk
from certiprune.checker.graph import Affine, Graph

LEAST, MOST = 5e-324, 1.7e308


def scaling(*weights: float) -> Graph:
    """One number, multiplied by one weight after the other."""
    zero = np.zeros(1)
    nodes = tuple(Affine(k, sp.csr_matrix([[w]]), zero, zero) for k, w in enumerate(weights))
    return Graph(nodes, (1,) * (len(weights) + 1), len(weights), "")


def exact(x: float, *weights: float) -> Fraction:
    found = Fraction(x)
    for w in weights:
        found *= Fraction(w)
    return found


@pytest.mark.parametrize("x", [LEAST, 3 * LEAST, 1e-310, 1e-300, 1.0])
@pytest.mark.parametrize("weights", [(MOST,), (MOST, 1e-30, MOST), (1e-30, MOST), (-MOST, 1e300)])
def test_intervals_of_a_point_hold(x: float, weights: tuple[float, ...]) -> None:
    low, high = intervals(scaling(*weights), np.array([x]), np.array([x]))[-1]
    truth = exact(x, *weights)
    assert low[0] == -np.inf or Fraction(low[0]) <= truth
    assert high[0] == np.inf or truth <= Fraction(high[0])


@pytest.mark.parametrize(
    ("x", "weights"),
    [
        # The form becomes 0 on its way back: 1e-286 * 2e-38.
        (1e300, (2e-38, 1e-143, 1e-143)),
        (1e200, (1e-200, 1e-200)),
        # What the values are at most becomes 0 on its way forward, and the form is large.
        (1e-200, (1e-200, MOST)),
        (1e-300, (1e-30, 1e300, 1e8)),
    ],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_forms_that_vanish_are_bounded(x: float, weights: tuple[float, ...], sign: float) -> None:
    graph = scaling(*weights)
    values = intervals(graph, np.array([x]), np.array([x]))
    (bound,) = walk(graph, values, graph.output, np.array([[sign]]))
    assert bound == -np.inf or Fraction(bound) <= Fraction(sign) * exact(x, *weights)


def test_ends_that_are_not_finite_bound_nothing() -> None:
    graph = scaling(2.0)
    values = intervals(graph, np.array([-np.inf]), np.array([np.inf]))
    assert values[-1][0] == -np.inf and values[-1][1] == np.inf
    assert walk(graph, values, graph.output, np.array([[1.0]])) == -np.inf
