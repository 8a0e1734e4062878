"""What a proof proves (trusted): bounds from intervals, and from the linear forms that it names, layer by layer.

A form +z or -z of a neuron is bounded by ``bounds.value.dual_value`` in float64 with its rounding subtracted, whatever
slopes in [0, 1] it comes with; the lines around earlier ReLUs come from bounds that were worked out in the same way
before. Nothing that a proof says of a bound is used to find another one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from certiprune.bounds import Lines, PreActivation, dual_value, lines
from certiprune.bounds.interval import Interval, step
from certiprune.bounds.rows import Rows, neuron_rows
from certiprune.bounds.value import magnitudes
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Relu
from certiprune.prune.certified.proof import Forms

Tighten = Callable[[int, Interval, PreActivation], Interval]
"""From a ReLU value, bounds of what enters it, and the bounds of all ReLUs before it, to bounds that are not wider."""

# Numbers of one batch of forms over all values.
_BATCH = 1 << 20


def intervals(
    network: Network, box: Box, tighten: Tighten = lambda _relu, ends, _before: ends
) -> tuple[list[Interval], PreActivation]:
    """Sound bounds of every value, and of what enters every ReLU, for every point of the one box."""
    values: list[Interval] = [(box.lower, box.upper)]
    pre = PreActivation({}, {})
    for v, node in enumerate(network.nodes, start=1):
        args = [values[i] for i in node.inputs]
        if isinstance(node.op, Relu):
            args = [tighten(v, args[0], pre)]
            pre = PreActivation({**pre.lower, v: args[0][0]}, {**pre.upper, v: args[0][1]})
            values.append((args[0][0].clamp(min=0), args[0][1].clamp(min=0)))
        else:
            values.append(step(network, v, args))
    return values, pre


def tightened(
    network: Network, box: Box, relu: int, ends: Interval, before: PreActivation, forms: Forms
) -> Interval:
    """``ends`` [1, *shape] of what enters ``relu``, tighter where ``forms`` prove more.

    Args:
        network: in float64.
        box: one box.
        before: sound bounds of every ReLU in front of this one.
        forms: neurons in range, and slopes of the shapes that ``look`` says, for ReLUs in front of this one.
    """
    source, shape = network.node(relu).inputs[0], ends[0].shape
    way = plan(network, source, windowed=True)
    around = {v: t for v, t in lines(before).items() if v in way.windows}
    sizes = magnitudes(network, box, before)
    low, high = (t.flatten().clone() for t in ends)
    size = max(1, _BATCH // max(1, way.numel(network)))
    for at in range(0, len(forms), size):
        part = forms[at : at + size]
        rows = look(network, relu, part)
        if part.slopes:
            around_forms = {v: _seen(rows, before, v, t, part.slopes) for v, t in around.items()}
            bound = dual_value(network, box, rows, around_forms, seen=True, sizes=sizes)
        else:
            bound = dual_value(network, box, rows, around, sizes=sizes)
        down, up = ~part.upper, part.upper
        low.scatter_reduce_(0, part.neuron[down], bound[down], "amax")
        high.scatter_reduce_(0, part.neuron[up], -bound[up], "amin")
    return low.reshape(shape), high.reshape(shape)


def look(network: Network, relu: int, forms: Forms) -> Rows:
    """The forms over the value that enters ``relu``; ``take`` of these rows says what they see of another value."""
    way = plan(network, network.node(relu).inputs[0], windowed=True)
    sign = 1 - 2 * forms.upper.double()
    return neuron_rows(way, network, torch.zeros_like(forms.neuron), forms.neuron, sign)


def _seen(rows: Rows, pre: PreActivation, v: int, around: Lines, slopes: Mapping[int, Tensor]) -> Lines:
    """The lines of one ReLU as the forms see them, with their own slopes where they have some."""
    low = rows.take(around.low, v)
    if v in slopes:
        free = rows.take(pre.unstable(v).to(low.dtype), v)
        # Where a neuron is stable its slope is no choice; elsewhere any slope from 0 to 1 gives a bound.
        low = low * (1 - free) + slopes[v].to(low.dtype).clamp(0, 1) * free
    return Lines(low, rows.take(around.up, v), rows.take(around.gap, v))
