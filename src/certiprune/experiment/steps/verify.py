"""Complete verification of the first test images; every verdict is committed as soon as it is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import torch

from certiprune.core.errors import InputError
from certiprune.data import Split
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
    settings = session.experiment.verify
    test = session.dataset.test.head(settings.images)
    done = {row.idx for row in session.records.outcomes(work.ladder_name, work.number)}
    missing = [index for index in range(len(test)) if index not in done]
    budget = Budget(seconds=settings.seconds, nodes=settings.nodes, memory=session.memory)
    found = answers(session, work, test, missing, budget)
    for number, outcome in enumerate(found, start=len(done) + 1):
        _commit(session, work, outcome)
        text = f"{outcome.verdict} image {outcome.index}"
        session.watch(Event(f"{work.name}/verify", min(number, len(test) - 1), len(test), text))
    rows = session.records.outcomes(work.ladder_name, work.number)
    if len(rows) != len(test):
        raise InputError(f"{work.name}: {len(rows)} verdicts for {len(test)} images; start over with --fresh")
    counts = Counter(str(row.verdict) for row in rows)
    return Result(", ".join(f"{counts[v]} {v}" for v in Verdict if counts[v]), {"verdicts": dict(counts)})


def answers(
    session: Session, work: Work, split: Split, indices: Sequence[int], budget: Budget
) -> Iterator[Outcome]:
    """Decide the images ``indices`` of ``split`` for a trained network, at the radius of the experiment."""
    if not indices:
        return
    model, mask = trained(session, work)
    network, _ = compact(lower(model, shape=session.dataset.shape, mask=mask))
    device = session.experiment.device
    chosen = split[torch.tensor(indices, dtype=torch.int64)].to(device)
    yield from decide(
        network.to(network.dtype, device),
        chosen.images,
        chosen.labels,
        eps=session.experiment.verify.eps,
        budget=budget,
        indices=indices,
        original=model,
    )


def _commit(session: Session, work: Work, outcome: Outcome) -> None:
    """The verdict and, where it is kept, its example, in one transaction."""
    place = (work.ladder_name, work.number)
    row = OutcomeRow.of(*place, outcome)
    if outcome.index < EXAMPLES or outcome.verdict == Verdict.FALSIFIED:
        image = session.dataset.test.images[outcome.index]
        session.records.add(row, ExampleRow.of(*place, outcome.index, image, outcome.counterexample))
    else:
        session.records.add(row)
