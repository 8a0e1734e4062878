"""The same function without dead channels and neurons, which makes a pruned network cheaper to verify.

What never changes is folded into the biases of what reads it. Behind a padded convolution that makes a bias
of one number per output position, because the padding is zero and the constant channel is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from torch import Tensor

from certiprune.net.build import Builder, fold
from certiprune.net.cost import Cost, cost
from certiprune.net.liveness import Liveness, liveness, rounded
from certiprune.net.lower import compare, random_probe
from certiprune.net.network import Network, Node
from certiprune.net.ops import Add, Conv, Dense, Op, Relu, Reshape, Scale, Select, Shape


@dataclass(frozen=True)
class Units:
    """How many units (channels of an image, neurons of a flat value) of one old value are left.

    Nothing is left of a value that is gone.
    """

    value: int
    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Origin:
    """Where a ReLU of the compact network comes from.

    Attributes:
        value: the number of the ReLU's value in the old network.
        kept: int64, which of its channels or neurons (dimension 0) are left, in order. They hold the old
            numbers wherever the output depends on them; what is left only because a sum or a permutation keeps
            it together with others may hold anything.
    """

    value: int
    kept: Tensor


@dataclass(frozen=True)
class Compaction:
    """What ``compact`` did.

    Attributes:
        units: every value of the old network but its input, in order.
        origins: each ReLU value of the new network and where it comes from.
        before: the old network's size.
        after: the new network's size.
    """

    units: tuple[Units, ...]
    origins: Mapping[int, Origin]
    before: Cost
    after: Cost

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", MappingProxyType(dict(self.origins)))

    @property
    def removed(self) -> int:
        """How many ReLU neurons are gone."""
        return self.before.neurons - self.after.neurons


@torch.no_grad()
def compact(network: Network) -> tuple[Network, Compaction]:
    """Remove the channels and neurons that are constant or that nothing reads.

    A unit whose incoming weights are zero is constant, and is folded into the biases behind it; a unit
    whose outgoing weights are zero goes; each may kill others, until nothing changes. In a sum a unit goes
    only where it can go in every part. Groups of a convolution go as a whole. A value of which nothing is
    left disappears with its layer. Where the whole output is constant, a column of zeros with the right
    bias takes the network's place. So no layer is ever left without a channel.

    Returns:
        the new network, whose outputs equal the old one's up to rounding, and what was removed.

    Raises:
        LoweringError: the two differ on random inputs, by more than rounding.
    """
    known = liveness(network)
    builder = Builder(network.input_shape, network.dtype)
    new = {0: 0}
    origins = []
    for value in _wanted(network, known):
        node = network.node(value)
        new[value] = _emit(builder, network, known, value, new)
        if isinstance(node.op, Relu):
            origins.append(Origin(value, known.keep[value].nonzero()[:, 0]))
    if network.output in new:
        small = fold(Network(tuple(builder.nodes), network.input_shape), new[network.output])
    else:
        small = _constant(network, known.level[-1], known.slack[-1])
    tolerance = 1e-9 if network.dtype == torch.float64 else 1e-4
    where = network.device
    compare(
        small, lambda x: network(x.to(where, network.dtype)), random_probe(network.input_shape), tolerance
    )
    left = tuple(
        Units(value, node.name, len(known.keep[value]), int(known.keep[value].sum()) if value in new else 0)
        for value, node in enumerate(network.nodes, start=1)
    )
    # Folding moves values up but keeps every ReLU, and their order.
    return small, Compaction(left, dict(zip(small.relus, origins, strict=True)), cost(network), cost(small))


def _wanted(network: Network, known: Liveness) -> list[int]:
    """The values to write down, in order: those with live units that the output needs."""
    wanted = set()
    for value in range(network.output, 0, -1):
        if (value in wanted or value == network.output) and bool(known.live[value].any()):
            wanted |= {value, *_parts(network.node(value), known)}
    return sorted(wanted - {0})


def _parts(node: Node, known: Liveness) -> list[int]:
    """The inputs that a node needs: a sum leaves out those that are constant wherever they are used."""
    return [i for i in node.inputs if not isinstance(node.op, Add) or bool(known.live[i].any())]


def _constant(network: Network, level: Tensor, slack: Tensor) -> Network:
    """A network whose output is ``level`` [outputs], off by up to ``slack``, whatever its input is."""
    builder = Builder(network.input_shape, network.dtype)
    # A matrix of zeros, and of one column only: for all of the input it could be larger than the network was.
    one = builder.emit(Select(0, torch.zeros(1, dtype=torch.int64, device=level.device)), builder.flatten(0))
    weight = level.new_zeros(len(level), 1)
    return builder.finish(builder.emit(Dense(weight, level, slack), one, name="constant"))


def _emit(builder: Builder, network: Network, known: Liveness, value: int, new: Mapping[int, int]) -> int:
    """Write down what is kept of one value, and return its number in ``builder``."""
    node, shapes = network.node(value), network.shapes
    op, x, keep = node.op, node.inputs[0], known.keep[value]
    if isinstance(op, Add):
        return _sum(builder, known, node, keep, new)
    if isinstance(op, Conv | Dense):
        op = _with_bias(op, known, value, x, shapes[value])
    return builder.emit(
        restrict(op, known.keep[x], keep, shapes[value]), new[x], name=node.name, folded=node.folded
    )


def _sum(builder: Builder, known: Liveness, node: Node, keep: Tensor, new: Mapping[int, int]) -> int:
    parts = _parts(node, known)
    total = new[parts[0]] if len(parts) == 1 else builder.add(*(new[i] for i in parts), name=node.name)
    rest = [i for i in node.inputs if i not in parts]
    if not rest:
        return total
    level, far = [known.level[i][keep].unsqueeze(0) for i in rest], [known.slack[i][keep] for i in rest]
    total_level, total_far = rounded(Add(), level, far)
    if not bool(total_level.any() or total_far.any()):
        return total
    shift, slack = _smallest(total_level[0], total_far)
    return builder.scale(total, 1.0, shift, node.name, slack)


def _with_bias(op: Conv | Dense, known: Liveness, value: int, x: int, shape: Shape) -> Conv | Dense:
    """The operation with everything that is constant in its bias, for all of its units."""
    dead = ~known.live[value]
    weight = op.weight.masked_fill(dead.reshape(-1, *(1,) * (op.weight.dim() - 1)), 0.0)
    gone, lost = known.level[x].clone(), known.slack[x].clone()
    gone[known.keep[x]] = lost[known.keep[x]] = 0
    parts = rounded(replace(op, weight=weight), [gone.unsqueeze(0)], [lost])
    constant, slack = parts[0][0].expand(shape).clone(), parts[1].expand(shape).clone()
    constant[dead], slack[dead] = known.level[value][dead], known.slack[value][dead]
    if not bool(constant.any() or slack.any()):
        return replace(op, weight=weight, bias=None, slack=None)
    return replace(op, weight=weight, bias=constant, slack=slack if bool(slack.any()) else None)


def restrict(op: Op, source: Tensor, keep: Tensor, shape: Shape) -> Op:
    """The operation from the units ``source`` of its input to the units ``keep`` of its output (both [units] bool).

    ``shape`` is the output's, before. The sums that are left out must be zero, or added elsewhere.
    """
    match op:
        case Conv():
            # A group that is left has either all of its channels or, where it is the only one, any of them.
            left = keep.view(op.groups, -1).any(1)
            within = source.view(op.groups, -1)[left].any(0)
            weight, groups = op.weight[keep][:, within], int(left.sum())
            bias, slack = (None if t is None else t[keep] for t in (op.bias, op.slack))
            if bias is not None:
                bias, slack = _smallest(bias, slack)
            return replace(op, weight=weight, bias=bias, groups=groups, slack=slack)
        case Dense():
            bias, slack = (None if t is None else t[keep] for t in (op.bias, op.slack))
            return Dense(op.weight[keep][:, source], bias, slack)
        case Scale():
            shift, slack = (None if t is None else _rows(t, keep, shape) for t in (op.shift, op.slack))
            return Scale(_rows(op.scale, keep, shape), shift, slack)
        case Reshape():
            return Reshape((int(keep.sum()), *op.target[1:]))
        case Select(dim=0, size=None):
            return Select(0, _rank(source)[op.index[keep]])
        case Select(dim=0):
            return Select(0, _rank(keep)[op.index[source]], int(keep.sum()))
    return op


def _rows(t: Tensor, keep: Tensor, shape: Shape) -> Tensor:
    """The rows of a constant that broadcasts to ``shape``."""
    return t[keep] if t.dim() == len(shape) and len(t) == len(keep) else t


def _rank(keep: Tensor) -> Tensor:
    """The new number of each kept unit."""
    return keep.cumsum(0) - 1


def _smallest(bias: Tensor, slack: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A bias [c, h, w] and its slack as [c, 1, 1] where the bias is the same number everywhere, up to rounding."""
    if bias.dim() != 3:
        return bias, slack
    flat = bias.flatten(1)
    spread = flat.amax(1) - flat.amin(1)
    if not bool((spread <= 8 * torch.finfo(bias.dtype).eps * flat.abs().amax(1)).all()):
        return bias, slack
    # Twice, because the difference is rounded.
    far = 2 * spread + (0 if slack is None else slack.expand(bias.shape).flatten(1).amax(1))
    return bias[:, :1, :1].clone(), far[:, None, None] if bool(far.any()) else None
