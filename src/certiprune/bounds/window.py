"""Which part of each value a neuron's linear form can reach, so that bounding it costs what it sees.

A neuron of a convolution at position p sees, at every earlier image-shaped value, only the window
    rows  stride * p + offset  ...  stride * p + offset + size - 1
and coefficients outside are zero. Through ``y = conv(x; k, s, pad)`` a window becomes
    stride' = stride * s,   offset' = offset * s - pad,   size' = (size - 1) * s + k.
A window may stick out of the value; what sticks out multiplies padding and counts as zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from certiprune.net.network import Network
from certiprune.net.ops import Add, Conv, Relu, Scale, Shape

# Beyond this share of the whole value a window saves nothing.
_WHOLE = 0.6
# So many windows are cut out one by one.
_SLICES = 32

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """The place of a window as a function of the neuron's position: rows, then columns."""

    stride: Pair
    offset: Pair
    size: Pair

    def through(self, op: Conv) -> Window:
        """The window at the input of a convolution whose output is seen through this one."""
        (s, t), (p, q) = op.stride, op.padding
        kh, kw = op.weight.shape[2:]
        return Window(
            (self.stride[0] * s, self.stride[1] * t),
            (self.offset[0] * s - p, self.offset[1] * t - q),
            ((self.size[0] - 1) * s + kh, (self.size[1] - 1) * t + kw),
        )

    def union(self, other: Window) -> Window | None:
        """The smallest window that holds both, or None if they move differently."""
        if self.stride != other.stride:
            return None
        low = [min(a, b) for a, b in zip(self.offset, other.offset, strict=True)]
        ends = [
            max(a + h, b + k)
            for a, h, b, k in zip(self.offset, self.size, other.offset, other.size, strict=True)
        ]
        return Window(self.stride, (low[0], low[1]), (ends[0] - low[0], ends[1] - low[1]))

    def embed(self, c: Tensor, inner: Window) -> Tensor:
        """Coefficients over ``inner`` written over this larger window, zero around them."""
        if inner == self:
            return c
        top, left = (inner.offset[d] - self.offset[d] for d in (0, 1))
        return F.pad(c, (left, self.size[1] - inner.size[1] - left, top, self.size[0] - inner.size[0] - top))

    def crop(self, x: Tensor, inner: Window) -> Tensor:
        """The part over ``inner`` of values over this larger window."""
        top, left = (inner.offset[d] - self.offset[d] for d in (0, 1))
        return x[:, :, top : top + inner.size[0], left : left + inner.size[1]]

    def corner(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Top rows and left columns [m] for neurons at ``position`` [m, 2]."""
        top = position[:, 0] * self.stride[0] + self.offset[0]
        return top, position[:, 1] * self.stride[1] + self.offset[1]

    def take(self, t: Tensor, owner: Tensor, position: Tensor) -> Tensor:
        """The windows [m, c, h, w] of ``t`` [n, c, H, W] at the owners' items; zero outside of ``t``."""
        top, left = self.corner(position)
        height, width = t.shape[-2:]
        if len(owner) <= _SLICES:
            return self._slices(t, owner.tolist(), top.tolist(), left.tolist())
        up, before = max(0, -int(top.min())), max(0, -int(left.min()))
        down = max(0, int(top.max()) + self.size[0] - height)
        after = max(0, int(left.max()) + self.size[1] - width)
        view = F.pad(t, (before, after, up, down)).unfold(2, self.size[0], 1).unfold(3, self.size[1], 1)
        return view[owner, :, top + up, left + before]

    def _slices(self, t: Tensor, owner: list[int], top: list[int], left: list[int]) -> Tensor:
        """``take`` where there are few windows: a slice each is quicker than one index for all of them."""
        (h, w), (height, width) = self.size, t.shape[-2:]
        up, before = max(0, -min(top)), max(0, -min(left))
        down, after = max(0, max(top) + h - height), max(0, max(left) + w - width)
        whole = F.pad(t, (before, after, up, down)) if up or before or down or after else t
        corners = zip(owner, top, left, strict=True)
        return torch.stack(
            [whole[k, :, y + up : y + up + h, x + before : x + before + w] for k, y, x in corners]
        )

    def spread(self, c: Tensor, position: Tensor, shape: Shape) -> Tensor:
        """Windows ``c`` [m, c, h, w] put at their places in zero values [m, *shape]; what sticks out is dropped."""
        top, left = self.corner(position)
        height, width = shape[-2:]
        up, before = max(0, -int(top.min())), max(0, -int(left.min()))
        down = max(0, int(top.max()) + self.size[0] - height)
        after = max(0, int(left.max()) + self.size[1] - width)
        whole = c.new_zeros(len(c), shape[0], height + up + down, width + before + after)
        view = whole.unfold(2, self.size[0], 1).unfold(3, self.size[1], 1)
        item = top.new_tensor(range(len(c)))
        view[item, :, top + up, left + before] = c
        return whole[:, :, up : up + height, before : before + width]


@dataclass(frozen=True)
class Plan:
    """The way back from one value to the input.

    Attributes:
        start: the value that the linear forms are over.
        order: ``start`` and everything that it depends on, latest first.
        windows: each of these values' window, or None where forms cover the whole value.
    """

    start: int
    order: tuple[int, ...]
    windows: dict[int, Window | None]

    def additions(self, network: Network) -> int:
        """How often a walk adds to one number: every value adds once for each of its inputs, or to the constant."""
        return 1 + sum(len(network.node(v).inputs) for v in self.order if v)

    def numel(self, network: Network) -> int:
        """Numbers that one form takes over all values together."""
        total = 0
        for v in self.order:
            window, shape = self.windows[v], network.shapes[v]
            total += shape[0] * math.prod(window.size) if window else math.prod(shape)
        return total


def plan(network: Network, start: int, *, windowed: bool = False) -> Plan:
    """The plan for forms over ``start``; with ``windowed`` each form is over one neuron and uses windows."""
    order = network.ancestors(start)[::-1]
    first = Window((1, 1), (0, 0), (1, 1)) if windowed and len(network.shapes[start]) == 3 else None
    windows: dict[int, Window | None] = {start: first}
    for v in order:
        window = _worth(windows[v], network.shapes[v])
        if v == 0:
            windows[v] = window
            break
        node = network.node(v)
        if not isinstance(node.op, Conv | Relu | Scale | Add):
            window = None
        windows[v] = window
        seen = window.through(node.op) if window and isinstance(node.op, Conv) else window
        for i in node.inputs:
            if seen and isinstance(node.op, Conv) and i and not isinstance(network.node(i).op, Relu):
                # Only a ReLU's slopes (and the input's radius) wipe out what sticks out of the value.
                seen = None
            if i in windows:
                known = windows[i]
                windows[i] = known.union(seen) if known and seen else None
            else:
                windows[i] = seen
    return Plan(start, order, windows)


def _worth(window: Window | None, shape: Shape) -> Window | None:
    if window is None or math.prod(window.size) > _WHOLE * math.prod(shape[1:]):
        return None
    return window
