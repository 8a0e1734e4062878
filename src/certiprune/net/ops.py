"""The operations of a ``Network``: affine maps, their exact transposes, and the ReLU.

Every affine operation ``y = A x + b`` offers
    forward(x)          A x + b
    linear(x)           A x
    pull(c)             A^T c, so that c @ y = pull(c) @ x + c @ b    (autograd's vector-Jacobian product)
    absolute()          the same operation with |A| (at least) and |b|, for interval bounds and rounding allowances
All tensors carry a leading batch dimension.

Folding and compacting add up offsets, in float64, and round them. How far the offset of the exact composition may be
from the one that is stored is the operation's ``slack``; ``absolute`` makes it part of |b|.
"""

# ruff: noqa: ARG002 (every operation offers the same methods; not all need every argument)
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from certiprune.net.few import few, transposed

Shape = tuple[int, ...]


class Op(ABC):
    """One operation of the graph; ``fan_in`` is the longest sum that it takes, for rounding allowances."""

    @abstractmethod
    def shape(self, *inputs: Shape) -> Shape:
        """The output's shape without the batch dimension."""


@dataclass(frozen=True)
class Relu(Op):
    """``max(x, 0)``, the only operation that is not affine."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def forward(self, x: Tensor) -> Tensor:
        # Not clamp, whose gradient takes ten times as long on a CPU.
        return x.relu()


@dataclass(frozen=True)
class Add(Op):
    """The sum of several values of one shape."""

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]


class Affine(Op):
    """``y = A x + b`` with one input.

    Attributes:
        slack: how far b may be from what it stands for, broadcastable to the output's shape; None for not at all.
    """

    slack: Tensor | None = None

    @abstractmethod
    def linear(self, x: Tensor) -> Tensor:
        """``A x`` for x [n, *in]."""

    @abstractmethod
    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        """``A^T c`` for c [m, *out]; ``shape`` is the input's."""

    def offset(self) -> Tensor | None:
        """``b``, broadcastable to the output's shape, or None for zero."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        b = self.offset()
        return self.linear(x) if b is None else self.linear(x) + b

    def absolute(self, dtype: torch.dtype = torch.float64) -> Affine:
        """The operation with ``|A|`` and ``|b|``; entries of A that are not 0 are ``raised``.

        |b| includes the slack, so much enlarged that an allowance for rounding |b| in ``dtype`` covers it.
        """
        return self

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Self:
        return self

    @property
    def fan_in(self) -> int:
        return 1

    def cost(self, inputs: Shape) -> int:
        """Multiply-adds of one application."""
        return 0


# The product of two such numbers does not underflow in float64, not even times a unit of rounding.
_LEAST = 1e-140


def raised(size: Tensor) -> Tensor:
    """``size`` >= 0 with what is above 0 raised to 1e-140, so that (in float64) no product of two sizes vanishes."""
    return size.clamp(min=_LEAST) * (size > 0)


def _size(offset: Tensor | None, slack: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """The |b| of ``Affine.absolute``."""
    size = None if offset is None else offset.abs()
    if slack is None:
        return size
    # No allowance is a smaller part of what it is for than eight units of rounding (``bounds.interval.gamma``).
    enlarged = slack / (4 * torch.finfo(dtype).eps)
    return enlarged if size is None else size + enlarged


def _cast(t: Tensor | None, dtype: torch.dtype, device: torch.device | str) -> Tensor | None:
    return None if t is None else t.to(dtype=dtype, device=device)


@dataclass(frozen=True)
class Conv(Affine):
    """A convolution; ``bias`` is None, [c, 1, 1], or one number per output position [c, h, w]."""

    weight: Tensor
    bias: Tensor | None
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    slack: Tensor | None = None

    def shape(self, *inputs: Shape) -> Shape:
        _, h, w = inputs[0]
        kh, kw = self.weight.shape[2:]
        (sh, sw), (ph, pw) = self.stride, self.padding
        return (self.weight.shape[0], (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1)

    def linear(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, None, self.stride, self.padding, 1, self.groups)

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return self.spread(c, (shape[1], shape[2]), self.padding)

    def spread(self, c: Tensor, size: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        """The transpose of the convolution with another ``padding``, for an input of ``size`` [h, w]."""
        (sh, sw), (kh, kw) = self.stride, self.weight.shape[2:]
        if few(self.weight, self.groups):
            return transposed(c, self.weight, size, self.stride, padding)
        used = ((c.shape[2] - 1) * sh + kh - 2 * padding[0], (c.shape[3] - 1) * sw + kw - 2 * padding[1])
        extra = (size[0] - used[0], size[1] - used[1])
        return F.conv_transpose2d(c, self.weight, None, self.stride, padding, extra, self.groups)

    def offset(self) -> Tensor | None:
        return self.bias

    def absolute(self, dtype: torch.dtype = torch.float64) -> Conv:
        size = _size(self.bias, self.slack, dtype)
        return replace(self, weight=raised(self.weight.abs()), bias=size, slack=None)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Conv:
        weight = self.weight.to(dtype=dtype, device=device)
        bias, slack = (_cast(t, dtype, device) for t in (self.bias, self.slack))
        return replace(self, weight=weight, bias=bias, slack=slack)

    @property
    def fan_in(self) -> int:
        return math.prod(self.weight.shape[1:])

    def cost(self, inputs: Shape) -> int:
        return math.prod(self.shape(inputs)) * self.fan_in


@dataclass(frozen=True)
class Dense(Affine):
    """A matrix on a flat value: ``weight`` [out, in], ``bias`` [out] or None."""

    weight: Tensor
    bias: Tensor | None
    slack: Tensor | None = None

    def shape(self, *inputs: Shape) -> Shape:
        return (self.weight.shape[0],)

    def linear(self, x: Tensor) -> Tensor:
        return x @ self.weight.T

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return c @ self.weight

    def offset(self) -> Tensor | None:
        return self.bias

    def absolute(self, dtype: torch.dtype = torch.float64) -> Dense:
        return Dense(raised(self.weight.abs()), _size(self.bias, self.slack, dtype))

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Dense:
        bias, slack = (_cast(t, dtype, device) for t in (self.bias, self.slack))
        return Dense(self.weight.to(dtype=dtype, device=device), bias, slack)

    @property
    def fan_in(self) -> int:
        return self.weight.shape[1]

    def cost(self, inputs: Shape) -> int:
        return self.weight.numel()


@dataclass(frozen=True)
class Scale(Affine):
    """``scale * x + shift`` elementwise; both broadcast to the value's shape."""

    scale: Tensor
    shift: Tensor | None
    slack: Tensor | None = None

    def shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def linear(self, x: Tensor) -> Tensor:
        return x * self.scale

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return c * self.scale

    def offset(self) -> Tensor | None:
        return self.shift

    def absolute(self, dtype: torch.dtype = torch.float64) -> Scale:
        return Scale(raised(self.scale.abs()), _size(self.shift, self.slack, dtype))

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Scale:
        shift, slack = (_cast(t, dtype, device) for t in (self.shift, self.slack))
        return Scale(self.scale.to(dtype=dtype, device=device), shift, slack)

    def cost(self, inputs: Shape) -> int:
        return math.prod(inputs)


@dataclass(frozen=True)
class Reshape(Affine):
    """The same numbers in the same order in another shape; flattening is the usual case."""

    target: Shape

    def shape(self, *inputs: Shape) -> Shape:
        return self.target

    def linear(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.target)

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return c.reshape(c.shape[0], *shape)


@dataclass(frozen=True)
class Permute(Affine):
    """Dimensions in another order; ``order`` counts without the batch dimension."""

    order: Shape

    def shape(self, *inputs: Shape) -> Shape:
        return tuple(inputs[0][d] for d in self.order)

    def linear(self, x: Tensor) -> Tensor:
        return x.permute(0, *(d + 1 for d in self.order)).contiguous()

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        inverse = sorted(range(len(self.order)), key=lambda d: self.order[d])
        return c.permute(0, *(d + 1 for d in inverse)).contiguous()


@dataclass(frozen=True)
class Pad(Affine):
    """Zeros around the value; ``amounts`` as ``torch.nn.functional.pad`` takes them, last dimension first."""

    amounts: Shape

    def shape(self, *inputs: Shape) -> Shape:
        out = list(inputs[0])
        for d in range(len(self.amounts) // 2):
            out[-1 - d] += self.amounts[2 * d] + self.amounts[2 * d + 1]
        return tuple(out)

    def linear(self, x: Tensor) -> Tensor:
        return F.pad(x, self.amounts)

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return F.pad(c, tuple(-a for a in self.amounts)).contiguous()


@dataclass(frozen=True)
class Select(Affine):
    """Some entries of one dimension (a slice, or one part of a concatenation put in its place).

    ``index`` [k] picks entries of dimension ``dim`` (counted without the batch). With ``size`` set, the
    opposite: the input's entries are put at ``index`` in a zero value whose dimension has that size.
    """

    dim: int
    index: Tensor
    size: int | None = None

    def shape(self, *inputs: Shape) -> Shape:
        out = list(inputs[0])
        out[self.dim] = len(self.index) if self.size is None else self.size
        return tuple(out)

    def _pick(self, x: Tensor) -> Tensor:
        return x.index_select(self.dim + 1, self.index)

    def _place(self, x: Tensor, size: int) -> Tensor:
        out = x.new_zeros(*x.shape[: self.dim + 1], size, *x.shape[self.dim + 2 :])
        return out.index_add(self.dim + 1, self.index, x)

    def linear(self, x: Tensor) -> Tensor:
        return self._pick(x) if self.size is None else self._place(x, self.size)

    def pull(self, c: Tensor, shape: Shape) -> Tensor:
        return self._place(c, shape[self.dim]) if self.size is None else self._pick(c)

    def to(self, dtype: torch.dtype, device: torch.device | str) -> Select:
        return replace(self, index=self.index.to(device))
