"""Which units of a network matter: a unit is a channel of an image or a neuron of a flat value (dimension 0).

A unit is fixed where it is the same number for every input: everything that it reads through weights other
than zero is fixed. It is used where the output depends on it through weights other than zero. A unit that
moves and is used is live. A unit must be kept where it is live, or where an operation ties it to one that is
kept: a sum, for example, keeps the same units of everything that it adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.net.fold import moved
from certiprune.net.network import Network, evaluate
from certiprune.net.ops import Add, Affine, Conv, Dense, Op, Pad, Permute, Relu, Reshape, Scale, Select, Shape


@dataclass(frozen=True)
class Liveness:
    """What is known of every value, by its number.

    Attributes:
        level: [*shape], the numbers at the entries that never change, zero elsewhere.
        slack: [*shape], how far rounding may have moved these numbers.
        live: [units] bool, the output depends on the unit, and it is not the same for every input.
        keep: [units] bool, live, or tied to a unit that is.
    """

    level: tuple[Tensor, ...]
    slack: tuple[Tensor, ...]
    live: tuple[Tensor, ...]
    keep: tuple[Tensor, ...]


def liveness(network: Network) -> Liveness:
    """Find what is fixed going forward, what is used going backward, then what must stay together.

    What is used never decides what is fixed, so one pass each way reaches the fixed point of removing dead
    units again and again.
    """
    fixed, level, slack = _fixed(network)
    used = _used(network, fixed)
    live = [units(u & ~f) for u, f in zip(used, fixed, strict=True)]
    keep = _keep(network, live)
    return Liveness(tuple(level), tuple(slack), tuple(live), tuple(keep))


def units(entries: Tensor) -> Tensor:
    """Which units [units] have any of ``entries`` [units, ...]."""
    return entries.reshape(len(entries), -1).any(1)


def _spread(flags: Tensor, shape: Shape) -> Tensor:
    """Flags [units] for all of their entries, [*shape]."""
    return flags.reshape(-1, *(1,) * (len(shape) - 1)).expand(shape)


def _links(op: Conv | Dense) -> Tensor:
    """Which outputs read which inputs through a weight other than zero, [out, in]."""
    if isinstance(op, Dense):
        return op.weight != 0
    within = op.weight.flatten(2).ne(0).any(2)
    groups = op.groups
    blocks = within.reshape(groups, -1, within.shape[1])
    links = within.new_zeros(groups, blocks.shape[1], groups, blocks.shape[2])
    diagonal = torch.arange(groups, device=links.device)
    links[diagonal, :, diagonal] = blocks
    return links.reshape(len(within), -1)


def _fixed(network: Network) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Per value, which entries never change, what they are, and how far that may be off."""
    level = [torch.zeros(network.input_shape, dtype=network.dtype, device=network.device)]
    slack = [level[0]]
    fixed = [level[0] != 0]
    for value, node in enumerate(network.nodes, start=1):
        op, x, shape = node.op, node.inputs[0], network.shapes[value]
        if isinstance(op, Conv | Dense):
            moves = (_links(op) & units(~fixed[x])).any(1)
            fixed.append(_spread(~moves, shape))
        elif isinstance(op, Scale):
            fixed.append(fixed[x] | (op.scale == 0))
        elif isinstance(op, Affine):
            fixed.append(op.linear((~fixed[x]).to(network.dtype).unsqueeze(0))[0] == 0)
        else:
            fixed.append(torch.stack([fixed[i] for i in node.inputs]).all(0))
        # What moves counts as zero here; an entry that is fixed reads it through zero weights only.
        now, far = rounded(op, [level[i].unsqueeze(0) for i in node.inputs], [slack[i] for i in node.inputs])
        level.append(now[0].expand(shape) * fixed[-1])
        slack.append(far.expand(shape) * fixed[-1])
    return fixed, level, slack


def rounded(op: Op, args: list[Tensor], slack: list[Tensor]) -> tuple[Tensor, Tensor]:
    """One operation on numbers [1, *shape] that may be off by ``slack`` [*shape]; nothing is said in float32."""
    if isinstance(op, Affine):
        value, far = moved(op, args[0], slack[0].unsqueeze(0))
        return value, torch.zeros_like(value[0]) if far is None else far[0]
    value, far = evaluate(op, args), torch.stack(slack).sum(0)
    return value, far + torch.cat(args).abs().sum(0) * 2.0**-53 * (len(args) - 1)


def _used(network: Network, fixed: list[Tensor]) -> list[Tensor]:
    """Per value, which entries the output depends on."""
    used = [torch.zeros_like(f) for f in fixed]
    used[-1] = torch.ones_like(used[-1])
    for value in range(network.output, 0, -1):
        node = network.node(value)
        # What is fixed will be written down as a number, so it needs nothing.
        need = used[value] & ~fixed[value]
        for x in node.inputs:
            used[x] = used[x] | _needed(node.op, need, network.shapes[x], network.dtype)
    return used


def _needed(op: Op, need: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Which entries of an operation's input [*shape] the entries ``need`` of its output depend on."""
    if isinstance(op, Conv | Dense):
        return _spread((_links(op) & units(need).unsqueeze(1)).any(0), shape)
    if isinstance(op, Scale):
        return need & (op.scale != 0)
    if isinstance(op, Affine):
        return op.pull(need.to(dtype).unsqueeze(0), shape)[0] != 0
    return need


def _keep(network: Network, live: list[Tensor]) -> list[Tensor]:
    """The smallest sets of units that hold the live ones and satisfy every tie."""
    keep = [flags.clone() for flags in live]
    # A value without a live unit will not be written down (a sum takes it as a constant), so it ties nothing.
    some = [bool(flags.any()) for flags in live]
    keep[0][:] = keep[-1][:] = True
    before = -1
    while before != (before := sum(int(flags.sum()) for flags in keep)):
        for value in range(network.output, 0, -1):
            node = network.node(value)
            inputs = [i for i in node.inputs if some[i]]
            if some[value]:
                _tie(node.op, [keep[i] for i in inputs], keep[value], [network.shapes[i] for i in inputs])
    return keep


def _tie(op: Op, inputs: list[Tensor], out: Tensor, shapes: list[Shape]) -> None:
    """Grow the sets ``inputs`` and ``out`` in place until they satisfy the operation."""
    match op:
        case Dense() | Conv(groups=1):
            pass
        case Conv():
            # Groups stay or go as a whole, so that those that stay have equal sizes; one alone can have any.
            by_group = [flags.view(op.groups, -1) for flags in (inputs[0], out)]
            either = by_group[0].any(1, keepdim=True) | by_group[1].any(1, keepdim=True)
            for flags in by_group if int(either.sum()) > 1 else ():
                flags |= either
        case Reshape():
            shape, target = shapes[0], op.target
            out |= units(_spread(inputs[0], shape).reshape(target))
            inputs[0] |= units(_spread(out, target).reshape(shape))
        case Select(dim=0, size=None):
            inputs[0][op.index[out]] = True
        case Select(dim=0):
            out[op.index[inputs[0]]] = True
            inputs[0] |= out[op.index]
        case _ if _keeps_units(op, shapes):
            for flags in inputs:
                out |= flags
            for flags in inputs:
                flags |= out
        case _:
            for flags in (*inputs, out):
                flags[:] = True


def _keeps_units(op: Op, shapes: list[Shape]) -> bool:
    """Whether unit k of the output is made of unit k of each input only."""
    if isinstance(op, Permute):
        return op.order[0] == 0
    if isinstance(op, Pad):
        return not any(op.amounts[2 * (len(shapes[0]) - 1) :])
    return isinstance(op, Relu | Add | Scale | Select)
