"""What is wrong with ladders and needs no trained network to be seen: methods, layers and counts.

What fails in a round of pruning fails after hours of training; what the network's layers and the settings tell of it
is said before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from certiprune.core.errors import InputError
from certiprune.experiment.config import Experiment
from certiprune.experiment.known import Images
from certiprune.experiment.ladder import Ladder
from certiprune.net.prunable import Layers
from certiprune.net.zoo import ModelSpec, build
from certiprune.prune import Groups, remaining, schedule, scores
from certiprune.prune.coupling import groups
from certiprune.prune.rank import Granularity


def check(experiment: Experiment, ladder: Ladder, images: Images, *, exact: bool) -> None:
    """See that no round of ``ladder``, one of ``experiment``, is bound to fail whatever the networks' weights are.

    Args:
        images: what the networks are for.
        exact: whether ``images`` are those that the experiment trains on, or stand for some that are not read yet:
            then counts of weights, which depend on them, are left alone. Units are the same for all.

    Raises:
        InputError: a round is; the text says what to change.
        ModelError: the network does not fit the images.
    """
    model, train = experiment.model, experiment.train

    def open_to(other: Ladder) -> _Open:
        return _open(model.name, model.width, images, other.granularity, other.layers)

    mine = open_to(ladder)
    method = scores.build(ladder.method, **ladder.options)
    method.check(groups=mine.groups, eps=train.eps, batch_size=train.batch_size)
    if not exact and mine.groups is None:
        return
    source = next((other for other in experiment.ladders if other.name == ladder.source), None)
    counts = _counts(ladder, mine)
    if source is not None and source.granularity == ladder.granularity:
        _left(ladder, mine, counts, source, open_to(source))


@dataclass(frozen=True)
class _Open:
    """What pruning may take: layer (or group) -> how many weights (or units), and the groups if they are units."""

    sizes: Mapping[str, int]
    groups: Groups | None

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


@lru_cache(maxsize=64)
def _open(name: str, width: float, images: Images, granularity: Granularity, layers: Layers) -> _Open:
    """Kept, because a sweep asks it of the same network again and again."""
    some = (0.5,) * images.shape[0]
    model = build(ModelSpec(name, images.shape, images.classes, some, some, width))
    left = remaining(model, None, granularity=granularity, layers=layers)
    units = groups(model, layers=layers) if granularity == "channels" else None
    return _Open({name: kept.numel() for name, kept in left.items()}, units)


def _counts(ladder: Ladder, mine: _Open) -> tuple[int, ...]:
    """How much each round keeps.

    Raises:
        InputError: there is nothing, or too little for so many rounds.
    """
    if not mine.total:
        what = "weights" if ladder.granularity == "weights" else "channels or neurons that can be removed"
        raise InputError(f"the network has no {what} in its layers {ladder.layers}; choose other layers")
    return schedule.Ladder(ladder.keep).counts(mine.total)


def _left(ladder: Ladder, mine: _Open, counts: tuple[int, ...], source: Ladder, theirs: _Open) -> None:
    """See that the source leaves as much as each round keeps.

    Raises:
        InputError: it surely does not.
    """
    if not theirs.sizes.keys() <= mine.sizes.keys():
        # How much of what the source takes this ladder would have had, too, depends on the weights.
        return
    for number, (keep, kept) in enumerate(zip(counts, _counts(source, theirs), strict=True), start=1):
        most = mine.total - theirs.total + kept
        if keep > most:
            raise InputError(
                f"round {number} would keep {keep} of {mine.total} {ladder.granularity}, and its source "
                f"{source.name} leaves {most}; keep fewer"
            )
