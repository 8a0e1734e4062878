"""Pruning a model in one call."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from certiprune.attack import evaluating
from certiprune.core.epsilon import parse_epsilon
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.net.prunable import Layers
from certiprune.prune import scores
from certiprune.prune.calibration import Calibration
from certiprune.prune.hold import hold, mask_of
from certiprune.prune.rank import Granularity, rank_and_select, remaining
from certiprune.prune.scores.base import AbstractScorer
from certiprune.prune.select import Scope
from certiprune.train import losses

Array = Tensor | np.ndarray | Sequence[Any]


def prune(
    model: nn.Module,
    method: str | AbstractScorer = "magnitude",
    amount: float = 0.5,
    data: tuple[Array, Array] | Split | Calibration | None = None,
    *,
    loss: str | losses.AbstractLoss = "natural",
    eps: float | str = "2/255",
    batch_size: int = 128,
    mask: Mask | None = None,
    seed: int = 0,
    scope: Scope = "global",
    granularity: Granularity | None = None,
    layers: Layers | None = None,
    **options: Any,
) -> nn.Module:
    """A copy of ``model`` in which ``amount`` of the weights, or units, that are left is zero and stays zero.

    The copy is a module of the same kind with the same state dict's names. Whoever trains it, what is pruned stays zero
    (see ``prune.hold``), in copies and pickles of it, too; ``mask_of`` says what is kept. Pruning it again takes
    ``amount`` of what is left then. The given model is not touched.

    Args:
        model: any ``torch.nn.Module``; for units, and for losses about bounds, one that ``torch.fx`` can trace.
        method: a name of ``prune.scores.names()``, or a scorer.
        amount: the fraction to remove, at least 0 and below 1.
        data: training images [n, ...] and labels [n] (both as tensors or arrays), for the methods that need some. For
            losses other than the natural one, and for bounds, images must lie in [0, 1]: normalisation belongs to the
            model.
        loss: what gradients are of: a name of ``train.losses.names()``, or a loss.
        eps: the L-infinity radius of the loss and of bounds, in input units: a number, or a fraction as text.
        batch_size: images in a batch of gradients.
        mask: what an earlier pruning kept; by default what ``model`` holds, and everything where it holds nothing.
        seed: decides all randomness.
        scope: ``global``, or ``layer``: rank within each layer; see ``select``.
        granularity: ``weights``, or ``channels``: whole channels of convolutions and neurons of linear layers. One that
            stays has all of ``model``'s weights, also those that an earlier pruning of weights had taken. By default
            channels for the methods that rank nothing else, weights for the others.
        layers: what is pruned: ``convolutions`` (linear layers in a model that has none), ``linear`` or ``all``. None
            for the layers whose weights ``mask`` names, and for ``convolutions`` where there is no mask.
        options: options of the method.

    Raises:
        InputError: an argument is wrong, the method needs data and there is none, or the model has nothing to prune.
        ModelError: the model has weights that are not finite, or it is to be traced and cannot be.
    """
    if not (isinstance(amount, int | float) and 0.0 <= amount < 1.0):
        raise InputError(
            f"the amount {amount!r} must be at least 0 and below 1: it is the fraction to remove"
        )
    if not isinstance(model, nn.Module):
        raise InputError(f"{type(model).__name__} is no torch.nn.Module, and only modules can be pruned")
    if not (mask is None or isinstance(mask, Mask)):
        raise InputError(f"the mask must be a certiprune.Mask, not {type(mask).__name__}")
    scorer = _scorer(method, options)
    calibration = _calibration(model, scorer, data, loss, eps, batch_size)
    mask = mask_of(model) if mask is None else mask
    before = _copy(model)
    if mask is not None:
        mask.apply_(before)
    if granularity is None:
        granularity = "channels" if scorer.of_units else "weights"
    left = remaining(before, mask, granularity=granularity, layers=layers).kept
    keep = left - round(amount * left)
    if left and not keep:
        raise InputError(f"the amount {amount} leaves none of {left} {granularity}; choose a smaller one")
    selection = rank_and_select(
        before,
        mask,
        scorer,
        calibration,
        keep=keep,
        granularity=granularity,
        layers=layers,
        scope=scope,
        generator=generator(seed, "prune", scorer.name),
    )
    # From the model itself: a channel that stays has the weights that the mask before had hidden.
    pruned = deepcopy(model)
    hold(pruned, selection.mask)
    return pruned


def _copy(model: nn.Module) -> nn.Module:
    try:
        return deepcopy(model)
    except RuntimeError as error:
        # Such a hook leaves a tensor that it has worked out in the parameter's place.
        raise InputError(
            "the model cannot be copied: it has weights that are worked out from others; make those of "
            f"torch.nn.utils.prune plain by prune.remove, those of weight_norm by remove_weight_norm ({error})"
        ) from error


def _scorer(method: str | AbstractScorer, options: dict[str, Any]) -> AbstractScorer:
    if isinstance(method, str):
        return scores.build(method, **options)
    if not isinstance(method, AbstractScorer):
        raise InputError(f"the method must be a name or a scorer, not {method!r}")
    if options:
        raise InputError(f"the scorer {method.name} has its options already: leave out {', '.join(options)}")
    return method


def _calibration(
    model: nn.Module,
    scorer: AbstractScorer,
    data: tuple[Array, Array] | Split | Calibration | None,
    loss: str | losses.AbstractLoss,
    eps: float | str,
    batch_size: int,
) -> Calibration | None:
    """What the caller gave, checked against the model, on its device."""
    if data is None or isinstance(data, Calibration):
        return data
    chosen = losses.build(loss) if isinstance(loss, str) else loss
    if not isinstance(chosen, losses.AbstractLoss):
        raise InputError(f"the loss must be a name or a loss, not {loss!r}")
    split = data if isinstance(data, Split) else _split(data)
    _check(model, split, bounded=chosen.name != "natural" or (scorer.of_units and scorer.needs_data))
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    return Calibration(split.to(where), chosen, parse_epsilon(eps), batch_size)


def _split(data: tuple[Array, Array]) -> Split:
    if not (isinstance(data, tuple | list) and len(data) == 2):
        raise InputError("data must be a pair (images, labels)")
    images, labels = (part.detach() if isinstance(part, Tensor) else _tensor(part) for part in data)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise InputError(f"labels must be whole numbers, not {labels.dtype}")
    return Split(images.float(), labels.long())


def _tensor(values: Array) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise InputError("data must be a pair of arrays of numbers (images, labels)") from error


def _check(model: nn.Module, split: Split, *, bounded: bool) -> None:
    if len(split) == 0:
        raise InputError("data holds no image")
    if bounded and not bool(((split.images >= 0) & (split.images <= 1)).all()):
        raise InputError(
            "images must lie in [0, 1]: give them before normalisation, which belongs to the model"
        )
    parameter = next((p for p in model.parameters()), torch.empty(0))
    one = split.images[:1].to(parameter.device, parameter.dtype)
    shape = tuple(split.shape)
    try:
        with torch.no_grad(), evaluating(model):
            outputs = model(one)
    except Exception as error:  # whatever the user's forward raises
        why = str(error).split("\n")[0]
        raise InputError(f"the model cannot be run on images of shape {shape}: {why}") from error
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != 1:
        what = f"a tensor {list(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise InputError(
            f"the model must make one score for each class of an image, [1, classes], not {what}"
        )
    classes = outputs.shape[1]
    low, high = int(split.labels.min()), int(split.labels.max())
    if low < 0 or high >= classes:
        raise InputError(f"labels lie between {low} and {high}, and the model has {classes} classes")
