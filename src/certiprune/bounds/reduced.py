"""The reduced form: inside one box, a network of its unstable neurons only.

There a ReLU that is off is 0 and one that is on is linear, so with z_l the inputs of the unstable neurons of ReLU l and
h_l = relu(z_l), for every x of the box
    z_l = B_l x + sum_{k<l} A_lk h_k + c_l          outputs = D x + sum_k E_k h_k + f.
Every row comes out of one walk back that stops at unstable neurons. The dual function of ``value.py`` becomes one
matrix product a layer, over [x, h_1, h_2, ...]: it costs what the unstable neurons cost, however large the network is.

Rows are computed in float64. What rounding does to row j, whatever x in the box, is bounded by ``slack``_j exactly as
in ``value.py``; with coefficients c over z_l the form loses at most |c| slack, which ``reduced_value`` subtracts.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Engine, OutOfTime
from certiprune.bounds.interval import gamma
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.rows import Rows, gather, neuron_rows
from certiprune.bounds.value import UNDERFLOW, magnitudes, pulled_terms
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.net.ops import Affine, Relu, raised


@dataclass(frozen=True)
class Layer:
    """The affine map into the unstable neurons of one ReLU (or into the outputs), in float64.

    Attributes:
        relu: the ReLU's value in the network; for the outputs, the output value.
        neuron: [k] int64, the unstable neurons' flat numbers, in order; for the outputs, all of them.
        columns: where these neurons stand among all unstable ones.
        matrix: [k, inputs + unstable neurons of earlier ReLUs].
        const: [k].
        slack: [k], how far a row may be from the true value anywhere in the box.
        size: [k], the largest sum of the absolute values of a row's terms in the box.
    """

    relu: int
    neuron: Tensor
    columns: slice
    matrix: Tensor
    const: Tensor
    slack: Tensor
    size: Tensor


@dataclass(frozen=True)
class Reduced:
    """The reduced form of one box.

    Attributes:
        box: the one box, float64.
        layers: one for each ReLU that has unstable neurons, in order.
        out: the network's outputs.
        largest: [inputs], the largest absolute value of each input in the box.
        reach: [unstable], for each neuron max(|l|, u) - l: no term of its lines, nor its input, is larger.
    """

    box: Box
    layers: tuple[Layer, ...]
    out: Layer
    largest: Tensor
    reach: Tensor

    @property
    def inputs(self) -> int:
        return self.box.lower[0].numel()

    @property
    def width(self) -> int:
        """Unstable neurons."""
        return self.out.columns.start


# How many multiply-adds of a matrix product take as long as one of a convolution of few channels.
CONVOLUTION = 4


def walk_cost(pre: PreActivation, inputs: int, first: float = math.inf) -> Tensor:
    """Multiply-adds [n] of one walk through each box's reduced form, known before it is made.

    Args:
        pre: bounds of n boxes.
        inputs: how many numbers an input has.
        first: what the operations in front of the first ReLU cost, which may take its matrix's place.
    """
    total = seen = None
    for v in pre.lower:
        here = pre.unstable(v).flatten(1).sum(1).cpu().double()
        if total is None or seen is None:
            dense = here * inputs
            total = torch.where(dense >= CONVOLUTION * first, first, dense)
            seen = torch.full_like(here, inputs)
        else:
            total = total + here * seen
        seen = seen + here
    return torch.zeros(1, dtype=torch.float64) if total is None else total


def reduce(engine: Engine, box: Box, pre: PreActivation, *, deadline: float = math.inf) -> Reduced:
    """The reduced form of one box (a ``Box`` of length 1), from sound bounds of every ReLU that the outputs need.

    ReLUs that the outputs do not depend on are left out. ``deadline`` is a time of ``time.perf_counter``.

    Raises:
        ValueError: there is not one box; or a bound is not a number, so that a neuron is neither on, off nor unstable.
        OutOfTime: the deadline passed.
    """
    if len(box) != 1:
        raise ValueError(f"a reduced form is about one box, not {len(box)}")
    builder = _Builder(engine, box, pre, deadline)
    network = engine.exact
    needed = network.ancestors(network.output)
    layers: list[Layer] = []
    for v in (v for v in network.relus if v in needed):
        builder.open(v)
        neuron = builder.neuron[v]
        if len(neuron):
            layers.append(builder.layer(v, network.node(v).inputs[0], neuron, builder.columns[v]))
    outputs = torch.arange(network.outputs, device=box.lower.device)
    behind = slice(builder.width, builder.width + len(outputs))
    out = builder.layer(network.output, network.output, outputs, behind)
    return Reduced(box, tuple(layers), out, builder.largest, torch.cat(builder.reach))


class _Builder:
    """The rows of one box's reduced form, ReLU by ReLU.

    Attributes:
        on: ReLU -> [1, *shape] 1.0 where the neuron is on in the whole box.
        neuron: ReLU -> [k] the unstable neurons' flat numbers.
        columns: ReLU -> where they stand among all unstable neurons.
    """

    def __init__(self, engine: Engine, box: Box, pre: PreActivation, deadline: float):
        self.engine, self.pre, self.deadline = engine, pre, deadline
        self.sizes = magnitudes(engine.exact, box, pre)
        self.on: dict[int, Tensor] = {}
        self.neuron: dict[int, Tensor] = {}
        self.columns: dict[int, slice] = {}
        self.largest = torch.maximum(box.lower.abs(), box.upper.abs()).flatten()
        self.active = [self.largest]
        self.reach: list[Tensor] = [self.largest[:0]]

    @property
    def width(self) -> int:
        return sum(len(t) for t in self.neuron.values())

    def open(self, relu: int) -> None:
        """Sort the neurons of a ReLU: on, off, or unstable, with a column each."""
        low, high = self.pre.lower[relu].flatten(), self.pre.upper[relu].flatten()
        on, unstable = low >= 0, self.pre.unstable(relu).flatten()
        if not bool((on | unstable | (high <= 0)).all()):
            raise ValueError(f"the bounds of ReLU {relu} are not numbers")
        start = self.width
        found = unstable.nonzero()[:, 0]
        self.on[relu] = on.to(low.dtype).reshape(self.pre.lower[relu].shape)
        self.neuron[relu], self.columns[relu] = found, slice(start, start + len(found))
        low, high = low[found], high[found]
        self.active.append(high)
        self.reach.append(torch.maximum(-low, high) - low)

    def layer(self, relu: int, value: int, neuron: Tensor, columns: slice) -> Layer:
        """The rows of entries ``neuron`` of ``value``, by walks back in parts that fit the memory."""
        network = self.engine.exact
        way = plan(network, value, windowed=True)
        parts = []
        for part in neuron.split(max(1, self.engine.chunk(way) // 2)):
            if time.perf_counter() > self.deadline:
                raise OutOfTime
            one = torch.ones(len(part), dtype=torch.float64, device=part.device)
            parts.append(self.rows(neuron_rows(way, network, torch.zeros_like(part), part, one)))
        matrix, const, slack = (torch.cat(t) for t in zip(*parts, strict=True))
        size = raised(matrix.abs()) @ raised(torch.cat(self.active)[: matrix.shape[1]]) + const.abs()
        return Layer(relu, neuron, columns, matrix, const, slack, size)

    def rows(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Forms as affine functions of the input and of unstable neurons, with a bound on their rounding errors."""
        network = self.engine.exact
        inputs = len(self.largest)
        seen = [v for v in self.columns if v in rows.plan.windows]
        matrix = rows.coeff.new_zeros(
            len(rows), inputs + max((self.columns[v].stop for v in seen), default=0)
        )
        form = {rows.plan.start: rows.coeff}
        const = rows.const.clone()
        steps = rows.plan.additions(network)
        error = const.abs() * gamma(steps, torch.float64) + UNDERFLOW

        def lose(value: int, c: Tensor, terms: int) -> None:
            lost = ((c.abs() + UNDERFLOW) * rows.take(self.sizes[value], value)).flatten(1).sum(1)
            error.add_(lost, alpha=gamma(terms + steps, torch.float64))

        for v in rows.plan.order:
            c = form.pop(v)
            if v == 0:
                lose(0, c, 1)
                matrix[:, :inputs] = rows.whole(c, 0, network).flatten(1)
                break
            node = network.node(v)
            if isinstance(node.op, Relu):
                lose(v, c, 1)
                at = self.columns[v]
                matrix[:, inputs + at.start : inputs + at.stop] = rows.whole(c, v, network).flatten(1)[
                    :, self.neuron[v]
                ]
                passed = c * rows.take(self.on[v], v)
                parts = [(node.inputs[0], rows.carry(v, node.inputs[0], passed, network))]
            else:
                b = node.op.offset() if isinstance(node.op, Affine) else None
                if b is not None:
                    const = const + (c * rows.constant(b, v, network)).flatten(1).sum(1)
                lose(v, c, c[0].numel() + (pulled_terms(node.op) if isinstance(node.op, Affine) else 0))
                parts = rows.pull(network, v, c)
            gather(form, parts)
        return matrix, const, 2 * error


def reduced_value(
    reduced: Reduced,
    coeff: Tensor,
    const: Tensor,
    low: Tensor,
    up: Tensor,
    gap: Tensor,
    push: Tensor,
) -> Tensor:
    """Rigorous lower bounds [m] of forms over the outputs: ``value.dual_value`` on the reduced form, in float64.

    Args:
        reduced: the box's reduced form.
        coeff: [m, outputs] the forms; const: [m].
        low, up, gap: [m, unstable] the lines of each neuron as each form sees them.
        push: [m, unstable] what splits (-beta * sign) and goals add to the coefficients of what enters the neurons.

    Returns:
        For each form a number that it does not fall below where the splits hold, with the rounding of this
        computation, and that behind the reduced form's rows, subtracted.
    """
    inputs = reduced.inputs
    # No number here takes part in more roundings: one sum over [x, h_1, ...] or the outputs, and a few for each layer.
    longest = inputs + reduced.width + len(reduced.out.const) + 4 * len(reduced.layers) + 16
    k = gamma(longest, torch.float64)
    form = coeff @ reduced.out.matrix
    total = coeff @ reduced.out.const + const
    error = (
        (coeff.abs() + UNDERFLOW) @ (reduced.out.slack + k * reduced.out.size) + k * const.abs() + UNDERFLOW
    )
    for layer in reversed(reduced.layers):
        at = layer.columns
        c, pushed = form[:, inputs + at.start : inputs + at.stop], push[:, at]
        below = c.clamp(max=0)
        total = total + (below * gap[:, at]).sum(1)
        error = error + k * ((c.abs() + pushed.abs() + UNDERFLOW) @ reduced.reach[at])
        back = c.clamp(min=0) * low[:, at] + below * up[:, at] + pushed
        # Over what lies behind only: a ReLU may not see all that came before it.
        form[:, : layer.matrix.shape[1]].addmm_(back, layer.matrix)
        total = total + back @ layer.const
        error = error + (back.abs() + UNDERFLOW) @ (layer.slack + k * layer.size)
    c = form[:, :inputs]
    total = (
        total + c.clamp(min=0) @ reduced.box.lower.flatten() + c.clamp(max=0) @ reduced.box.upper.flatten()
    )
    error = error + k * ((c.abs() + UNDERFLOW) @ reduced.largest)
    value = total - 2 * error
    # What overflowed, be it the sum or the allowance, proves nothing.
    return torch.where(value.isfinite(), value, -torch.inf)
