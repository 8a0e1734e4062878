"""Units that are on go around their ReLU (Serra et al., "Lossless compression of deep neural networks", CPAIOR 2020).

With z = A x + a before the ReLU, on-units s, other units u, and y = B relu(z) + b behind it,
    y = B_u relu(A_u x + a_u) + B_s (A_s x + a_s) + b.
Written like this, in two branches, it has as many weights and multiply-adds as before and fewer ReLU neurons. For
matrices the second branch can be one matrix M = B_s A_s, where that has no more weights than the two (``merge.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.interval import Interval
from certiprune.net.build import Builder, fold
from certiprune.net.compact import restrict
from certiprune.net.cost import cost
from certiprune.net.network import Network
from certiprune.net.ops import Add, Conv, Dense, Reshape, Scale, Shape
from certiprune.prune.certified.merge import merged


def without(network: Network, values: set[int]) -> Network:
    """The network with each of ``values`` (of one input) replaced by what it reads."""
    builder = Builder(network.input_shape, network.dtype)
    new = {0: 0}
    for value, node in enumerate(network.nodes, start=1):
        inputs = tuple(new[i] for i in node.inputs)
        new[value] = (
            inputs[0]
            if value in values
            else builder.emit(node.op, *inputs, name=node.name, folded=node.folded)
        )
    return fold(Network(tuple(builder.nodes), network.input_shape), new[network.output])


def bypass(network: Network, relu: int, on: Tensor, values: list[Interval]) -> Network | None:
    """The same function (on the domain) in which the units ``on`` of a ReLU go around it.

    Args:
        network: in float64.
        relu: the ReLU's value.
        on: [units] bool, those whose neurons are all at least 0 before the ReLU, everywhere on the domain.
        values: bounds of every value on the domain, which say how far a rounded matrix can be off.

    Returns:
        a network with as many ReLUs, or with one less where all units are on; None where a second branch has no place
        or costs something: something else reads what enters the ReLU, or something other than convolutions and
        matrices reads what leaves it.
    """
    place = _Place.of(network, relu)
    matrices = {} if place is None else merged(network, relu, on, place.readers, values)
    if bool(on.all()) and not matrices:
        # A ReLU of the input may be all there is.
        return without(network, {relu}) if len(network.nodes) > 1 else None
    if place is None:
        return None
    changed = _Branches(network, place, on, matrices).write()
    before, after = cost(network), cost(changed)
    cheap = after.parameters <= before.parameters and after.multiply_adds <= before.multiply_adds
    return changed if cheap else None


@dataclass(frozen=True)
class _Place:
    """Where the branches of one ReLU begin and end.

    Attributes:
        relu: its value.
        rows: the values before it that are made in parts.
        flat: the values behind it that only put the parts in another shape.
        readers: the convolutions and matrices that read the parts.
    """

    relu: int
    rows: frozenset[int]
    flat: frozenset[int]
    readers: tuple[int, ...]

    @staticmethod
    def of(network: Network, relu: int) -> _Place | None:
        reading: list[list[int]] = [[] for _ in network.shapes]
        for value, node in enumerate(network.nodes, start=1):
            for i in node.inputs:
                reading[i].append(value)
        rows = _rows(network, reading, network.node(relu).inputs[0])
        flat = frozenset(v for v in reading[relu] if network.node(v).op == Reshape((_numel(network, v),)))
        direct = [v for v in reading[relu] if v not in flat]
        behind = [r for v in flat for r in reading[v]]
        fits = all(_by_units(network, v) for v in direct) and all(
            isinstance(network.node(v).op, Dense) for v in behind
        )
        ends = network.output in {relu, *flat}
        if rows is None or ends or not fits:
            return None
        return _Place(relu, rows, flat, tuple(direct + behind))


def _rows(network: Network, reading: list[list[int]], value: int) -> frozenset[int] | None:
    """The values up to ``value`` that are made in parts where it is: it alone reads them. None where that cannot be."""
    if value == 0 or len(reading[value]) != 1:
        return None
    if _by_units(network, value):
        return frozenset([value])
    node = network.node(value)
    if not isinstance(node.op, Add | Scale):
        return None
    parts = [_rows(network, reading, i) for i in node.inputs]
    return None if None in parts else frozenset([value]).union(*(p for p in parts if p))


def _by_units(network: Network, value: int) -> bool:
    """Whether a value is made of units of one before by one matrix, or one filter, for each of both."""
    op = network.node(value).op
    return isinstance(op, Dense) or (isinstance(op, Conv) and op.groups == 1)


def _numel(network: Network, value: int) -> int:
    return torch.Size(network.shapes[value]).numel()


@dataclass(frozen=True)
class _Part:
    """One branch of a value: its number in the new network, which units it holds, and whether they are the on-units."""

    number: int
    units: Tensor
    on: bool


class _Branches:
    """Writes a network down with the units of one ReLU in branches.

    ``matrices`` are, for each reader, what takes the place of the on-units' branch.
    """

    def __init__(self, network: Network, place: _Place, on: Tensor, matrices: Mapping[int, Dense]) -> None:
        self.network, self.place, self.matrices = network, place, matrices
        halves = [(~on, False)] if matrices else [(~on, False), (on, True)]
        self.halves = [(units, flag) for units, flag in halves if bool(units.any())]
        self.builder = Builder(network.input_shape, network.dtype)
        self.new = {0: 0}
        self.parts: dict[int, list[_Part]] = {}

    def write(self) -> Network:
        network, place = self.network, self.place
        for value, node in enumerate(network.nodes, start=1):
            x = node.inputs[0]
            if value in place.rows:
                self.parts[value] = [self._row(value, k) for k in range(len(self.halves))]
            elif value == place.relu:
                self.parts[value] = [
                    p if p.on else replace(p, number=self.builder.relu(p.number, node.name))
                    for p in self.parts[x]
                ]
            elif value in place.flat:
                self.parts[value] = [self._flat(p, network.shapes[x], node.name) for p in self.parts[x]]
            elif value in place.readers:
                self.new[value] = self._read(value)
            else:
                inputs = (self.new[i] for i in node.inputs)
                self.new[value] = self.builder.emit(node.op, *inputs, name=node.name, folded=node.folded)
        return fold(Network(tuple(self.builder.nodes), network.input_shape), self.new[network.output])

    def _row(self, value: int, k: int) -> _Part:
        """The units of one branch of a value that is made in parts."""
        network, node, (keep, on) = self.network, self.network.node(value), self.halves[k]
        if _by_units(network, value):
            source, inputs = _all(network.shapes[node.inputs[0]]), [self.new[node.inputs[0]]]
        else:
            source, inputs = keep, [self.parts[i][k].number for i in node.inputs]
        op = restrict(node.op, source, keep, network.shapes[value])
        return _Part(self.builder.emit(op, *inputs, name=node.name, folded=node.folded), keep, on)

    def _flat(self, part: _Part, shape: Shape, name: str) -> _Part:
        units = part.units.reshape(-1, *(1,) * (len(shape) - 1)).expand(shape).flatten()
        return _Part(self.builder.flatten(part.number, name), units, part.on)

    def _read(self, value: int) -> int:
        """The sum of what a reader makes of the branches; the offset goes with the last of them."""
        network, node = self.network, self.network.node(value)
        op, x = node.op, node.inputs[0]
        assert isinstance(op, Conv | Dense)
        terms = []
        for part in self.parts[x]:
            last = part is self.parts[x][-1] and value not in self.matrices
            whole = op if last else replace(op, bias=None, slack=None)
            own = restrict(whole, part.units, _all(network.shapes[value]), network.shapes[value])
            terms.append(self.builder.emit(own, part.number, name=node.name, folded=node.folded))
        if value in self.matrices:
            source = network.node(network.node(x).inputs[0]).inputs[0]
            terms.append(self.builder.emit(self.matrices[value], self.new[source], name=node.name))
        return terms[0] if len(terms) == 1 else self.builder.add(*terms, name=node.name)


def _all(shape: Shape) -> Tensor:
    return torch.ones(shape[0], dtype=torch.bool)
