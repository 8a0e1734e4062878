"""The immutable graph of affine operations and ReLUs that bounds and verification work on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from certiprune.core.errors import ModelError
from certiprune.net.ops import Add, Affine, Op, Relu, Shape


@dataclass(frozen=True)
class Node:
    """One value of the graph: an operation, the values that it reads, and a name for people.

    Attributes:
        folded: how many other operations were composed into this one. Each may have rounded every weight once, and no
            more than ``net.build`` allows are within what bounds count as rounding.
    """

    op: Op
    inputs: tuple[int, ...]
    name: str = ""
    folded: int = 0


@dataclass(frozen=True)
class Network:
    """A ReLU network as a graph of values: value 0 is the input, value ``k`` is what ``nodes[k - 1]`` makes.

    Nodes stand in topological order and the last one is the output, a flat vector.
    """

    nodes: tuple[Node, ...]
    input_shape: Shape

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Every value's shape, without the batch dimension."""
        shapes: list[Shape] = [tuple(self.input_shape)]
        for k, node in enumerate(self.nodes, start=1):
            if any(not 0 <= i < k for i in node.inputs):
                raise ModelError(f"node {k} ({node.name}) reads a value that comes after it")
            shapes.append(tuple(node.op.shape(*(shapes[i] for i in node.inputs))))
        return tuple(shapes)

    @property
    def output(self) -> int:
        """The number of the output value."""
        return len(self.nodes)

    @cached_property
    def relus(self) -> tuple[int, ...]:
        """The values made by ReLUs, in topological order."""
        return tuple(k for k, node in enumerate(self.nodes, start=1) if isinstance(node.op, Relu))

    @cached_property
    def neurons(self) -> int:
        """How many ReLU neurons the network has."""
        return sum(math.prod(self.shapes[k]) for k in self.relus)

    @property
    def outputs(self) -> int:
        return math.prod(self.shapes[-1])

    @property
    def dtype(self) -> torch.dtype:
        return next((t.dtype for t in self.tensors()), torch.float64)

    @property
    def device(self) -> torch.device:
        return next((t.device for t in self.tensors()), torch.device("cpu"))

    def tensors(self) -> list[Tensor]:
        """Every weight, bias, scale and shift of the network (and no slack)."""
        parts = [item for node in self.nodes for item in vars(node.op).items()]
        found = [v for name, v in parts if isinstance(v, Tensor) and name != "slack"]
        return [v for v in found if v.is_floating_point()]

    def detached(self) -> Network:
        """The same function without gradients to its tensors."""
        nodes = []
        for node in self.nodes:
            tensors = {k: t.detach() for k, t in vars(node.op).items() if isinstance(t, Tensor)}
            nodes.append(replace(node, op=replace(node.op, **tensors)) if tensors else node)  # type: ignore[type-var]
        return Network(tuple(nodes), self.input_shape)

    def node(self, value: int) -> Node:
        """The node that makes ``value`` (which is not the input)."""
        return self.nodes[value - 1]

    def ancestors(self, value: int) -> tuple[int, ...]:
        """Every value that ``value`` depends on, itself included, in topological order."""
        seen = {value}
        for k in range(value, 0, -1):
            if k in seen:
                seen.update(self.node(k).inputs)
        return tuple(sorted(seen))

    def run(
        self, x: Tensor, *, apply: Callable[[int, Node, list[Tensor]], Tensor] | None = None
    ) -> list[Tensor]:
        """Every value at inputs ``x`` [n, *input_shape]."""
        values = [x]
        for k, node in enumerate(self.nodes, start=1):
            args = [values[i] for i in node.inputs]
            values.append(apply(k, node, args) if apply else evaluate(node.op, args))
        return values

    def __call__(self, x: Tensor) -> Tensor:
        """The outputs [n, outputs] at inputs ``x`` [n, *input_shape]."""
        return self.run(x)[-1]

    def to(self, dtype: torch.dtype, device: torch.device | str | None = None) -> Network:
        """The same network in another precision or on another device."""
        where = self.device if device is None else device
        nodes = tuple(
            replace(n, op=n.op.to(dtype, where)) if isinstance(n.op, Affine) else n for n in self.nodes
        )
        return Network(nodes, self.input_shape)

    def cost(self, values: Iterable[int] | None = None) -> int:
        """Multiply-adds of one forward pass, or of the nodes that make ``values`` only."""
        nodes = self.nodes if values is None else [self.node(v) for v in values]
        return sum(node.op.cost(self.shapes[node.inputs[0]]) for node in nodes if isinstance(node.op, Affine))


def evaluate(op: Op, args: Sequence[Tensor]) -> Tensor:
    """One operation on batched values."""
    if isinstance(op, Affine):
        return op.forward(args[0])
    if isinstance(op, Relu):
        return op.forward(args[0])
    if isinstance(op, Add):
        total = args[0]
        for other in args[1:]:
            total = total + other
        return total
    raise ModelError(f"unknown operation {type(op).__name__}")
