"""Gradients with respect to images that are quicker than the library's own, through any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from certiprune.net.few import few, transposed


class QuickGradients(TorchFunctionMode):
    """In this context, convolutions of few channels have a quick gradient at their input, which training never needs.

    An attack needs it in every step, and it can take as long as all other layers together. Values are the library's;
    gradients are equal up to the order of additions, cannot be differentiated again, and do not reach the
    parameters of these convolutions. Weights that are computed, maybe from the image, are left to the library, and so
    is mixed precision.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d:
            call = _call(*args, **(kwargs or {}))
            if call is not None:
                return _Convolution.apply(*call)
        return func(*args, **(kwargs or {}))


def _call(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] | str = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> tuple[Any, ...] | None:
    """What ``_Convolution`` is to be asked in place of ``torch.conv2d`` with these arguments; None where it is not."""
    if not (input.requires_grad and input.dim() == 4 and few(weight, groups)):
        return None
    if isinstance(padding, str) or _pair(dilation) != (1, 1):
        return None
    if torch.is_autocast_enabled(input.device.type):
        return None
    if not (weight.is_leaf and (bias is None or bias.is_leaf)):
        return None
    # Detached: a function written in Python is asked for all gradients, also those that nobody wants.
    return input, weight.detach(), None if bias is None else bias.detach(), _pair(stride), _pair(padding)


def _pair(number: int | Sequence[int]) -> tuple[int, int]:
    if isinstance(number, Sequence):
        return int(number[0]), int(number[-1])
    return int(number), int(number)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        # What torch's own saves, which a model with checkpoints runs in the second pass: it compares the two.
        ctx.save_for_backward(x, weight)
        ctx.geometry = (x.shape[2], x.shape[3]), stride, padding
        return torch.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        _, weight = ctx.saved_tensors
        return transposed(grad, weight, *ctx.geometry), None, None, None, None
