"""Composition of neighbouring affine operations, so that normalisation and batch norm cost nothing.

``compose(f, g, shape)`` is one operation equal to ``g(f(x))`` for x of ``shape``, or None where the two stay
apart.
With weights in float64 the composition changes values by rounding in float64 only, and says by how much: its weights
are products of a few numbers, which every rounding allowance covers, and its offset is a sum with a ``slack``.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from certiprune.net.ops import Affine, Conv, Dense, Pad, Reshape, Scale, Shape

# Half the distance from 1 to the next float64 number.
_UNIT = 2.0**-53


def compose(first: Affine, second: Affine, shape: Shape) -> Affine | None:
    """One affine operation for ``second(first(x))``; ``shape`` is the shape of x without the batch."""
    match first, second:
        case Scale(), Scale():
            return Scale(first.scale * second.scale, *through(second, first, shape))
        case Scale(), Conv():
            return _scale_conv(first, second, shape)
        case Conv(), Scale():
            return _conv_scale(first, second, shape)
        case Scale(), Dense():
            bias, slack = through(second, first, shape)
            return Dense(second.weight * first.scale.expand(shape), bias, slack)
        case Dense(), Scale():
            out = (first.weight.shape[0],)
            bias, slack = (None if t is None else t.expand(out) for t in through(second, first, out))
            return Dense(first.weight * second.scale.expand(out).unsqueeze(1), bias, slack)
        case Dense(), Dense():
            merged = first.weight.shape[1] * second.weight.shape[0]
            # A product of matrices is made of sums, in which weights may cancel: what rounding did to them would be out
            # of proportion to what is left. Where the second one only picks and scales, there is nothing to add up.
            picks = bool(((second.weight != 0).sum(1) <= 1).all())
            if not picks or merged > first.weight.numel() + second.weight.numel():
                return None
            bias, slack = through(second, first, (first.weight.shape[0],))
            return Dense(second.weight @ first.weight, bias, slack)
        case Reshape(), Reshape():
            return second
        case Pad(amounts=(left, right, top, bottom)), Conv() if left == right >= 0 and top == bottom >= 0:
            ph, pw = second.padding
            return replace(second, padding=(ph + top, pw + left))
    return None


def through(second: Affine, first: Affine, shape: Shape) -> tuple[Tensor | None, Tensor | None]:
    """The offset of ``second(first(x))`` and its slack, where ``first(x)`` has ``shape``."""
    offset, slack = first.offset(), first.slack
    if offset is not None:
        return _moved(second, offset, torch.zeros_like(offset) if slack is None else slack, shape)
    if slack is None:
        return second.offset(), second.slack
    # A merged matrix (``prune.certified``) can have a slack and no offset; no zeros are written down for it.
    return second.offset(), _moved(second, torch.zeros_like(slack), slack, shape)[1]


def _moved(second: Affine, offset: Tensor, slack: Tensor, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """``moved`` for constants that broadcast to ``shape``."""
    if isinstance(second, Scale):
        return moved(second, offset, slack)
    new, far = moved(second, *(t.expand(shape).unsqueeze(0) for t in (offset, slack)))
    return new[0], None if far is None else far[0]


def moved(op: Affine, x: Tensor, slack: Tensor) -> tuple[Tensor, Tensor | None]:
    """``op(x)``, and how far rounding (of x by up to ``slack``, too) may have moved it; nothing is said in float32."""
    value = op.forward(x)
    if value.dtype != torch.float64:
        return value, None
    size = op.absolute()
    # What the last addition rounds is in proportion to the result, and so covered like the weights.
    total = size.linear(x.abs()) * ((op.fan_in + 4) * _UNIT) + size.linear(slack)
    return value, total if op.slack is None else total + op.slack


def _per_channel(t: Tensor, channels: int) -> Tensor | None:
    """``t`` as one number a channel [c], or None if it varies inside a channel."""
    if t.numel() == 1:
        return t.reshape(1).expand(channels)
    if t.dim() == 3 and t.shape[1:] == (1, 1):
        return t.reshape(-1).expand(channels)
    return None


def _scale_conv(first: Scale, second: Conv, shape: Shape) -> Conv | None:
    channels = _per_channel(first.scale, shape[0])
    if channels is None:
        return None
    out_channels, in_group = second.weight.shape[:2]
    group = torch.arange(out_channels, device=channels.device) // (out_channels // second.groups)
    per_filter = channels.reshape(second.groups, in_group)[group]
    weight = second.weight * per_filter[:, :, None, None]
    bias, slack = through(second, first, shape)
    # The padding is zero after the scaling: near the border the shift counts for fewer taps than inside.
    even = first.shift is not None and _per_channel(first.shift, shape[0]) is not None
    if even and second.padding == (0, 0):
        bias, slack = (None if t is None else t[:, :1, :1] for t in (bias, slack))
    return replace(second, weight=weight, bias=bias, slack=slack)


def _conv_scale(first: Conv, second: Scale, shape: Shape) -> Conv | None:
    channels = _per_channel(second.scale, first.weight.shape[0])
    if channels is None:
        return None
    out = first.shape(shape)
    parts = through(second, first, out)
    bias, slack = (t if t is None or t.shape == (out[0], 1, 1) else t.expand(out) for t in parts)
    return replace(first, weight=first.weight * channels[:, None, None, None], bias=bias, slack=slack)
