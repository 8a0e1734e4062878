"""What a run that is not finished does not have yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from certiprune.report.summary import Round, Summary, dig
from certiprune.store.layout import DENSE


def missing(summary: Summary) -> list[str]:
    """What the experiment asks for and the records lack, one sentence each; empty for a finished run."""
    return [*_rounds(summary), *_outcomes(summary)]


def _rounds(summary: Summary) -> Iterator[str]:
    known = {(r.ladder, r.number) for r in summary.rounds}
    started = {(epoch.ladder, epoch.round) for epoch in summary.epochs}
    for ladder, number in dict.fromkeys([*_planned(summary), *sorted(started)]):
        if (ladder, number) in known:
            continue
        what = "The dense network" if ladder == DENSE else f"Round {number} of ladder {ladder}"
        state = "is still in training" if (ladder, number) in started else "has not been trained yet"
        yield f"{what} {state}."


def _planned(summary: Summary) -> list[tuple[str, int]]:
    """The rounds that the configuration asks for, the dense network first."""
    ladders = dig(summary.meta, "config", "ladders") or ()
    planned = [(DENSE, 0)]
    for ladder in ladders:
        if isinstance(ladder, Mapping) and "name" in ladder:
            planned += [(str(ladder["name"]), k + 1) for k in range(len(ladder.get("keep", ())))]
    return planned


def _outcomes(summary: Summary) -> Iterator[str]:
    most = max((len(r.outcomes) for r in summary.rounds), default=0)
    for r in summary.rounds:
        expected = max(most, _asked(summary, r))
        name = "The dense network" if r.ladder == DENSE else f"Round {r.number} of ladder {r.ladder}"
        if not r.outcomes:
            yield f"{name} has not been verified yet."
        elif len(r.outcomes) < expected:
            yield f"{name} has been verified on {len(r.outcomes)} of {expected} images so far."


def _asked(summary: Summary, r: Round) -> int:
    """How many images of this round the experiment verifies: never more than the test split has."""
    asked = dig(summary.meta, "config", "verify", "images")
    return min(int(asked), r.row.test_images) if isinstance(asked, int) else 0
