"""Pruning a model in one call."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net.prunable import Layers
from certiprune.prune import scores
from certiprune.prune.rank import Granularity, rank_and_select, remaining
from certiprune.prune.select import Scope

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration


def prune(
    model: nn.Module,
    *,
    method: str = "magnitude",
    amount: float,
    data: Calibration | None = None,
    mask: Mask | None = None,
    seed: int = 0,
    scope: Scope = "global",
    granularity: Granularity = "weights",
    layers: Layers | None = None,
    **options: Any,
) -> tuple[nn.Module, Mask]:
    """A copy of ``model`` without ``amount`` of its remaining weights, or units, and the mask that says which it keeps.

    What is pruned is zero. The copy is an ordinary module without hooks or extra buffers: it can be copied, saved and
    loaded, and keeps its zeros until it is trained without the mask. The given model is not touched.

    Args:
        model: any ``torch.nn.Module``; for units one that ``torch.fx`` can trace.
        method: a name of ``prune.scores.names()``.
        amount: the fraction to remove, at least 0 and below 1, of the weights or units that ``mask`` keeps.
        data: training images and their loss, for the methods that need some.
        mask: what an earlier pruning kept; None for a dense model.
        seed: decides all randomness of the method.
        scope: ``global`` or ``layer``; see ``select``.
        granularity: ``weights``, or ``channels``: whole channels of convolutions and neurons of linear layers. One that
            stays has all of ``model``'s weights, also those that an earlier pruning of weights had taken.
        layers: what is pruned: ``convolutions`` (linear layers in a model that has none), ``linear`` or ``all``. None
            for the layers whose weights ``mask`` names, and for ``convolutions`` where there is no mask.
        options: options of the method.

    Raises:
        InputError: an argument is wrong, or the model has nothing to prune.
        ModelError: the model has weights that are not finite, or its units are wanted and it cannot be traced.
    """
    if not 0.0 <= amount < 1.0:
        raise InputError(f"the amount {amount} must be at least 0 and below 1: it is the fraction to remove")
    scorer = scores.build(method, **options)
    before = deepcopy(model)
    if mask is not None:
        mask.apply_(before)
    left = remaining(before, mask, granularity=granularity, layers=layers).kept
    selection = rank_and_select(
        before,
        mask,
        scorer,
        data,
        keep=left - round(amount * left),
        granularity=granularity,
        layers=layers,
        scope=scope,
        generator=generator(seed, "prune", method),
    )
    pruned = deepcopy(model)
    selection.mask.apply_(pruned)
    return pruned, selection.mask
