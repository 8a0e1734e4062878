"""Rigorous bounds in float64: intervals of every value, and linear forms walked back to the input.

Forms are columns: an array [size of a value, m] holds m of them. A sum of k products in float64, in whatever order, is
within gamma_k = k u / (1 - k u) times the sum of the products' sizes (Higham 2002, section 3.1). Each step's loss,
times what the values can be at most, is added up and subtracted twice; what is not finite proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from .graph import Affine, Array, Graph, Relu

Interval = tuple[Array, Array]
Tighten = Callable[[int, Array, Array, list[Interval]], Interval]
"""From a ReLU's number in the file's order, bounds of what enters it, and of all values so far, to tighter ones."""

# More than any sum loses by underflow: fewer than 2^50 products, each by half of the smallest float64.
TINY = 1e-300


@dataclass(frozen=True)
class Choice:
    """What m forms choose at one ReLU.

    Attributes:
        neuron: [k] different numbers of neurons.
        theta: [k, m], slopes of neurons that are not split (cut to [0, 1]), multipliers of those that are (0 or more).
        sign: [k, m], 1: z >= 0 is given, -1: z <= 0 is given, 0: not split.
    """

    neuron: Array
    theta: Array
    sign: Array


def gamma(terms: int) -> float:
    """The relative error bound of a sum of ``terms`` products, of which each factor was rounded up to 8 times."""
    k = (terms + 16) * 2.0**-53
    return k / (1 - k)


def intervals(graph: Graph, low: Array, high: Array, tighten: Tighten | None = None) -> list[Interval]:
    """Bounds of every value of the network where low <= x <= high, ``tighten`` applied to what enters each ReLU.

    The bounds of a ReLU's input are replaced by the tightened ones in the result.
    """
    values: list[Interval] = [(low, high)]
    number = 0
    for node in graph.nodes:
        if isinstance(node, Relu):
            low, high = values[node.x]
            if tighten is not None:
                low, high = tighten(number, low, high, values)
                values[node.x] = low, high
            number += 1
            values.append((np.maximum(low, 0), np.maximum(high, 0)))
        elif isinstance(node, Affine):
            low, high = values[node.x]
            centre, radius = low / 2 + high / 2, high / 2 - low / 2
            slack = 4 * gamma(len(low)) * (node.absolute @ largest(low, high) + node.size) + TINY
            middle, reach = node.matrix @ centre + node.bias, node.absolute @ radius + slack
            values.append(_known(middle - reach, middle + reach))
        else:
            parts = [values[k] for k in node.parts]
            low, high = (np.sum([p[end] for p in parts], 0) for end in (0, 1))
            slack = 2 * gamma(len(parts)) * np.sum([largest(*p) for p in parts], 0) + TINY
            values.append(_known(low - slack, high + slack))
    return values


def largest(low: Array, high: Array) -> Array:
    """How large a number between two ends can be."""
    return np.maximum(np.abs(low), np.abs(high))


def _known(low: Array, high: Array) -> Interval:
    """Ends that overflowed say nothing."""
    return np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)


def lines(low: Array, high: Array) -> tuple[Array, Array, Array]:
    """Slopes and gap, for low <= z <= high, of  slope z <= relu(z) <= up z + gap;  the slope is CROWN's choice."""
    unstable = (low < 0) & (high > 0)
    on = (low >= 0).astype(float)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        up = np.where(unstable, np.nan_to_num(high / (high - low), nan=1.0), on)
        # The line must be above 0 at the lower end and above z at the upper one, whatever was rounded.
        gap = np.where(unstable, np.maximum(-up * low, (1 - up) * high) * (1 + 2.0**-50) + TINY, 0.0)
    return np.where(unstable, (high > -low).astype(float), on), up, gap


def walk(
    graph: Graph,
    values: list[Interval],
    start: int,
    forms: Array,
    choices: Mapping[int, Choice] | None = None,
) -> Array:
    """Lower bounds [m] of the linear forms ``forms`` [size, m] over value ``start``, where the choices' signs hold.

    Args:
        graph: the network.
        values: sound bounds of every value up to ``start``.
        start: a value.
        forms: coefficients.
        choices: by ReLU value, slopes and multipliers of the forms; any are sound. Elsewhere slopes are CROWN's.
    """
    choices = choices or {}
    form = {start: forms}
    total, mass, lost = (np.zeros(forms.shape[1]) for _ in range(3))
    steps = 2 * (start + 2)

    def constant(c: Array, b: Array) -> None:
        nonlocal total, mass
        total = total + b @ c
        mass = mass + np.abs(b) @ np.abs(c)

    with np.errstate(invalid="ignore", over="ignore"):
        for v in range(start, 0, -1):
            if v not in form:
                continue
            c, node = form.pop(v), graph.nodes[v - 1]
            if not isinstance(node, Affine | Relu):
                for part in node.parts:
                    _gather(form, part, c)
                size = np.sum([largest(*values[k]) for k in node.parts], 0)
                lost += gamma(steps) * (size @ np.abs(c))
            elif isinstance(node, Affine):
                reach = node.absolute @ largest(*values[node.x]) + node.size
                lost += gamma(len(c) + steps) * (reach @ np.abs(c)) + TINY * reach.sum()
                constant(c, node.bias)
                _gather(form, node.x, node.transposed @ c)
            else:
                low, high = values[node.x]
                size = largest(low, high)
                slope, up, gap = (t[:, None] for t in lines(low, high))
                choice, push = choices.get(v), None
                if choice is not None:
                    slope, up, gap, push = _chosen(choice, low, high, slope, up, gap)
                below = np.minimum(c, 0)
                back = np.maximum(c, 0) * slope + below * up
                held = (below * gap).sum(0)
                total, mass = total + held, mass - held
                lost += gamma(len(c) + steps) * (2 * size @ np.abs(c)) + TINY * size.sum()
                if choice is not None and push is not None:
                    back[choice.neuron] += push
                    lost += gamma(steps) * (size[choice.neuron] @ np.abs(push))
                _gather(form, node.x, back)
        c = form.pop(0, np.zeros((graph.sizes[0], forms.shape[1])))
        low, high = values[0]
        total = total + low @ np.maximum(c, 0) + high @ np.minimum(c, 0)
        mass = mass + largest(low, high) @ np.abs(c)
        bound = total - 2 * (lost + gamma(len(low) + max(graph.sizes) + steps) * mass + TINY)
        return np.where(np.isfinite(bound), bound, -np.inf)


def _gather(form: dict[int, Array], value: int, c: Array) -> None:
    form[value] = form[value] + c if value in form else c


def _chosen(
    choice: Choice, low: Array, high: Array, slope: Array, up: Array, gap: Array
) -> tuple[Array, Array, Array, Array]:
    """The lines [size, m] with the forms' own choices, and what splits add to the coefficients of their neurons."""
    k, m = choice.neuron, choice.theta.shape[1]
    slope, up, gap = (np.repeat(t, m, axis=1) for t in (slope, up, gap))
    split, on = choice.sign != 0, (choice.sign > 0).astype(float)
    free = ((low < 0) & (high > 0))[k][:, None] & ~split
    slope[k] = np.where(split, on, np.where(free, np.clip(choice.theta, 0, 1), slope[k]))
    up[k] = np.where(split, on, up[k])
    gap[k] = np.where(split, 0.0, gap[k])
    return slope, up, gap, np.where(split, -choice.sign * np.maximum(choice.theta, 0), 0.0)
