"""Which weights or units stay: by rank, with an exact count.

    order what is kept by (best of its layer first, score descending, position ascending);
    keep the first ``keep`` of it

Position is the mask's order of names, then row-major order within a tensor. Ties cannot change the count, since
position decides them, and only the order of the scores matters. A layer is a name: a parameter, or a group of units.
That its best goes first is the floor, which keeps every layer from losing its last weight or unit.

Nothing is sorted for that: what stays is all above the ``keep``-th highest score, and of what equals it the first. It
has to be quick, since HYDRA selects at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import Scores

Scope = Literal["global", "layer"]


def select(scores: Scores, mask: Mask, *, keep: int, scope: Scope = "global") -> Mask:
    """The mask that keeps exactly ``keep`` of what ``mask`` keeps, the highest scores first.

    Guaranteed: the result is nested in ``mask``, whatever the scores of what is pruned are; a smaller ``keep`` gives,
    within the global scope, a mask nested in that of a larger one; equal scores go by position, the earlier first; no
    layer that still has a weight or unit loses its last one as long as ``keep`` is at least the number of such layers.

    Args:
        scores: a number for each entry of each tensor that the mask names.
        mask: what is kept now.
        keep: how many weights or units are kept afterwards, over all layers.
        scope: ``global`` ranks everything together; ``layer`` ranks within each layer, and shares ``keep`` among them
            in proportion to what they have left (largest remainder).

    Raises:
        InputError: ``keep`` is below 1 or above what is kept, the scope is unknown, or the scores do not fit.
    """
    _check(scores, mask, keep, scope)
    return _select(scores, mask, keep, scope, floor=True)


def floored(scores: Scores, mask: Mask, *, keep: int, scope: Scope = "global") -> tuple[str, ...]:
    """The layers of which ``select`` keeps something only because of the floor, by name.

    Args and errors are those of ``select``.
    """
    _check(scores, mask, keep, scope)
    held, free = (_select(scores, mask, keep, scope, floor=floor) for floor in (True, False))
    return tuple(name for name in mask if bool(held[name].any()) and not bool(free[name].any()))


def _select(scores: Scores, mask: Mask, keep: int, scope: Scope, *, floor: bool) -> Mask:
    # On the CPU, so that every machine puts equal elements in the same order; in float64, which holds the
    # other types exactly.
    kept = {name: torch.nonzero(mask[name].flatten().cpu()).squeeze(1) for name in mask}
    values = {name: scores[name].flatten().cpu().double()[kept[name]] for name in mask}
    rows = [values[name] for name in mask]
    chosen = _by_rank(rows, keep, floor) if scope == "global" else _by_layer(rows, keep, floor)
    result = {}
    for name, winners in zip(mask, chosen, strict=True):
        flat = torch.zeros(mask[name].numel(), dtype=torch.bool)
        flat[kept[name]] = winners
        result[name] = flat.reshape(mask[name].shape).to(mask[name].device)
    return Mask(result)


def shares(sizes: Sequence[int], keep: int, *, floor: bool = True) -> list[int]:
    """``keep`` split in proportion to ``sizes``: exact in total, none above its size.

    Largest remainder, the earlier first where remainders are equal. With ``floor``, if ``keep`` reaches for one to each
    non-empty size, a share of 0 is raised to 1 at the cost of the largest share.
    """
    total = sum(sizes)
    parts = [keep * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda i: (-(keep * sizes[i] % total), i))
    for i in by_remainder[: keep - sum(parts)]:
        parts[i] += 1
    if floor and keep >= sum(size > 0 for size in sizes):
        for i, size in enumerate(sizes):
            if size > 0 and parts[i] == 0:
                parts[parts.index(max(parts))] -= 1
                parts[i] = 1
    return parts


def _by_rank(rows: list[Tensor], keep: int, floor: bool) -> list[Tensor]:
    """Which entries of each row win, ranked over all rows together: boolean tensors."""
    joined, sizes = torch.cat(rows), [len(row) for row in rows]
    starts = accumulate(sizes[:-1], initial=0)
    firsts = [
        start + int(row.argmax()) for start, row in zip(starts, rows, strict=True) if floor and len(row)
    ]
    best = torch.tensor(firsts, dtype=torch.int64)
    if keep <= len(best):
        winner = torch.zeros(len(joined), dtype=torch.bool)
        winner[best[_highest(joined[best], keep)]] = True
    else:
        rest = joined.clone()
        rest[best] = -torch.inf  # scores are finite, so these come last
        winner = _highest(rest, keep - len(best))
        winner[best] = True
    return list(winner.split(sizes))


def _by_layer(rows: list[Tensor], keep: int, floor: bool) -> list[Tensor]:
    """Which entries of each row win, each row ranked by itself: boolean tensors."""
    parts = shares([len(row) for row in rows], keep, floor=floor)
    return [_highest(row, part) for row, part in zip(rows, parts, strict=True)]


def _highest(values: Tensor, count: int) -> Tensor:
    """Which of ``values`` [n] are the ``count`` highest, the earlier first where they are equal: [n] bool."""
    if count == 0:
        return torch.zeros(len(values), dtype=torch.bool)
    least = values.kthvalue(len(values) - count + 1).values
    winner = values > least
    equal = torch.nonzero(values == least).squeeze(1)
    winner[equal[: count - int(winner.sum())]] = True
    return winner


def _check(scores: Scores, mask: Mask, keep: int, scope: str) -> None:
    if scope not in ("global", "layer"):
        raise InputError(f"the pruning scope {scope!r} is unknown; choose global or layer")
    kept = mask.kept
    if not 1 <= keep <= kept:
        raise InputError(f"cannot keep {keep}: {kept} are left, so choose a number from 1 to {kept}")
    for name, tensor in mask.items():
        if name not in scores:
            raise InputError(f"there are no scores for {name}, which the mask names")
        if scores[name].shape != tensor.shape:
            shapes = f"{tuple(scores[name].shape)} and {tuple(tensor.shape)}"
            raise InputError(f"the scores and the mask of {name} have the different shapes {shapes}")
