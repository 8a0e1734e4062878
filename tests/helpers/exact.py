"""Exact minima over boxes for small networks: enumeration of activation patterns with linear programs, and MILP.

Nothing here uses the library's bounds. The network is written as affine expressions of the inputs and, where a ReLU's
own interval leaves it open, of one new variable for what comes out of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net import Network
from certiprune.net.ops import Affine, Relu

Array = np.ndarray


@dataclass
class Encoding:
    """One box's network: ``value = matrix @ (x, h) + const`` for every neuron that enters a ReLU, and for outputs.

    Attributes:
        low, high: the variables' ends: inputs, then the outcomes h of open ReLUs.
        entering: for each open ReLU: (row, constant) of what enters it, over the variables before it.
        ends: for each open ReLU: the interval of what enters it.
        place: for each open ReLU: its ReLU value in the network and its flat number.
    """

    low: list[float]
    high: list[float]
    entering: list[tuple[Array, float]] = field(default_factory=list)
    ends: list[tuple[float, float]] = field(default_factory=list)
    place: list[tuple[int, int]] = field(default_factory=list)
    matrix: Array = field(default_factory=lambda: np.zeros((0, 0)))
    const: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def inputs(self) -> int:
        return len(self.low) - len(self.entering)


def encode(network: Network, box: Box) -> Encoding:
    """The encoding of the one box."""
    low, high = box.lower.flatten().tolist(), box.upper.flatten().tolist()
    e = Encoding(list(low), list(high))
    room = len(low) + network.neurons
    first = torch.zeros(room, len(low), dtype=torch.float64)
    first[: len(low)] = torch.eye(len(low), dtype=torch.float64)
    values = [
        (first.reshape(room, *network.input_shape), torch.zeros(1, *network.input_shape, dtype=torch.float64))
    ]
    for v, node in enumerate(network.nodes, start=1):
        basis, const = values[node.inputs[0]]
        if isinstance(node.op, Relu):
            basis, const = _relu(e, v, basis.flatten(1).clone(), const.flatten().clone())
            shape = network.shapes[v]
            values.append((basis.reshape(room, *shape), const.reshape(1, *shape)))
        elif isinstance(node.op, Affine):
            values.append((node.op.linear(basis), node.op.forward(const)))
        else:
            values.append((sum(values[i][0] for i in node.inputs), sum(values[i][1] for i in node.inputs)))
    basis, const = values[-1]
    e.matrix, e.const = basis[: len(e.low)].T.numpy(), const[0].numpy()
    return e


def _relu(e: Encoding, v: int, basis: torch.Tensor, const: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    for k in range(len(const)):
        row, c = basis[:, k].numpy().copy(), float(const[k])
        low = c + sum(min(a * s, a * t) for a, s, t in zip(row, e.low, e.high, strict=False))
        high = c + sum(max(a * s, a * t) for a, s, t in zip(row, e.low, e.high, strict=False))
        if high <= 0:
            basis[:, k], const[k] = 0.0, 0.0
        elif low < 0:
            e.entering.append((row[: len(e.low)], c))
            e.ends.append((low, high))
            e.place.append((v, k))
            basis[:, k], const[k] = 0.0, 0.0
            basis[len(e.low), k] = 1.0
            e.low.append(0.0)
            e.high.append(high)
    return basis, const


@dataclass(frozen=True)
class Minimum:
    """``lower <= exact minimum <= upper``; ``point`` [inputs] attains the upper one."""

    lower: float
    upper: float
    point: Array


def minimum(network: Network, box: Box, margin: Margin, *, enumerate_up_to: int = 6) -> Minimum:
    """The smallest value of the property (over clauses and points) on the one box."""
    e = encode(network, box)
    if len(e.entering) <= enumerate_up_to:
        found = by_enumeration(e, margin)
    else:
        found = by_milp(e, margin)
    x = torch.from_numpy(found.point).reshape(1, *network.input_shape)
    real = float(margin.worst(network(box.clamp(x))))
    return Minimum(found.lower, min(real, found.upper) if math.isfinite(real) else real, found.point)


def clause_rows(e: Encoding, margin: Margin) -> Iterator[tuple[Array, Array]]:
    """Each clause's rows over the variables, and their constants."""
    for clause in margin.clause.unique().tolist():
        rows = margin.clause == clause
        matrix, offset = margin.matrix[0, rows].numpy(), margin.offset[0, rows].numpy()
        yield matrix @ e.matrix, matrix @ e.const + offset


def by_enumeration(
    e: Encoding, margin: Margin, *, signs: dict[tuple[int, int], int] | None = None
) -> Minimum:
    """Walk through the activation patterns that the linear program finds feasible.

    ``signs`` imposes the sign of some ReLUs, by (value, flat number); the minimum is infinite where no point has them.
    """
    best = Minimum(math.inf, math.inf, (np.array(e.low) + np.array(e.high))[: e.inputs] / 2)
    for rows, const in clause_rows(e, margin):
        nothing = np.zeros((0, e.inputs)), np.zeros(0)
        start = np.eye(len(e.low), e.inputs), np.zeros(len(e.low))
        for a, b in _regions(e, 0, *start, nothing, signs or {}):
            form, shift = rows @ a[0], rows @ a[1] + const
            x, value = _least_max(form, shift, b, e)
            if value < best.upper:
                best = Minimum(value, value, x)
    return best


Region = tuple[tuple[Array, Array], tuple[Array, Array]]


def _regions(
    e: Encoding,
    k: int,
    basis: Array,
    const: Array,
    known: tuple[Array, Array],
    signs: dict[tuple[int, int], int],
) -> Iterator[Region]:
    """Every pattern of the open ReLUs from the ``k``-th on: variables as affine maps of x, and the constraints."""
    if k == len(e.entering):
        yield (basis, const), known
        return
    row, c = e.entering[k]
    n = len(row)
    form, shift = row @ basis[:n], c + row @ const[:n]
    imposed = signs.get(e.place[k])
    for s in (1, -1) if imposed is None else (imposed,):
        # The sign s times what enters is not negative.
        below = np.vstack([known[0], -s * form]), np.append(known[1], s * shift)
        if _feasible(*below, e):
            a, b = basis.copy(), const.copy()
            a[n], b[n] = (form, shift) if s > 0 else (np.zeros_like(form), 0.0)
            yield from _regions(e, k + 1, a, b, below, signs)


def _feasible(a: Array, b: Array, e: Encoding) -> bool:
    bounds = [*zip(e.low[: e.inputs], e.high[: e.inputs], strict=True)]
    return linprog(np.zeros(e.inputs), A_ub=a, b_ub=b, bounds=bounds, method="highs").status == 0


def _least_max(form: Array, shift: Array, known: tuple[Array, Array], e: Encoding) -> tuple[Array, float]:
    """The smallest over the region of the largest row: min t with form @ x + shift <= t."""
    d = e.inputs
    a = np.block([[form, -np.ones((len(form), 1))], [known[0], np.zeros((len(known[0]), 1))]])
    b = np.concatenate([-shift, known[1]])
    bounds = [*zip(e.low[:d], e.high[:d], strict=True), (None, None)]
    found = linprog(np.append(np.zeros(d), 1.0), A_ub=a, b_ub=b, bounds=bounds, method="highs")
    return (found.x[:d], float(found.fun)) if found.status == 0 else (np.zeros(d), math.inf)


def by_milp(e: Encoding, margin: Margin) -> Minimum:
    """One mixed-integer program for each clause: h >= z, h >= 0, h <= z - low (1 - a), h <= high a."""
    n, m = len(e.low), len(e.entering)
    a, upper = [], []
    for k, ((row, c), (low, high)) in enumerate(zip(e.entering, e.ends, strict=True)):
        h, bit = e.inputs + k, n + k
        for weight, on_h, on_bit, limit in ((1, -1, 0, -c), (-1, 1, -low, c - low), (0, 1, -high, 0.0)):
            line = np.zeros(n + m + 1)
            line[: len(row)] += weight * row
            line[h] += on_h
            line[bit] += on_bit
            a.append(line)
            upper.append(limit)
    best = Minimum(math.inf, math.inf, np.zeros(e.inputs))
    ends = Bounds([*e.low, *[0.0] * m, -np.inf], [*e.high, *[1.0] * m, np.inf])
    for rows, const in clause_rows(e, margin):
        own = np.hstack([rows, np.zeros((len(rows), m)), -np.ones((len(rows), 1))])
        constraint = LinearConstraint(np.vstack([*a, own]), -np.inf, np.concatenate([upper, -const]))
        goal = np.append(np.zeros(n + m), 1.0)
        integral = np.concatenate([np.zeros(n), np.ones(m), [0]])
        found = milp(
            goal, constraints=constraint, bounds=ends, integrality=integral, options={"mip_rel_gap": 0.0}
        )
        if found.status != 0:
            raise RuntimeError(f"the mixed-integer program ended with {found.message}")
        # Without whole numbers the program is linear, and has no bound besides its value.
        lower = min(best.lower, found.fun if found.mip_dual_bound is None else float(found.mip_dual_bound))
        nearer = found.fun < best.upper
        best = Minimum(lower, min(best.upper, found.fun), found.x[: e.inputs] if nearer else best.point)
    return best
