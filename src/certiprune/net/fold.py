"""Exact composition of neighbouring affine operations, so that normalisation and batch norm cost nothing.

``compose(f, g, shape)`` is one operation equal to ``g(f(x))`` for x of ``shape``, or None where the two stay
apart.
With weights in float64 the composition changes values by rounding in float64 only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from certiprune.net.ops import Affine, Conv, Dense, Pad, Reshape, Scale, Shape


def compose(first: Affine, second: Affine, shape: Shape) -> Affine | None:
    """One affine operation for ``second(first(x))``; ``shape`` is the shape of x without the batch."""
    match first, second:
        case Scale(), Scale():
            return _scale_scale(first, second)
        case Scale(), Conv():
            return _scale_conv(first, second, shape)
        case Conv(), Scale():
            return _conv_scale(first, second, shape)
        case Scale(), Dense():
            scale = first.scale.expand(shape)
            bias = second.bias
            if first.shift is not None:
                bias = _plus(second.weight @ first.shift.expand(shape), bias)
            return Dense(second.weight * scale, bias)
        case Dense(), Scale():
            out = (first.weight.shape[0],)
            bias = None if first.bias is None else first.bias * second.scale
            shift = None if second.shift is None else second.shift.expand(out)
            return Dense(first.weight * second.scale.expand(out).unsqueeze(1), _plus(bias, shift))
        case Dense(), Dense():
            merged = first.weight.shape[1] * second.weight.shape[0]
            if merged > first.weight.numel() + second.weight.numel():
                return None
            bias = second.bias if first.bias is None else _plus(second.weight @ first.bias, second.bias)
            return Dense(second.weight @ first.weight, bias)
        case Reshape(), Reshape():
            return second
        case Pad(amounts=(left, right, top, bottom)), Conv() if left == right >= 0 and top == bottom >= 0:
            ph, pw = second.padding
            return Conv(second.weight, second.bias, second.stride, (ph + top, pw + left), second.groups)
    return None


def _plus(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _scale_scale(first: Scale, second: Scale) -> Scale:
    shift = None if first.shift is None else first.shift * second.scale
    return Scale(first.scale * second.scale, _plus(shift, second.shift))


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
    bias = second.bias
    if first.shift is not None:
        # The padding is zero after the scaling: near the border the shift counts for fewer taps than inside.
        moved = second.linear(first.shift.expand(shape).unsqueeze(0))[0]
        if second.padding == (0, 0) and _per_channel(first.shift, shape[0]) is not None:
            moved = moved[:, :1, :1]
        bias = _plus(moved, bias)
    return Conv(weight, bias, second.stride, second.padding, second.groups)


def _conv_scale(first: Conv, second: Scale, shape: Shape) -> Conv | None:
    channels = _per_channel(second.scale, first.weight.shape[0])
    if channels is None:
        return None
    bias = None if first.bias is None else first.bias * channels[:, None, None]
    shift = second.shift
    out = first.shape(shape)
    if shift is not None and shift.shape != (out[0], 1, 1):
        shift = shift.expand(out)
    return Conv(
        first.weight * channels[:, None, None, None],
        _plus(bias, shift),
        first.stride,
        first.padding,
        first.groups,
    )
