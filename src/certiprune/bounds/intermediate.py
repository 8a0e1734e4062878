"""Bounds on what enters each ReLU, layer by layer: interval first, then linear forms for what that leaves unstable.

Each neuron with an interval l < 0 < u gets two forms, z and -z, bounded over its window of the network (``window.py``);
layers behind use the bounds found before them. With ``steps`` the forms' slopes are optimised, each form its own
(alpha-CROWN, Xu et al. 2021, with slopes that are not shared between neurons). Every bound that is kept was
computed by the trusted ``dual_value`` in float64 with its rounding.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.interval import Interval, step
from certiprune.bounds.optimise import Index, Parameters, Rates, Walker, ascend
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines, lines
from certiprune.bounds.rows import Rows, neuron_rows
from certiprune.bounds.value import dual_value, magnitudes
from certiprune.bounds.window import Plan, plan
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Relu


class OutOfTime(Exception):
    """The deadline passed while bounds were computed."""


@dataclass(frozen=True)
class Engine:
    """A network in the two precisions that bounding needs: float64 to prove, float32 to search."""

    exact: Network
    quick: Network
    memory: int

    @staticmethod
    def of(network: Network, device: torch.device | str = "cpu", memory: int = 1 << 30) -> Engine:
        """Both forms on ``device``; ``memory`` is the number of bytes that one batch of forms may take."""
        return Engine(network.to(torch.float64, device), network.to(torch.float32, device), memory)

    def chunk(self, way: Plan, per_number: int) -> int:
        """How many forms fit in memory at ``per_number`` bytes for each number of a form."""
        return max(1, self.memory // max(1, way.numel(self.exact) * per_number))


def preactivations(
    engine: Engine,
    box: Box,
    *,
    steps: int = 0,
    rates: Rates | None = None,
    known: PreActivation | None = None,
    deadline: float = math.inf,
) -> PreActivation:
    """Sound bounds for every ReLU of every box.

    Args:
        engine: the network.
        box: n boxes in float64.
        steps: iterations of slope optimisation for each form; 0 is CROWN.
        known: sound bounds to start from, kept where they are tighter.
        deadline: a time of ``time.perf_counter`` after which to stop.

    Raises:
        OutOfTime: the deadline passed.
    """
    network = engine.exact
    values: list[Interval] = [(box.lower, box.upper)]
    lower: dict[int, Tensor] = {}
    upper: dict[int, Tensor] = {}
    for v, node in enumerate(network.nodes, start=1):
        if isinstance(node.op, Relu):
            low, high = values[node.inputs[0]]
            if known is not None:
                low, high = torch.maximum(low, known.lower[v]), torch.minimum(high, known.upper[v])
            if lower:
                low, high = _tighten(
                    engine,
                    box,
                    PreActivation(lower, upper),
                    node.inputs[0],
                    low,
                    high,
                    steps,
                    rates,
                    deadline,
                )
            lower[v], upper[v] = low, high
            values.append((low.clamp(min=0), high.clamp(min=0)))
        else:
            values.append(step(network, v, [values[i] for i in node.inputs]))
    return PreActivation(lower, upper)


def _tighten(
    engine: Engine,
    box: Box,
    before: PreActivation,
    value: int,
    low: Tensor,
    high: Tensor,
    steps: int,
    rates: Rates | None,
    deadline: float,
) -> tuple[Tensor, Tensor]:
    """Better ends of ``value`` [n, *shape] for the neurons whose ends straddle 0."""
    unstable = (low < 0) & (high > 0)
    found = unstable.flatten(1).nonzero()
    if len(found) == 0 or not any(v in before.lower for v in engine.exact.ancestors(value)):
        return low, high
    way = plan(engine.exact, value, windowed=True)
    shape = low.shape
    low, high = low.flatten(1).clone(), high.flatten(1).clone()
    around = {v: t for v, t in lines(before).items() if v in way.windows}
    sizes = magnitudes_below(engine.exact, box, around, value)
    chunk = engine.chunk(way, 60 if steps == 0 else 100)
    for sign, ends in ((1.0, low), (-1.0, high)):
        for part in found.split(chunk):
            if time.perf_counter() > deadline:
                raise OutOfTime
            owner, neuron = part[:, 0], part[:, 1]
            rows = neuron_rows(
                way, engine.exact, owner, neuron, torch.full_like(low[0, 0], sign).expand(len(part))
            )
            bound = form_bounds(engine, box, rows, around, before, sizes, steps, rates)
            old = ends[owner, neuron]
            ends[owner, neuron] = torch.maximum(old, bound) if sign > 0 else torch.minimum(old, -bound)
    return low.reshape(shape), high.reshape(shape)


def magnitudes_below(network: Network, box: Box, around: dict[int, Lines], value: int) -> dict[int, Tensor]:
    """``magnitudes`` of ``value`` and what it depends on."""
    return magnitudes(
        Network(network.nodes[:value], network.input_shape), box, _all_relus(network, around, value)
    )


def _all_relus(network: Network, around: dict[int, Lines], value: int) -> dict[int, Lines]:
    missing = [v for v in network.relus if v <= value and v not in around]
    if not missing:
        return around
    one = torch.ones((), dtype=network.dtype)
    return around | {v: Lines(one, one, 0 * one) for v in missing}


def form_bounds(
    engine: Engine,
    box: Box,
    rows: Rows,
    around: dict[int, Lines],
    pre: PreActivation,
    sizes: dict[int, Tensor],
    steps: int,
    rates: Rates | None,
) -> Tensor:
    """Rigorous lower bounds [m] of forms, with CROWN's slopes or, with ``steps``, with optimised ones."""
    best = dual_value(engine.exact, box, rows, around, sizes=sizes)
    if steps == 0 or not around:
        return best
    seen = {v: Lines(*(rows.take(t, v) for t in (a.low, a.up, a.gap))) for v, a in around.items()}
    quick = {v: Lines(a.low.float(), a.up.float(), a.gap.float()) for v, a in seen.items()}
    free = {v: rows.take(pre.unstable(v).float(), v) for v in around}
    index = Index.whole(quick)
    start = Parameters(
        torch.cat([quick[v].low.flatten(1) for v in quick], 1),
        None,
        torch.cat([free[v].flatten(1) for v in quick], 1),
    )
    walker = Walker(engine.quick, box.to(torch.float32), rows.to(torch.float32), quick, index)
    end = ascend(walker, start, steps=steps, rates=rates or Rates(), goal=math.inf)
    final = {}
    for v, a in seen.items():
        theta = end.theta[:, index.columns[v]].reshape(a.low.shape).double().clamp(0, 1)
        final[v] = Lines(torch.where(free[v] > 0, theta, a.low), a.up, a.gap)
    # Large weights overflow in float32, and slopes that are NaN prove nothing: what CROWN proved stays.
    return torch.fmax(best, dual_value(engine.exact, box, rows, final, seen=True, sizes=sizes))
