"""Axis-aligned boxes of inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Box:
    """``n`` boxes ``{x : lower <= x <= upper}``; both tensors have shape ``[n, *shape]``, in input units."""

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise InputError(
                f"a box needs equal shapes: {tuple(self.lower.shape)} and {tuple(self.upper.shape)}"
            )
        if not bool((self.lower <= self.upper).all()):
            raise InputError("a box has a lower end above its upper end, or is not a number")

    @staticmethod
    def ball(
        centre: Tensor, radius: float | Tensor, *, domain: tuple[float, float] | None = (0.0, 1.0)
    ) -> Box:
        """The L-infinity balls around ``centre`` [n, *shape], clipped to ``domain``.

        ``radius`` is one number or one per ball, in input units. The ends are rounded outward by one unit in the
        last place where the subtraction is inexact, so that the ball in exact arithmetic is inside the box.

        Raises:
            InputError: a centre is outside of the domain, a radius is negative, a number is NaN, or the numbers of
                centres and radii differ.
        """
        r = torch.as_tensor(radius, dtype=torch.float64, device=centre.device)
        if r.numel() not in (1, len(centre)):
            raise InputError(f"{r.numel()} radii do not fit {len(centre)} inputs; give one, or one for each")
        if domain is not None and not bool(((centre >= domain[0]) & (centre <= domain[1])).all()):
            raise InputError(f"an input lies outside of [{domain[0]:g}, {domain[1]:g}], or is not a number")
        if not bool((r >= 0).all()):
            raise InputError("a radius is negative, or is not a number")
        r = r.reshape(-1, *([1] * (centre.dim() - 1)))
        low, high = _difference(centre.double(), r), -_difference(-centre.double(), r)
        if domain is not None:
            low, high = low.clamp(*domain), high.clamp(*domain)
        return Box(round_down(low, centre.dtype), round_up(high, centre.dtype))

    @property
    def centre(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def half_width(self) -> Tensor:
        return (self.upper - self.lower) / 2

    def __len__(self) -> int:
        return self.lower.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Box:
        return Box(self.lower[index], self.upper[index])

    def to(self, *args: object, **kwargs: object) -> Box:
        """The same boxes on another device or in another precision, rounded outward where precision is lost."""
        lower, upper = self.lower.to(*args, **kwargs), self.upper.to(*args, **kwargs)  # type: ignore[call-overload]
        if lower.dtype != self.lower.dtype:
            lower = round_down(self.lower.to(lower.device), lower.dtype)
            upper = round_up(self.upper.to(upper.device), upper.dtype)
        return Box(lower, upper)

    def clamp(self, points: Tensor) -> Tensor:
        """``points`` [n, *shape] moved to the nearest point of their boxes."""
        return torch.minimum(torch.maximum(points, self.lower), self.upper)

    def contains(self, points: Tensor) -> Tensor:
        """Which of ``points`` [n, *shape] lie in their boxes: a boolean tensor [n]."""
        inside = (points >= self.lower) & (points <= self.upper)
        return inside.flatten(1).all(1)


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """``a - b`` in float64, never above the exact difference (the error term is Knuth's two-sum)."""
    s = a - b
    t = s - a
    error = (a - (s - t)) - (b + t)
    return torch.where(error < 0, torch.nextafter(s, torch.full_like(s, -torch.inf)), s)


def round_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """``values`` in ``dtype``, never above the given ones."""
    cast = values.to(dtype)
    below = torch.nextafter(cast, torch.full_like(cast, -torch.inf))
    return torch.where(cast.to(values.dtype) > values, below, cast)


def round_up(values: Tensor, dtype: torch.dtype) -> Tensor:
    """``values`` in ``dtype``, never below the given ones."""
    return -round_down(-values, dtype)
