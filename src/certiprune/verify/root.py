"""Bounds at the root: of the open rows, and of the neurons whose bounds the open rows need most.

Optimised bounds for every unstable neuron may cost more than the whole search that they are to shorten. So the open
rows come first, with slopes of their own and CROWN's bounds on the neurons: often that is enough. What their walks
leave behind says what a neuron's bounds are worth. With coefficient c behind it and ends l < 0 < u the chord costs a
row up to |c| gap, gap = -u l / (u - l), and an end that moves by a share of the range u - l saves the same share of
    lower end:  |c| u^2 / (u - l),        upper end:  |c| l^2 / (u - l),
gap's derivatives times the range. Ends are taken in the order of this worth, summed over the rows, for each number that
a walk of their form touches, until they have cost as much as they may. That is counted in walks and not in seconds, so
that it does not depend on the clock what a node limit decides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Around, Ends, Engine, OutOfTime, bound_forms, preactivations
from certiprune.bounds.optimise import Rates
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.rows import Rows
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.verify.effort import Cascade


@dataclass(frozen=True)
class RowBounds:
    """Bounds of some rows of some questions.

    Attributes:
        item, row: [m] int64, which rows of which questions.
        value: [m] float64, rigorous lower bounds.
        weight: by ReLU value, [n, *shape]: the sizes of the coefficients behind each neuron, summed over the
            question's rows. Empty where no slopes were optimised.
    """

    item: Tensor
    row: Tensor
    value: Tensor
    weight: Mapping[int, Tensor]


def bound_rows(
    engine: Engine,
    box: Box,
    margin: Margin,
    pre: PreActivation,
    wanted: Tensor,
    *,
    steps: int,
    rates: Rates,
    deadline: float,
) -> RowBounds:
    """Bounds of the rows ``wanted`` [n, rows] of n questions, with CROWN's slopes or, with ``steps``, better ones.

    Raises:
        OutOfTime: ``time.perf_counter`` passed the ``deadline``.
    """
    network = engine.exact
    way = plan(network, network.output)
    around = Around.of(engine, box, pre, way)
    item, row = wanted.nonzero().unbind(1)
    values, weight = [box.lower.new_zeros(0)], {}
    if steps:
        weight = {v: torch.zeros_like(t.gap) for v, t in around.quick_lines.items()}
    size = engine.chunk(way)
    for at in range(0, len(item), size):
        if time.perf_counter() > deadline:
            raise OutOfTime
        part = slice(at, at + size)
        owner = item[part]
        rows = Rows(way, owner, margin.matrix[owner, row[part]], margin.offset[owner, row[part]])
        value, behind = bound_forms(rows, around, steps, rates, final=True)
        values.append(value)
        for v, c in behind.items():
            weight[v].index_add_(0, owner, c.abs())
    return RowBounds(item, row, torch.cat(values), weight)


def tighten_neurons(
    engine: Engine,
    box: Box,
    pre: PreActivation,
    weight: Mapping[int, Tensor],
    how: Cascade,
    *,
    deadline: float,
    until: float,
) -> PreActivation | None:
    """The bounds ``pre`` of n boxes, better at the ends that are worth it; None where none is.

    ``weight`` is what ``bound_rows`` found, ``deadline`` and ``until`` are what they are for ``preactivations``.
    """
    chosen = choose(engine, pre, weight, how.tighten_walks, how.tighten_steps)
    if not chosen:
        return None
    return preactivations(
        engine,
        box,
        steps=how.tighten_steps,
        rates=how.rates,
        known=pre,
        chosen=chosen,
        deadline=deadline,
        until=until,
    )


def choose(
    engine: Engine, pre: PreActivation, weight: Mapping[int, Tensor], walks: int, steps: int
) -> dict[int, Ends]:
    """The ends of neurons that are worth ``steps`` slope iterations, by ReLU value; ReLUs that have none are left out.

    Args:
        engine: the network.
        pre: n boxes' bounds on neurons.
        weight: from ``bound_rows``.
        walks: what a box's ends may cost together, in walks through the whole network.
        steps: iterations that each end will get.
    """
    network = engine.exact
    gains, costs = {}, []
    for v, size in weight.items():
        source = network.node(v).inputs[0]
        if not any(u in pre.lower for u in network.ancestors(source)):
            # Nothing in front of these neurons has slopes.
            continue
        low, high = (t[v].to(size.dtype) for t in (pre.lower, pre.upper))
        each = size / (high - low) * pre.unstable(v)
        # Where float32 overflowed nothing is known of an end's worth.
        gains[v] = torch.stack([each * high.square(), each * low.square()], -1).nan_to_num(0.0, 0.0, 0.0)
        numbers = plan(network, source, windowed=True).numel(network)
        costs.append(low.new_full((gains[v][0].numel(),), float(numbers), dtype=torch.float64))
    if not gains:
        return {}
    gain, cost = torch.cat([t.flatten(1) for t in gains.values()], 1), torch.cat(costs)
    order = (gain / cost).argsort(dim=1, descending=True, stable=True)
    most = walks * plan(network, network.output).numel(network)
    keep = (gain.gather(1, order) > 0) & (cost[order].cumsum(1) * steps <= most)
    mask = torch.zeros_like(keep).scatter(1, order, keep)
    parts = zip(gains.items(), mask.split([t[0].numel() for t in gains.values()], 1), strict=True)
    ends = {v: Ends(*part.reshape(t.shape).unbind(-1)) for (v, t), part in parts}
    return {v: e for v, e in ends.items() if bool((e.lower | e.upper).any())}
