"""Finding the units of a model: which channels and neurons can go, and what has to go with them.

The model's trace is followed step by step with one claim about every value: where unit k of its set is pruned, so
without its weights, bias, scale and shift, the value is 0 for every input at all that belongs to unit k. Layers make
sets; BatchNorm, depthwise convolutions and residual sums keep the claim only if what they bring is pruned along, so
they join sets. ReLU, pooling and factors keep it as it is. Flattening keeps it, in blocks, and no set goes on behind
it. What a convolution or linear layer reads may be 0 at any place. A set is closed where any of its values is an
output, meets an input in a sum, or enters a step that is none of these: such a step may do anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, fx, nn

from certiprune.net.prunable import Layers, kinds
from certiprune.net.trace import (
    OVER,
    PASSES,
    POOLS,
    SIGNS,
    TIMES,
    Trace,
    asks_shape,
    attribute,
    called,
    dimensions,
    trace,
)
from certiprune.prune.groups import Group, Groups


def groups(model: nn.Module, *, layers: Layers = "convolutions") -> Groups:
    """All units of ``layers`` that can be removed: channels of convolutions, neurons of linear layers.

    Guaranteed: where a unit is pruned (``Groups.expand``), what it makes is 0 for every input, up to the layer that
    reads it and at every ReLU on the way, and ``net.compact`` removes it from the lowered network. What can be removed
    but is not understood is left out.

    Args:
        model: anything that can be traced; it is left as it was.
        layers: a group is there if all of its layers are such; ``convolutions`` means linear layers in a model
            without any.

    Raises:
        InputError: ``layers`` is unknown.
        ModelError: the model cannot be traced.
    """
    wanted = kinds(model, layers)
    return _Finder(trace(model), model).found(wanted)


Form = Literal["channels", "neurons", "blocks", "unknown"]


@dataclass(frozen=True)
class _Value:
    """What a step makes: units of a set, as [n, units, h, w], as [n, units], or flat with a block for each."""

    set: int
    form: Form


class _Finder:
    """Follows one trace. Sets are numbers; ``parent`` says which was joined to which (union-find)."""

    def __init__(self, steps: Trace, model: nn.Module) -> None:
        self.steps = steps
        self.names = {id(parameter): name for name, parameter in model.named_parameters()}
        self.parent: list[int] = []
        self.size: list[int | None] = []
        self.closed: set[int] = set()
        self.members: dict[str, int] = {}
        self.layer_of: dict[str, nn.Module] = {}
        self.reads: dict[str, list[int]] = {}
        self.values: dict[fx.Node, _Value | None] = {}
        for node in steps.needed():
            self.values[node] = self._step(node)
        for node in steps.graph.nodes:
            if node.op == "output":
                self._close(self._sets(node))
        relus = {place: self.values[node] for node, place in steps.relus().items()}
        self.relus = {place: value.set for place, value in relus.items() if value is not None}

    def found(self, wanted: tuple[type[nn.Module], ...]) -> Groups:
        """The open sets whose layers are all of the kinds ``wanted``."""
        closed = {self._root(number) for number in self.closed}
        members: dict[int, list[str]] = {}
        for name, number in self.members.items():
            members.setdefault(self._root(number), []).append(name)
        groups = {}
        for root, names in members.items():
            weights = [name for name in names if isinstance(self.layer_of.get(name), nn.Conv2d | nn.Linear)]
            if root not in closed and all(isinstance(self.layer_of[name], wanted) for name in weights):
                groups[weights[0].removesuffix(".weight")] = self._group(root, names, weights)
        return Groups(groups)

    def _group(self, root: int, names: list[str], weights: list[str]) -> Group:
        size = self.size[root]
        assert size is not None  # sets without a size are closed
        scales = tuple(name for name in names if name in self.layer_of and name not in weights)
        readers = [name for name, read in self.reads.items() if {self._root(r) for r in read} == {root}]
        relus = tuple(place for place, number in self.relus.items() if self._root(number) == root)
        others = tuple(name for name in names if name not in weights)
        return Group(size, tuple(weights), others, scales, tuple(readers), relus)

    def _step(self, node: fx.Node) -> _Value | None:
        """What a step makes; None where it is a constant or a size."""
        if node.op == "placeholder":
            return self._unknown()
        if node.op == "get_attr":
            # A parameter that a step reads by itself may mean anything there.
            self._close_parameters([attribute(self.steps.module, str(node.target))])
            return None
        known = [] if asks_shape(node) else self._sets(node)
        if not known and node.op != "call_module":
            return None
        value = self._followed(node)
        if value is not None:
            return value
        self._close(known)
        layer = self.steps.layer(node)
        self._close_parameters(layer.parameters() if layer is not None else ())
        return self._unknown()

    def _followed(self, node: fx.Node) -> _Value | None:
        """What a step makes, where the claim holds for it; else None."""
        if node.target in SIGNS:
            return self._sum(node)
        if node.target in TIMES or node.target in OVER:
            return self._product(node)
        x = self._argument(node, 0)
        if x is None or len(self._sets(node)) > 1:
            return None
        layer, name = self.steps.layer(node), called(node)
        if layer is not None:
            return self._layer(layer, x)
        if self.steps.rectifies(node) or name == "contiguous":
            return x
        if name == "dropout" and not node.kwargs.get("training", True):
            return x
        if name == "flatten" and dimensions(node.args[1:], node.kwargs) == (1, -1):  # type: ignore[arg-type]
            return _flat(x)
        if name in ("view", "reshape") and len(node.args) > 1:
            wanted = node.args[1] if isinstance(node.args[1], tuple | list) else node.args[1:]
            return _flat(x) if len(wanted) == 2 else None
        return x if name in POOLS and x.form == "channels" else None

    def _layer(self, layer: nn.Module, x: _Value) -> _Value | None:
        match layer:
            case nn.Conv2d(groups=1) if x.form in ("channels", "unknown"):
                return self._made(layer, x, layer.in_channels, layer.out_channels, "channels")
            case nn.Linear() if x.form != "channels":
                return self._made(layer, x, layer.in_features, layer.out_features, "neurons")
            case nn.Conv2d() if layer.groups == layer.in_channels == layer.out_channels == self._size(x):
                return self._belongs(layer, x)
            case nn.BatchNorm1d() | nn.BatchNorm2d() if layer.num_features == self._size(x):
                # Without a scale the running mean makes something of 0.
                return None if layer.weight is None else self._belongs(layer, x)
            case nn.ReLU():
                return x
            case nn.Flatten(start_dim=1, end_dim=-1):
                return _flat(x)
            case nn.AvgPool2d() | nn.MaxPool2d() | nn.AdaptiveAvgPool2d() if x.form == "channels":
                return x
        return x if isinstance(layer, PASSES) else None

    def _made(
        self, layer: nn.Conv2d | nn.Linear, x: _Value, inputs: int, outputs: int, form: Form
    ) -> _Value | None:
        """The units that a layer makes of whatever it reads."""
        size = self.size[self._root(x.set)]
        if size is not None and inputs != size and not (x.form == "blocks" and inputs % size == 0):
            return None
        value = _Value(self._new(outputs), form)
        self._belongs(layer, value)
        if id(layer.weight) in self.names:
            self.reads.setdefault(self.names[id(layer.weight)], []).append(x.set)
        return value

    def _belongs(self, layer: nn.Module, x: _Value) -> _Value:
        """``x``, whose set the parameters of ``layer`` now belong to."""
        for key in ("weight", "bias"):
            parameter = getattr(layer, key)
            if parameter is None:
                continue
            name = self.names.get(id(parameter))
            if name is None:
                # It is computed from something else.
                self._close([x.set])
                continue
            self._join(x.set, self.members.setdefault(name, x.set))
            if key == "weight":
                self.layer_of.setdefault(name, layer)
        return x

    def _sum(self, node: fx.Node) -> _Value | None:
        a, b = self._argument(node, 0), self._argument(node, 1)
        if a is None or b is None or node.kwargs or a.form != b.form:
            return None
        if a.form not in ("channels", "neurons"):
            return None
        self._join(a.set, b.set)
        return a

    def _product(self, node: fx.Node) -> _Value | None:
        """A value times a number, or over one."""
        if node.kwargs or len(node.args) != 2:
            return None
        first, second = node.args
        if isinstance(second, int | float):
            return self._argument(node, 0)
        return self._argument(node, 1) if isinstance(first, int | float) and node.target in TIMES else None

    def _argument(self, node: fx.Node, position: int) -> _Value | None:
        given: Any = node.args[position] if position < len(node.args) else None
        return self.values[given] if isinstance(given, fx.Node) else None

    def _sets(self, node: fx.Node) -> list[int]:
        """The sets of what a step reads."""
        return [value.set for a in node.all_input_nodes if (value := self.values[a]) is not None]

    def _size(self, x: _Value) -> int | None:
        """How many units lie along dimension 1, where that has an entry for each."""
        return self.size[self._root(x.set)] if x.form in ("channels", "neurons") else None

    def _new(self, size: int | None) -> int:
        self.parent.append(len(self.parent))
        self.size.append(size)
        return len(self.parent) - 1

    def _unknown(self) -> _Value:
        value = _Value(self._new(None), "unknown")
        self._close([value.set])
        return value

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            number = self.parent[number]
        return number

    def _join(self, one: int, other: int) -> None:
        one, other = self._root(one), self._root(other)
        if self.size[one] != self.size[other]:
            self._close([one, other])
        self.parent[max(one, other)] = min(one, other)

    def _close(self, sets: Iterable[int]) -> None:
        self.closed.update(sets)

    def _close_parameters(self, parameters: Iterable[Tensor]) -> None:
        """Close what the parameters belong to now, or will."""
        for parameter in parameters:
            if name := self.names.get(id(parameter)):
                self._close([self.members.setdefault(name, self._new(None))])


def _flat(x: _Value) -> _Value:
    return _Value(x.set, "blocks") if x.form == "channels" else x
