"""Which weights stay: by rank, with an exact count.

    order the kept weights by (best of its layer first, score descending, position ascending);
    keep the first ``keep`` of them

Position is the mask's order of parameters, then row-major order within a parameter. There is no threshold, so
ties cannot change the count, and only the order of the scores matters. A layer is a named parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import Scores

Scope = Literal["global", "layer"]


def select(scores: Scores, mask: Mask, *, keep: int, scope: Scope = "global") -> Mask:
    """The mask that keeps exactly ``keep`` of what ``mask`` keeps, the highest scores first.

    Guaranteed: the result is nested in ``mask``, whatever the scores of pruned weights are; a smaller
    ``keep`` gives, within the global scope, a mask nested in that of a larger one; equal scores go by
    position, the earlier first; no layer that still has a weight loses its last one as long as ``keep`` is at
    least the number of such layers.

    Args:
        scores: a number for each weight of each parameter that the mask names.
        mask: what is kept now.
        keep: how many weights are kept afterwards, over all layers.
        scope: ``global`` ranks all weights together; ``layer`` ranks within each layer, and shares ``keep``
            among them in proportion to what they have left (largest remainder).

    Raises:
        InputError: ``keep`` is below 1 or above what is kept, the scope is unknown, or the scores do not fit.
    """
    _check(scores, mask, keep, scope)
    # On the CPU, so that every machine puts equal elements in the same order; in float64, which holds the
    # other types exactly.
    kept = {name: torch.nonzero(mask[name].flatten().cpu()).squeeze(1) for name in mask}
    values = {name: scores[name].flatten().cpu().double()[kept[name]] for name in mask}
    rows = [values[name] for name in mask]
    chosen = _by_rank(rows, keep) if scope == "global" else _by_layer(rows, keep)
    result = {}
    for name, winners in zip(mask, chosen, strict=True):
        flat = torch.zeros(mask[name].numel(), dtype=torch.bool)
        flat[kept[name][winners]] = True
        result[name] = flat.reshape(mask[name].shape).to(mask[name].device)
    return Mask(result)


def shares(sizes: Sequence[int], keep: int) -> list[int]:
    """``keep`` split in proportion to ``sizes``: exact in total, none above its size.

    Largest remainder, the earlier first where remainders are equal. If ``keep`` reaches for one to each
    non-empty size, a share of 0 is raised to 1 at the cost of the largest share.
    """
    total = sum(sizes)
    parts = [keep * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(keep * sizes[i] % total), i))
    for i in by_remainder[: keep - sum(parts)]:
        parts[i] += 1
    if keep >= sum(size > 0 for size in sizes):
        for i, size in enumerate(sizes):
            if size > 0 and parts[i] == 0:
                parts[parts.index(max(parts))] -= 1
                parts[i] = 1
    return parts


def _by_rank(rows: list[Tensor], keep: int) -> list[Tensor]:
    """Indices of the ``keep`` winners within each row, ranked over all rows together."""
    joined = torch.cat(rows)
    best = torch.zeros(len(joined), dtype=torch.bool)
    start = 0
    for row in rows:
        if len(row):
            best[start + _descending(row)[0]] = True
        start += len(row)
    order = _descending(joined)
    # The second sort is stable too: the layers' best weights come first, the rest stays in order.
    order = order[torch.sort(best[order].to(torch.int8), descending=True, stable=True).indices]
    winner = torch.zeros(len(joined), dtype=torch.bool)
    winner[order[:keep]] = True
    return [torch.nonzero(part).squeeze(1) for part in winner.split([len(row) for row in rows])]


def _by_layer(rows: list[Tensor], keep: int) -> list[Tensor]:
    """Indices of the winners within each row, each row ranked by itself."""
    parts = shares([len(row) for row in rows], keep)
    return [_descending(row)[:part] for row, part in zip(rows, parts, strict=True)]


def _descending(values: Tensor) -> Tensor:
    return torch.sort(values, descending=True, stable=True).indices


def _check(scores: Scores, mask: Mask, keep: int, scope: str) -> None:
    if scope not in ("global", "layer"):
        raise InputError(f"the pruning scope {scope!r} is unknown; choose global or layer")
    kept = mask.kept
    if not 1 <= keep <= kept:
        raise InputError(f"cannot keep {keep} weights: {kept} are left, so choose a number from 1 to {kept}")
    for name, tensor in mask.items():
        if name not in scores:
            raise InputError(f"there are no scores for {name}, which the mask names")
        if scores[name].shape != tensor.shape:
            shapes = f"{tuple(scores[name].shape)} and {tuple(tensor.shape)}"
            raise InputError(f"the scores and the mask of {name} have the different shapes {shapes}")
