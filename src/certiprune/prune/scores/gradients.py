"""Gradients of a training loss at the weights that a mask keeps, on a copy of the model.

The copy is in the state that the loss sees in training: BatchNorm normalises by the clean batch, also where the model
came in evaluation mode. (By the running statistics a loss would be another function of the weights than the one that is
trained.) Dropout and all else stay in evaluation mode, so that the generator is the only source of randomness.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.data import Batch

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration


def training_copy(model: nn.Module, mask: Mask, *, dtype: torch.dtype | None = None) -> nn.Module:
    """A copy of ``model`` in training, pruned weights zero, with gradients to the parameters of ``mask`` only.

    Args:
        model: is left as it was.
        mask: which parameters have gradients, and what is kept of them.
        dtype: the precision of the copy; by default the model's.

    Raises:
        InputError: the mask does not fit the model.
    """
    copy = deepcopy(model).eval().requires_grad_(False)
    if dtype is not None:
        copy.to(dtype)
    mask.apply_(copy)
    for module in copy.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    for name in mask:
        copy.get_parameter(name).requires_grad_(True)
    return copy


def require_pairs(method: str, batch_size: int) -> None:
    """Raise ``InputError`` where no batch has the two images that BatchNorm needs to normalise by."""
    if batch_size < 2:
        raise InputError(
            f"pruning by {method} takes gradients on batches of at least two images; give a batch_size above 1"
        )


def gradients(
    copy: nn.Module, mask: Mask, data: Calibration, *, batches: int | None, generator: torch.Generator
) -> Iterator[dict[str, Tensor]]:
    """The gradients of the loss of ``data`` on each batch: parameter name -> float64 tensor of its shape.

    They are zero where the mask has pruned and for parameters that the loss does not reach. Each batch's gradients
    are taken when they are asked for, at the weights that ``copy`` has then.

    Args:
        copy: from ``training_copy``.
        mask: as for the copy.
        data: images, their loss and its radius.
        batches: how many batches; None for one pass over the images, which is the most in any case.
        generator: chooses the images, and feeds the loss.

    Raises:
        InputError: there is no batch of at least two images.
        ModelError: the loss needs the model as a network, and it cannot be traced.
    """
    precision = next(copy.parameters()).dtype
    found = False
    for scene in data.scenes(copy, batches=batches, generator=generator):
        found = True
        batch = Batch(scene.batch.images.to(precision), scene.batch.labels)
        yield slopes(data.loss(replace(scene, batch=batch)).total, copy, mask)
    if not found:
        raise InputError(
            f"there is no batch of at least two images to take gradients on: {len(data.split)} images in "
            f"batches of {data.batch_size}"
        )


def slopes(total: Tensor, copy: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The gradients of the scalar ``total``, as ``gradients`` gives them."""
    parameters = [copy.get_parameter(name) for name in mask]
    if not total.requires_grad:
        return {
            name: torch.zeros_like(p, dtype=torch.float64) for name, p in zip(mask, parameters, strict=True)
        }
    found = torch.autograd.grad(total, parameters, allow_unused=True, materialize_grads=True)
    return {
        name: slope.double().masked_fill(~mask[name].to(slope.device), 0.0)
        for name, slope in zip(mask, found, strict=True)
    }


def summed(found: Iterable[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The sums over batches of what ``gradients`` gives."""
    sums: dict[str, Tensor] = {}
    for slope in found:
        sums = {name: sums[name] + tensor if sums else tensor for name, tensor in slope.items()}
    return sums


def weights(copy: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The parameters of ``copy`` that ``mask`` names, in float64 and detached from it."""
    return {name: copy.get_parameter(name).detach().to(torch.float64, copy=True) for name in mask}
