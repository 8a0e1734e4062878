"""One round of pruning: rank what is left, weights or units, and keep the best of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import nn

from certiprune.core.errors import InputError, hint
from certiprune.core.mask import Mask
from certiprune.net.prunable import Layers, prunable
from certiprune.prune.coupling import groups
from certiprune.prune.groups import Groups
from certiprune.prune.scores.base import AbstractScorer
from certiprune.prune.select import Scope, floored, select

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration

Granularity = Literal["weights", "channels"]
"""What is removed one by one: weights, or units (channels of convolutions and neurons of linear layers)."""


@dataclass(frozen=True)
class Selection:
    """What a round keeps.

    Attributes:
        mask: which parameters' entries.
        kept: how many weights, or units.
        total: how many there were before any pruning.
        floored: the layers (groups of units) that would be gone but for the floor of ``select``.
    """

    mask: Mask
    kept: int
    total: int
    floored: tuple[str, ...]


def remaining(
    model: nn.Module,
    mask: Mask | None,
    *,
    granularity: Granularity = "weights",
    layers: Layers | None = None,
) -> Mask:
    """What there is for pruning to take, and what of it is left: parameter -> weights, or group -> units [size].

    Args:
        model: the network.
        mask: which parameters' entries earlier rounds kept; None for a dense model.
        granularity: see ``Granularity``.
        layers: see ``net.prunable`` and ``coupling.groups``. None for the layers whose weights ``mask`` names, and for
            ``convolutions`` where there is no mask.

    Raises:
        InputError: the granularity or the layers are unknown, or the mask does not fit.
        ModelError: units are wanted, and the model cannot be traced.
    """
    if granularity not in get_args(Granularity):
        raise InputError(
            f"there is no granularity {granularity!r}; {hint(granularity, get_args(Granularity))}"
        )
    if granularity == "channels":
        found = _units(model, mask, layers)
        return found.ones() if mask is None else found.units(mask)
    if layers is None and mask is not None:
        # A mask names biases and BatchNorm where units were pruned; by themselves they are not.
        return Mask({name: keep for name, keep in mask.items() if keep.dim() > 1})
    dense = Mask.ones(model, prunable(model, layers or "convolutions"))
    return dense if mask is None else Mask({name: mask.get(name, keep) for name, keep in dense.items()})


def _units(model: nn.Module, mask: Mask | None, layers: Layers | None) -> Groups:
    if layers is not None or mask is None:
        return groups(model, layers=layers or "convolutions")
    found = groups(model, layers="all")
    return Groups({name: group for name, group in found.items() if set(group.weights) <= set(mask)})


def rank_and_select(
    model: nn.Module,
    mask: Mask | None,
    method: AbstractScorer,
    data: Calibration | None,
    *,
    keep: int,
    granularity: Granularity = "weights",
    layers: Layers | None = None,
    scope: Scope = "global",
    generator: torch.Generator,
) -> Selection:
    """The best ``keep`` weights, or units, of what is left; the model is left as it was.

    Guaranteed: exactly ``keep`` are kept, and what ``mask`` has pruned stays pruned. For units that means that no unit
    comes back; a unit that stays has all of its weights, also those that an earlier pruning of weights had taken.

    Args:
        model: the network, its pruned weights zero.
        mask: as for ``remaining``.
        method: what ranks.
        data: images and the loss they are trained with, for the methods that need some.
        keep: how many weights, or units, are kept.
        granularity: as for ``remaining``.
        layers: as for ``remaining``.
        scope: as for ``select``.
        generator: the only source of randomness.

    Raises:
        InputError: nothing is left, ``keep`` is not between 1 and what is, or an argument is unknown or does not fit.
        ModelError: a score is not finite, or units are wanted and the model cannot be traced.
    """
    left = remaining(model, mask, granularity=granularity, layers=layers)
    if left.kept == 0:
        what = "weights" if granularity == "weights" else "channels or neurons that can be removed"
        raise InputError(f"the model has no {what} left to prune")
    if granularity == "weights":
        ranking = method.score(model, left, data, keep=keep, generator=generator)
    else:
        found = _units(model, mask, layers)
        ranking = method.score_units(model, found, left, data, keep=keep, generator=generator)
    chosen = select(ranking, left, keep=keep, scope=scope)
    parameters = chosen if granularity == "weights" else found.expand(model, chosen)
    return Selection(
        Mask({**(mask or {}), **parameters}),
        chosen.kept,
        chosen.total,
        floored(ranking, left, keep=keep, scope=scope),
    )
