"""One round of pruning: score the trained network, select what stays, rewind the weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.experiment.events import Event
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, spec, trained, training_loss
from certiprune.net import checkpoint
from certiprune.prune import (
    Calibration,
    Ladder,
    Selection,
    rank_and_select,
    remaining,
    rewind_,
    scores,
    snapshot,
)
from certiprune.prune.rank import Granularity


def run(session: Session, work: Work) -> Result:
    """Store the weights and the mask from which this round trains.

    The scores see the training split only.
    """
    ladder = work.ladder
    assert ladder is not None  # the dense network has no such stage
    before = work.before(session.experiment)
    model, mask = trained(session, before)
    start = _weights(session, work)
    if ladder.scored == "rewound":
        rewind_(model, start, mask or Mask())
    if before.ladder and (before.ladder.granularity, ladder.granularity) == ("weights", "channels"):
        # What weight pruning has emptied ranks last by its zeros, and still counts as a channel.
        mask = None
    total = remaining(model, mask, granularity=ladder.granularity, layers=ladder.layers).total
    keep = Ladder(ladder.keep).counts(total)[work.number - 1]
    scorer = scores.build(ladder.method, **ladder.options)
    random = generator(session.experiment.seed, "prune", ladder.name, work.number)
    settings = session.experiment.train
    split = session.dataset.train.to(session.experiment.device)

    def progress(done: int, total: int) -> None:
        # The last event of the stage is sent once it is committed.
        session.watch(Event(f"{work.name}/prune", min(done, total - 1), total))

    data = Calibration(split, training_loss(settings), settings.eps, settings.batch_size, progress)
    chosen = rank_and_select(
        model,
        mask,
        scorer,
        data,
        keep=keep,
        granularity=ladder.granularity,
        layers=ladder.layers,
        scope=ladder.scope,
        generator=random,
    )
    rewind_(model, start, chosen.mask)
    note = {"network": work.name, "method": ladder.method}
    checkpoint.save(work.files(session).initial, model, spec(session), mask=chosen.mask, note=note)
    return Result(text(chosen, ladder.granularity), {"kept": chosen.kept, "total": chosen.total})


def text(chosen: Selection, granularity: Granularity) -> str:
    """What a round kept, in a few words, such as "12 of 24 channels kept; the floor holds conv1"."""
    text = f"{chosen.kept} of {chosen.total} {granularity} kept"
    names = [name.removesuffix(".weight") for name in chosen.floored]
    return f"{text}; the floor holds {', '.join(names)}" if names else text


def _weights(session: Session, work: Work) -> Mapping[str, Tensor]:
    """Where this round starts from."""
    assert work.ladder is not None
    match work.ladder.rewind:
        case "initial":
            file = Work(None, 0).files(session).initial
        case "learning_rate" | "finetune":
            file = work.before(session.experiment).files(session).model
        case epoch:
            file = Work(None, 0).files(session).early(epoch)
    return snapshot(checkpoint.load(file).model)
