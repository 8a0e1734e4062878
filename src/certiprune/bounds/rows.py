"""Many linear forms at once, each about one box, each over a window or the whole of a value."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from certiprune.bounds.window import Plan
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Conv, Scale


@dataclass(frozen=True)
class Rows:
    """``m`` linear forms ``coeff @ value + const``.

    Attributes:
        plan: the way from the value back to the input.
        owner: [m] int64, the box (and the pre-activation bounds) that each form is about; None: form k, box k.
        coeff: [m, *window or whole value].
        const: [m].
        position: [m, 2] int64, the neuron's place, where the plan uses windows.
    """

    plan: Plan
    owner: Tensor | None
    coeff: Tensor
    const: Tensor
    position: Tensor | None = None

    def __len__(self) -> int:
        return len(self.coeff)

    def __getitem__(self, index: Tensor | slice) -> Rows:
        owner = torch.arange(len(self), device=self.coeff.device) if self.owner is None else self.owner
        position = None if self.position is None else self.position[index]
        return Rows(self.plan, owner[index], self.coeff[index], self.const[index], position)

    def to(self, dtype: torch.dtype) -> Rows:
        return Rows(self.plan, self.owner, self.coeff.to(dtype), self.const.to(dtype), self.position)

    def take(self, t: Tensor, value: int) -> Tensor:
        """What the forms see of ``t`` [n, *shape of value]: their box's item, cut to their window.

        A copy, unless form k is about box k.
        """
        seen = self.share(t, value)
        if self.owner is None or len(seen) > 1:
            return seen
        return seen.repeat(len(self), *[1] * (seen.dim() - 1))

    def share(self, t: Tensor, value: int) -> Tensor:
        """``take`` to read only: one item for all forms where they all see the same."""
        window = self.plan.windows[value]
        if window is None:
            return t if self.owner is None or len(t) == 1 else t[self.owner]
        owner, position, form = self._places
        seen = window.take(t, owner, position)
        return seen if form is None or len(seen) == 1 else seen.index_select(0, form)

    @cached_property
    def _places(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """The different places of the forms' windows: owners and positions, and the place of each form.

        A convolution's channels at one position share a window. Cutting it out once and copying it is several times
        quicker than cutting it out for each of them; ``None`` where that would copy for nothing.
        """
        assert self.owner is not None and self.position is not None
        where = torch.cat([self.owner.unsqueeze(1), self.position], 1)
        places, form = where.unique(dim=0, return_inverse=True)
        if 2 * len(places) > len(where):
            return self.owner, self.position, None
        return places[:, 0], places[:, 1:], form

    def pull(self, network: Network, value: int, c: Tensor) -> list[tuple[int, Tensor]]:
        """Coefficients over the inputs of the affine node that makes ``value``, from ``c`` over ``value``."""
        node = network.node(value)
        window = self.plan.windows[value]
        out = []
        for i in node.inputs:
            target, shape = self.plan.windows[i], network.shapes[i]
            back, seen = c, window
            if window is None:
                if isinstance(node.op, Affine):
                    back = node.op.pull(c, shape)
            elif isinstance(node.op, Conv):
                seen = window.through(node.op)
                back = node.op.spread(c, seen.size, (0, 0))
            elif isinstance(node.op, Scale):
                back = c * self.constant(node.op.scale, value, network)
            if seen is not None:
                if target is None:
                    assert self.position is not None
                    back = seen.spread(back, self.position, shape)
                else:
                    back = target.embed(back, seen)
            out.append((i, back))
        return out

    def push(self, network: Network, value: int, values: dict[int, Tensor]) -> Tensor:
        """The affine node's output, without its bias, seen by the forms, from what they see of its inputs."""
        node = network.node(value)
        window = self.plan.windows[value]
        total: Tensor | None = None
        for i in node.inputs:
            x, source = values[i], self.plan.windows[i]
            if window is not None:
                seen = window.through(node.op) if isinstance(node.op, Conv) else window
                if source is None:
                    assert self.position is not None
                    item = torch.arange(len(x), device=x.device)
                    x = seen.take(x, item, self.position)
                else:
                    x = source.crop(x, seen)
                if isinstance(node.op, Conv):
                    op = node.op
                    x = torch.nn.functional.conv2d(x, op.weight, None, op.stride, 0, 1, op.groups)
                elif isinstance(node.op, Scale):
                    x = x * self.constant(node.op.scale, value, network)
            elif isinstance(node.op, Affine):
                x = node.op.linear(x)
            total = x if total is None else total + x
        assert total is not None
        return total

    def carry(self, value: int, source: int, c: Tensor, network: Network) -> Tensor:
        """Coefficients ``c`` behind the ReLU ``value``, laid out for its input ``source`` (a larger window, maybe)."""
        inner, outer = self.plan.windows[value], self.plan.windows[source]
        if inner is None or inner == outer:
            return c
        if outer is not None:
            return outer.embed(c, inner)
        assert self.position is not None
        return inner.spread(c, self.position, network.shapes[source])

    def see(self, value: int, source: int, x: Tensor) -> Tensor:
        """What the ReLU ``value`` sees of what the forms see of its input ``source``: the reverse of ``carry``."""
        inner, outer = self.plan.windows[value], self.plan.windows[source]
        if inner is None or inner == outer:
            return x
        if outer is not None:
            return outer.crop(x, inner)
        assert self.position is not None
        return inner.take(x, torch.arange(len(x), device=x.device), self.position)

    def whole(self, c: Tensor, value: int, network: Network) -> Tensor:
        """Coefficients ``c`` over what the forms see of ``value``, laid out over all of it."""
        window = self.plan.windows[value]
        if window is None:
            return c
        assert self.position is not None
        return window.spread(c, self.position, network.shapes[value])

    def constant(self, t: Tensor, value: int, network: Network) -> Tensor:
        """What the forms see of a constant that broadcasts to ``value``; outside of the value it is zero."""
        if self.plan.windows[value] is None:
            return t
        shape = network.shapes[value]
        assert self.position is not None
        whole = t.expand(shape).unsqueeze(0)
        return self.plan.windows[value].take(whole, torch.zeros_like(self.position[:, 0]), self.position)  # type: ignore[union-attr]


def gather(form: dict[int, Tensor], parts: Iterable[tuple[int, Tensor]]) -> None:
    """Add coefficients over values to those that ``form`` holds already."""
    for value, c in parts:
        form[value] = form[value] + c if value in form else c


def neuron_rows(plan: Plan, network: Network, owner: Tensor, neuron: Tensor, sign: Tensor) -> Rows:
    """The forms ``sign * value[neuron]``, one for each entry of ``owner``, ``neuron`` (flat index) and ``sign`` [m]."""
    shape = network.shapes[plan.start]
    m = len(owner)
    item = torch.arange(m, device=owner.device)
    const = sign.new_zeros(m)
    if plan.windows[plan.start] is None:
        coeff = sign.new_zeros(m, math.prod(shape))
        coeff[item, neuron] = sign
        return Rows(plan, owner, coeff.reshape(m, *shape), const)
    _, height, width = shape
    channel, place = neuron // (height * width), neuron % (height * width)
    position = torch.stack([place // width, place % width], 1)
    coeff = sign.new_zeros(m, shape[0], 1, 1)
    coeff[item, channel, 0, 0] = sign
    return Rows(plan, owner, coeff, const, position)
