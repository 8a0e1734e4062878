"""A builder of networks, shared by the readers of modules and of ONNX files.

It writes pooling as convolutions and ReLUs, folds affine operations at the end, and names what it cannot take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from certiprune.core.errors import ModelError
from certiprune.net.fold import compose
from certiprune.net.network import Network, Node
from certiprune.net.ops import Add, Affine, Conv, Dense, Op, Pad, Relu, Reshape, Scale, Select, Shape


@dataclass
class Builder:
    """Collects nodes; methods take and return value numbers (0 is the input)."""

    input_shape: Shape
    dtype: torch.dtype = torch.float64
    device: torch.device | None = None  # of the constants that it makes itself
    checked: bool = True  # whether weights are looked through for numbers that are not finite
    nodes: list[Node] = field(default_factory=list)
    shapes: list[Shape] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.shapes.append(tuple(self.input_shape))

    def emit(self, op: Op, *inputs: int, name: str = "", folded: int = 0) -> int:
        """Add an operation.

        Raises:
            ModelError: its weights are not finite (where that is ``checked``), or the shapes do not fit.
        """
        if self.checked and isinstance(op, Affine):
            for key, value in vars(op).items():
                if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                    raise ModelError(f"{name or type(op).__name__}: the {key} holds NaN or infinite numbers")
        try:
            shape = tuple(op.shape(*(self.shapes[i] for i in inputs)))
        except (ValueError, IndexError, ZeroDivisionError) as error:
            raise ModelError(f"{name}: {type(op).__name__} does not fit {self.shapes[inputs[0]]}") from error
        if any(s < 1 for s in shape):
            raise ModelError(f"{name}: {type(op).__name__} leaves nothing of {self.shapes[inputs[0]]}")
        self.nodes.append(Node(op, inputs, name, folded))
        self.shapes.append(shape)
        return len(self.nodes)

    def relu(self, x: int, name: str = "") -> int:
        return self.emit(Relu(), x, name=name)

    def add(self, *xs: int, name: str = "") -> int:
        shapes = {self.shapes[x] for x in xs}
        if len(shapes) > 1:
            raise ModelError(f"{name}: Add of different shapes {sorted(shapes)} is not supported")
        return self.emit(Add(), *xs, name=name)

    def scale(
        self,
        x: int,
        scale: Tensor | float,
        shift: Tensor | float | None = None,
        name: str = "",
        slack: Tensor | None = None,
    ) -> int:
        """``scale * x + shift`` with constants that broadcast to the value's shape (no batch dimension).

        ``slack``: how far rounding may have moved the shift.
        """
        shape = self.shapes[x]
        tensors = []
        for t in (scale, shift, slack):
            if t is not None:
                t = torch.as_tensor(t, dtype=self.dtype, device=self.device)
                while t.dim() > len(shape) and t.shape[0] == 1:
                    t = t[0]
                # (torch's own function for this imports SymPy, which takes half a second.)
                same = zip(reversed(t.shape), reversed(shape), strict=False)
                if t.dim() > len(shape) or not all(s in (1, size) for s, size in same):
                    raise ModelError(
                        f"{name}: a constant of shape {tuple(t.shape)} does not fit a value of {shape}"
                    )
            tensors.append(t)
        return self.emit(Scale(*tensors), x, name=name)  # type: ignore[arg-type]

    def batch_norm(self, x: int, scale: Tensor, mean: Tensor, bias: Tensor | None, name: str = "") -> int:
        """``scale * (x - mean) + bias`` with one number for each channel."""
        shift = -mean * scale
        # The scale is a root and two quotients or products away from what is stored.
        slack = shift.abs() * 2.0**-50 if shift.dtype == torch.float64 else None
        if bias is not None:
            shift = shift + bias
        tail = (-1,) + (1,) * (len(self.shapes[x]) - 1)
        slack = None if slack is None else slack.reshape(tail)
        return self.scale(x, scale.reshape(tail), shift.reshape(tail), name, slack)

    def flatten(self, x: int, name: str = "") -> int:
        return self.reshape(x, (math.prod(self.shapes[x]),), name)

    def reshape(self, x: int, target: Shape, name: str = "") -> int:
        if math.prod(target) != math.prod(self.shapes[x]):
            raise ModelError(f"{name}: cannot reshape {self.shapes[x]} to {target}")
        return x if tuple(target) == self.shapes[x] else self.emit(Reshape(tuple(target)), x, name=name)

    def pool_average(
        self, x: int, kernel: Shape, stride: Shape, padding: Shape, name: str, divisor: bool
    ) -> int:
        """Average pooling as a convolution; ``divisor``: padded zeros count in the divisor."""
        c, h, w = self._image(x, name)
        weight = torch.full((c, 1, *kernel), 1.0 / math.prod(kernel), dtype=self.dtype, device=self.device)
        y = self.emit(Conv(weight, None, stride, padding, c), x, name=name)  # type: ignore[arg-type]
        if padding != (0, 0) and not divisor:
            taps, all_on = (
                torch.ones(1, 1, *size, dtype=self.dtype, device=self.device) for size in (kernel, (h, w))
            )
            count = Conv(taps, None, stride, padding).linear(all_on)[0]  # type: ignore[arg-type]
            y = self.scale(y, math.prod(kernel) / count, name=name)
        return y

    def pool_max(self, x: int, kernel: Shape, stride: Shape, padding: Shape, name: str) -> int:
        """Max pooling rewritten exactly: ``max(a, b) = a + relu(b - a)``, pairwise."""
        c, _, _ = self._image(x, name)
        if padding != (0, 0) and not self._not_negative(x):
            raise ModelError(f"{name}: max pooling with padding is supported only right after a ReLU")
        parts = []
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                weight = torch.zeros(c, 1, *kernel, dtype=self.dtype, device=self.device)
                weight[:, 0, i, j] = 1
                parts.append(self.emit(Conv(weight, None, stride, padding, c), x, name=name))  # type: ignore[arg-type]
        while len(parts) > 1:
            pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
            parts = [pair[0] if len(pair) == 1 else self._larger(pair[0], pair[1], name) for pair in pairs]
        return parts[0]

    def concat(self, xs: list[int], dim: int, name: str = "") -> int:
        size = sum(self.shapes[x][dim] for x in xs)
        at, placed = 0, []
        for x in xs:
            width = self.shapes[x][dim]
            placed.append(self.emit(Select(dim, torch.arange(at, at + width), size), x, name=name))
            at += width
        return self.add(*placed, name=name)

    def pad(self, x: int, amounts: Shape, name: str = "") -> int:
        return x if not any(amounts) else self.emit(Pad(tuple(amounts)), x, name=name)

    def finish(self, output: int, name: str = "output") -> Network:
        """The network whose output is ``output`` (flattened), folded, without what nothing reads."""
        if len(self.shapes[output]) != 1:
            output = self.flatten(output, name)
        network = fold(Network(tuple(self.nodes), tuple(self.input_shape)), output, checked=self.checked)
        if not network.nodes:
            raise ModelError("the model computes nothing from its input")
        return network

    def _image(self, x: int, name: str) -> Shape:
        shape = self.shapes[x]
        if len(shape) != 3:
            raise ModelError(f"{name}: pooling needs an image [c, h, w], not {shape}")
        return shape

    def _not_negative(self, x: int) -> bool:
        return x > 0 and isinstance(self.nodes[x - 1].op, Relu)

    def _larger(self, a: int, b: int, name: str) -> int:
        minus = self.scale(a, -1.0, name=name)
        return self.add(a, self.relu(self.add(b, minus, name=name), name=name), name=name)


def fold(network: Network, output: int, *, checked: bool = True) -> Network:
    """The same function with neighbouring affine operations composed and unread values dropped.

    Raises:
        ModelError: weights are not finite (where that is ``checked``).
    """
    wanted = network.ancestors(output)
    readers = dict.fromkeys(wanted, 0)
    for k in wanted:
        for i in network.node(k).inputs if k else ():
            readers[i] += 1
    builder = Builder(network.input_shape, checked=checked)
    new = {0: 0}
    for k in wanted[1:]:
        node = network.node(k)
        new[k] = _append(
            builder, node, tuple(new[i] for i in node.inputs), alone=readers[node.inputs[0]] == 1
        )
    return Network(tuple(builder.nodes), network.input_shape)


def _append(builder: Builder, node: Node, inputs: tuple[int, ...], *, alone: bool) -> int:
    """Add ``node``, composed with the node before it where only it reads that one."""
    x = inputs[0]
    last = builder.nodes[x - 1] if x and x == len(builder.nodes) else None
    if not (alone and last and isinstance(node.op, Affine) and isinstance(last.op, Affine)):
        return builder.emit(node.op, *inputs, name=node.name, folded=node.folded)
    source = last.inputs[0]
    if isinstance(last.op, Scale) and isinstance(node.op, Reshape):
        # A scale commutes with a reshape; behind it, it can melt into the matrix that follows. The reshape is not
        # composed any further: others may read what it reads.
        shape = builder.shapes[x]
        flat = [
            None if t is None else t.expand(shape).reshape(node.op.target)
            for t in (last.op.scale, last.op.shift, last.op.slack)
        ]
        _drop(builder)
        y = builder.emit(node.op, source, name=node.name)
        return builder.emit(Scale(*flat), y, name=last.name, folded=last.folded)  # type: ignore[arg-type]
    folded = last.folded + node.folded + 1
    one = compose(last.op, node.op, builder.shapes[source]) if folded <= _MOST_FOLDED else None
    if one is None:
        return builder.emit(node.op, *inputs, name=node.name, folded=node.folded)
    _drop(builder)
    # A layer with weights is what people know; what was folded into it is not.
    names = (node.name, last.name) if isinstance(node.op, Conv | Dense) else (last.name, node.name)
    return builder.emit(one, source, name=names[0] or names[1], folded=folded)


# Each composition rounds a weight once more; ``bounds.interval.gamma`` allows for eight roundings besides its sums.
_MOST_FOLDED = 6


def _drop(builder: Builder) -> None:
    builder.nodes.pop()
    builder.shapes.pop()
