"""Pruning a model in one call."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net.prunable import prunable
from certiprune.prune import scores
from certiprune.prune.select import Scope, select

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
    **options: Any,
) -> tuple[nn.Module, Mask]:
    """A copy of ``model`` with ``amount`` of its remaining weights set to zero, and the mask that says which.

    The copy is an ordinary module without hooks or extra buffers: it can be copied, saved and loaded, and
    keeps its zeros until it is trained without the mask. The given model is not touched.

    Args:
        model: any ``torch.nn.Module``; its convolution weights are pruned, or its linear ones if it has none.
        method: a name of ``prune.scores.names()``.
        amount: the fraction to remove, at least 0 and below 1, of what ``mask`` keeps.
        data: training images and their loss, for the methods that need some.
        mask: what an earlier pruning kept; None for a dense model. It also says which parameters
            may be pruned.
        seed: decides all randomness of the method.
        scope: ``global`` or ``layer``; see ``select``.
        options: options of the method.

    Raises:
        InputError: an argument is wrong, or the model has nothing to prune.
        ModelError: the model has weights that are not finite.
    """
    if not 0.0 <= amount < 1.0:
        raise InputError(f"the amount {amount} must be at least 0 and below 1: it is the fraction to remove")
    scorer = scores.build(method, **options)
    pruned = deepcopy(model)
    before = Mask.ones(pruned, prunable(pruned)) if mask is None else mask
    before.apply_(pruned)
    if before.kept == 0:
        raise InputError("the model has no weights left to prune")
    left = before.kept - round(amount * before.kept)
    source = generator(seed, "prune", method)
    ranking = scorer.score(pruned, before, data, keep=left, generator=source)
    after = select(ranking, before, keep=left, scope=scope)
    after.apply_(pruned)
    return pruned, after
