"""The exact answer where every ReLU is fixed: a linear program.

With all signs s_j fixed, every pre-activation z_j and every row m_r of the property is affine in the input. Solve
    t* = min t   s.t.   m_r(x) <= t for each row r of the clause,   -s_j z_j(x) <= t for each split j,   x in the box.
t* <= 0 exactly if some point of the region violates the clause; the program is always feasible. Its multipliers
w >= 0, sum w = 1, give the form  sum w_r m_r - sum w_j s_j z_j,  whose minimum over the box is t*: weak duality. So a
solver's answer is not believed: its multipliers are evaluated in float64 with rounding counted in, and its point is
replayed by the caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from certiprune.bounds.interval import gamma
from certiprune.bounds.rows import gather
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu

_UNDERFLOW = 1e-300
# A row of less weight than this does not make a proof.
_LIGHT = 1e-6


@dataclass(frozen=True)
class LeafAnswer:
    """``proved``: no point of the region violates the clause. ``point``: the program's minimiser [*shape].

    ``multipliers``: where a clause of one row is proved, those beta_j >= 0 of the splits, ReLU value -> [*shape], with
    which  row - sum beta_j s_j z_j  is above 0 on the whole box.
    """

    proved: bool
    point: Tensor
    value: float
    multipliers: Mapping[int, Tensor] = field(default_factory=dict)


def decide_leaf(network: Network, box: Box, on: dict[int, Tensor], split: dict[int, Tensor], rows: Tensor,
                offset: Tensor) -> LeafAnswer:  # fmt: skip
    """Decide one clause on the region where the signs hold.

    Args:
        network: in float64.
        box: one box, float64.
        on: ReLU value -> [*shape] boolean, whether each neuron passes its input on.
        split: ReLU value -> [*shape] -1, 0, +1: the signs that the region imposes. A neuron that is stable in the
            whole box has 0.
        rows: [r, outputs] the clause's rows; the clause holds where one of them is positive.
        offset: [r].
    """
    from scipy.optimize import linprog

    # The solver's tolerances are absolute; a common positive factor (a power of two, exact) changes no answer.
    size = rows.abs().amax().clamp(min=1e-100, max=1e100)
    size = size / torch.frexp(size).mantissa
    rows, offset = rows / size, offset / size

    matrix, const = _affine_rows(network, on, split, rows, offset)
    if not bool(matrix.isfinite().all() and const.isfinite().all()):
        return LeafAnswer(False, box.centre[0], -np.inf)
    a, b = matrix.numpy(), const.numpy()
    low, high = box.lower[0].flatten().numpy(), box.upper[0].flatten().numpy()
    count, dims = a.shape
    result = linprog(
        np.concatenate([np.zeros(dims), [1.0]]),
        A_ub=np.concatenate([a, -np.ones((count, 1))], axis=1),
        b_ub=-b,
        bounds=[*zip(low, high, strict=True), (None, None)],
        method="highs",
    )
    if result.status != 0:
        return LeafAnswer(False, box.centre[0], -np.inf)
    weight = np.clip(-result.ineqlin.marginals, 0, None)
    total = weight.sum()
    proved = False
    if total > 0:
        weight = weight / total
        form, shift = weight @ a, weight @ b
        lowest = np.where(form > 0, form * low, form * high).sum() + shift
        proved = bool(lowest - _slack(network, box, on, split, rows, offset, weight) > 0)
    point = torch.from_numpy(np.clip(result.x[:-1], low, high)).reshape(box.lower.shape[1:])
    if not proved:
        return LeafAnswer(False, point, float(result.fun))
    each = _beside_row(weight, a, b, low, high) if len(rows) == 1 else weight[:0]
    return LeafAnswer(True, point, float(result.fun), _by_neuron(torch.from_numpy(each) * size, split))


def _beside_row(
    weight: np.ndarray, a: np.ndarray, b: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """The splits' multipliers beside the one row, which is the first of the affine functions ``a x + b``."""
    if weight[0] > _LIGHT:
        return weight[1:] / weight[0]
    # No point of the box is in the region: enough of this contradiction outweighs the row.
    forms = (weight[1:] @ a[1:], weight[1:] @ b[1:]), (a[0], b[0])
    contradiction, row = (np.where(c > 0, c * low, c * high).sum() + d for c, d in forms)
    return weight[1:] * (2 * (1 + max(0.0, -row)) / contradiction)


def _by_neuron(each: Tensor, split: dict[int, Tensor]) -> dict[int, Tensor]:
    """Numbers of the splits, in their order, laid out over the neurons; none where there are no numbers."""
    found, at = {}, 0
    for v, sign in split.items() if len(each) else ():
        index = sign.flatten().nonzero()[:, 0]
        whole = torch.zeros(sign.numel(), dtype=torch.float64)
        whole[index] = each[at : at + len(index)]
        found[v] = whole.reshape(sign.shape)
        at += len(index)
    return found


def _affine_rows(network: Network, on: dict[int, Tensor], split: dict[int, Tensor], rows: Tensor,
                 offset: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The rows m_r and -s_j z_j as affine functions of the input: matrix [k, inputs] and constants [k]."""
    forms: list[tuple[int, Tensor, Tensor]] = [(network.output, rows, offset)]
    for v, sign in split.items():
        flat = sign.flatten()
        index = flat.nonzero()[:, 0]
        if len(index):
            c = torch.zeros(len(index), flat.numel(), dtype=torch.float64)
            c[torch.arange(len(index)), index] = -flat[index].double()
            shape = network.shapes[v]
            forms.append((network.node(v).inputs[0], c.reshape(-1, *shape), c.new_zeros(len(index))))
    found = [_walk(network, value, c, const, on) for value, c, const in forms]
    return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])


def _walk(
    network: Network, value: int, c: Tensor, const: Tensor, on: dict[int, Tensor]
) -> tuple[Tensor, Tensor]:
    """Forms over ``value`` as affine functions of the input, with every ReLU fixed by ``on``."""
    form = {value: c}
    for v in network.ancestors(value)[::-1]:
        here = form.pop(v)
        if v == 0:
            return here.flatten(1), const
        node = network.node(v)
        if isinstance(node.op, Relu):
            parts = [(node.inputs[0], here * on[v].to(here.dtype))]
        elif isinstance(node.op, Affine):
            b = node.op.offset()
            if b is not None:
                const = const + (here * b.expand(here.shape[1:])).flatten(1).sum(1)
            parts = [(node.inputs[0], node.op.pull(here, network.shapes[node.inputs[0]]))]
        else:
            parts = [(i, here) for i in node.inputs]
        gather(form, parts)
    raise AssertionError("a value that does not depend on the input")


def _slack(network: Network, box: Box, on: dict[int, Tensor], split: dict[int, Tensor], rows: Tensor, offset: Tensor,
           weight: np.ndarray) -> float:  # fmt: skip
    """A bound on the rounding error of the weighted form's minimum: gamma times all |terms|, and underflow."""
    size = torch.maximum(box.lower.abs(), box.upper.abs())
    values = [size]
    terms = int(size.numel())
    for v, node in enumerate(network.nodes, start=1):
        args = [values[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            # What the output does not depend on has no sign, and does not matter.
            values.append(args[0] * on[v].to(args[0].dtype) if v in on else args[0])
        elif isinstance(node.op, Affine):
            values.append(node.op.absolute().forward(args[0]))
        else:
            values.append(torch.stack(args).sum(0))
        terms += int(values[-1].numel())
    sizes = (rows.abs() @ values[-1].flatten() + offset.abs()).tolist()
    for v, sign in split.items():
        index = sign.flatten().nonzero()[:, 0]
        sizes.extend(values[network.node(v).inputs[0]].flatten()[index].tolist())
    rounding = 2 * gamma(terms + len(weight), torch.float64) * float(np.dot(weight, np.array(sizes)))
    # A product that underflows costs a coefficient less than this much, and the form that much of a value's size.
    return rounding + _UNDERFLOW * (1 + sum(float(size.sum()) for size in values))
