"""The dense network before any training."""

from __future__ import annotations

from certiprune.core.rng import generator
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, spec
from certiprune.net import checkpoint, zoo


def run(session: Session, work: Work) -> Result:
    """Draw the initial weights."""
    wanted = spec(session)
    source = generator(session.experiment.seed, "initial")
    model = zoo.build(wanted, generator=source, initial=session.experiment.model.initial)
    checkpoint.save(work.files(session).initial, model, wanted, mask=None, note={"network": work.name})
    return Result(f"{sum(p.numel() for p in model.parameters())} parameters")
