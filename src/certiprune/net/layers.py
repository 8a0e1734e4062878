"""Layers for what a network can do and torch has no module for; ``lower`` reads each as one operation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from certiprune.net import ops

Constant = Callable[[Tensor], Tensor]
"""How a reader takes a layer's tensors: as they are, or copied in another precision (which holds an index exactly)."""


class OperationLayer(nn.Module, ABC):
    """A layer that is one affine operation; shapes and dimensions count without the batch."""

    @abstractmethod
    def operation(self, constant: Constant) -> ops.Affine:
        """The operation, with the layer's tensors read by ``constant``."""


class Elementwise(OperationLayer):
    """``scale * x + shift`` for constants that broadcast to x's shape; None for nothing to do."""

    scale: nn.Parameter | None
    shift: nn.Parameter | None

    def __init__(self, scale: Tensor | None, shift: Tensor | None) -> None:
        super().__init__()
        for name, t in (("scale", scale), ("shift", shift)):
            self.register_parameter(name, None if t is None else nn.Parameter(t))

    def forward(self, x: Tensor) -> Tensor:
        scaled = x if self.scale is None else x * self.scale
        return scaled if self.shift is None else scaled + self.shift

    def operation(self, constant: Constant) -> ops.Scale:
        shift = None if self.shift is None else constant(self.shift)
        if self.scale is not None:
            return ops.Scale(constant(self.scale), shift)
        return ops.Scale(torch.ones(()) if shift is None else shift.new_ones(()), shift)

    def extra_repr(self) -> str:
        shapes = ((name, getattr(self, name)) for name in ("scale", "shift"))
        return ", ".join(f"{name}={tuple(t.shape)}" for name, t in shapes if t is not None)


class PositionBias(OperationLayer):
    """``x + shift`` for images x [n, c, h, w] and a shift [c, h, w] in which few rows and few columns differ.

    Such is the bias of a padded convolution into which a constant was folded: near the border the constant counts for
    fewer taps, and inside it is the same everywhere. ``numbers`` [c, r, k] holds each different row and column once;
    ``rows`` [h] and ``columns`` [w] say which one stands where.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, shift: Tensor) -> None:
        super().__init__()
        numbers, rows = shift.unique(dim=1, return_inverse=True)
        numbers, columns = numbers.unique(dim=2, return_inverse=True)
        self.numbers = nn.Parameter(numbers)
        self.register_buffer("rows", rows)
        self.register_buffer("columns", columns)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.numbers[:, self.rows][:, :, self.columns]

    def operation(self, constant: Constant) -> ops.Scale:
        numbers = constant(self.numbers)
        rows, columns = (constant(t).long() for t in (self.rows, self.columns))
        return ops.Scale(numbers.new_ones(()), numbers[:, rows][:, :, columns])

    def extra_repr(self) -> str:
        return f"{tuple(self.numbers.shape)} for {(len(self.numbers), len(self.rows), len(self.columns))}"


class Permute(OperationLayer):
    """Dimensions in another order."""

    def __init__(self, order: Sequence[int]) -> None:
        super().__init__()
        self.order = tuple(order)

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, *(d + 1 for d in self.order)).contiguous()

    def operation(self, constant: Constant) -> ops.Permute:  # noqa: ARG002
        return ops.Permute(self.order)

    def extra_repr(self) -> str:
        return str(self.order)


class Pick(OperationLayer):
    """The entries ``index`` [k] of dimension ``dim``."""

    index: Tensor

    def __init__(self, dim: int, index: Tensor) -> None:
        super().__init__()
        self.dim = dim
        self.register_buffer("index", index)

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(self.dim + 1, self.index)

    def operation(self, constant: Constant) -> ops.Select:
        return ops.Select(self.dim, constant(self.index).long())

    def extra_repr(self) -> str:
        return f"dim={self.dim}, entries={len(self.index)}"


class Place(Pick):
    """The opposite: x's entries added at ``index`` [k] to a zero value of ``size`` entries in dimension ``dim``."""

    def __init__(self, dim: int, index: Tensor, size: int) -> None:
        super().__init__(dim, index)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        before, behind = x.shape[: self.dim + 1], x.shape[self.dim + 2 :]
        return x.new_zeros(*before, self.size, *behind).index_add(self.dim + 1, self.index, x)

    def operation(self, constant: Constant) -> ops.Select:
        return ops.Select(self.dim, constant(self.index).long(), self.size)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"
