"""Complete verification of the first test images; every verdict is committed as soon as it is there."""

from __future__ import annotations

from collections import Counter

import torch

from certiprune.core.errors import InputError
from certiprune.experiment.events import Event
from certiprune.experiment.session import Session
from certiprune.experiment.steps.work import Result, Work, trained
from certiprune.net import compact, lower
from certiprune.store import ExampleRow, OutcomeRow
from certiprune.verify import Budget
from certiprune.verify import verify as decide
from certiprune.verify.outcome import Outcome, Verdict

EXAMPLES = 24
"""How many of the first images are kept for the report's gallery; falsified ones are kept in any case."""


def run(session: Session, work: Work) -> Result:
    """Verify the images that have no verdict yet."""
    settings, device = session.experiment.verify, session.experiment.device
    test = session.dataset.test.head(settings.images)
    done = {row.idx for row in session.records.outcomes(work.ladder_name, work.number)}
    missing = [index for index in range(len(test)) if index not in done]
    model, mask = trained(session, work)
    network, _ = compact(lower(model, shape=session.dataset.shape, mask=mask))
    chosen = test[torch.tensor(missing, dtype=torch.int64)].to(device)
    found = decide(
        network.to(network.dtype, device),
        chosen.images,
        chosen.labels,
        eps=settings.eps,
        budget=Budget(seconds=settings.seconds, nodes=settings.nodes, memory=session.memory),
        indices=missing,
        original=model,
    )
    for number, outcome in enumerate(found if missing else (), start=len(done) + 1):
        _commit(session, work, outcome)
        text = f"{outcome.verdict} image {outcome.index}"
        session.watch(Event(f"{work.name}/verify", min(number, len(test) - 1), len(test), text))
    rows = session.records.outcomes(work.ladder_name, work.number)
    if len(rows) != len(test):
        raise InputError(f"{work.name}: {len(rows)} verdicts for {len(test)} images; start over with --fresh")
    counts = Counter(str(row.verdict) for row in rows)
    return Result(", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v]), {"verdicts": dict(counts)})


def _commit(session: Session, work: Work, outcome: Outcome) -> None:
    """The verdict and, where it is kept, its example, in one transaction."""
    place = (work.ladder_name, work.number)
    row = OutcomeRow.of(*place, outcome)
    if outcome.index < EXAMPLES or outcome.verdict == Verdict.FALSIFIED:
        image = session.dataset.test.images[outcome.index]
        session.records.add(row, ExampleRow.of(*place, outcome.index, image, outcome.counterexample))
    else:
        session.records.add(row)
