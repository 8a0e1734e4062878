"""One round of pruning: score the trained network, select what stays, rewind the weights."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, spec, trained, training_loss
from certiprune.net import checkpoint
from certiprune.net.prunable import prunable
from certiprune.prune import Calibration, Ladder, rewind_, scores, select, snapshot


def run(session: Session, work: Work) -> Result:
    """Store the weights and the mask from which this round trains.

    The scores see the training split only.
    """
    ladder = work.ladder
    assert ladder is not None  # the dense network has no such stage
    model, mask = trained(session, work.before(session.experiment))
    if mask is None:
        mask = Mask.ones(model, prunable(model))
    keep = Ladder(ladder.keep).counts(mask.total)[work.number - 1]
    scorer = scores.build(ladder.method, **ladder.options)
    random = generator(session.experiment.seed, "prune", ladder.name, work.number)
    settings = session.experiment.train
    split = session.dataset.train.to(session.experiment.device)
    data = Calibration(split, training_loss(settings), settings.eps, settings.batch_size)
    found = scorer.score(model, mask, data, keep=keep, generator=random)
    chosen = select(found, mask, keep=keep, scope=ladder.scope)
    rewind_(model, _weights(session, work), chosen)
    note = {"network": work.name, "method": ladder.method}
    checkpoint.save(work.files(session).initial, model, spec(session), mask=chosen, note=note)
    text = f"{chosen.kept} of {chosen.total} weights kept"
    return Result(text, {"kept": chosen.kept, "total": chosen.total})


def _weights(session: Session, work: Work) -> Mapping[str, Tensor]:
    """Where this round starts from."""
    assert work.ladder is not None
    match work.ladder.rewind:
        case "initial":
            file = Work(None, 0).files(session).initial
        case "learning_rate" | "finetune":
            file = work.before(session.experiment).files(session).model
        case _:
            file = session.layout.round(work.ladder.name, 0).early
    return snapshot(checkpoint.load(file).model)
