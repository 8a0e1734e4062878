"""What a run that is not finished does not have yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from certiprune.report.summary import Summary, dig
from certiprune.store.layout import DENSE


def missing(summary: Summary) -> list[str]:
    """What the experiment asks for and the records lack, one sentence each; empty for a finished run."""
    return [*_rounds(summary), *_outcomes(summary)]


def _rounds(summary: Summary) -> Iterator[str]:
    known = {(r.ladder, r.number) for r in summary.rounds}
    started = {(epoch.ladder, epoch.round) for epoch in summary.epochs}
    for ladder, number in dict.fromkeys([*planned(summary), *sorted(started)]):
        if (ladder, number) in known:
            continue
        what = "The dense network" if ladder == DENSE else f"Round {number} of ladder {ladder}"
        state = "is still in training" if (ladder, number) in started else "has not been trained yet"
        yield f"{what} {state}."


def planned(summary: Summary) -> list[tuple[str, int]]:
    """The rounds that the configuration asks for, the dense network first."""
    ladders = dig(summary.meta, "config", "ladders") or ()
    planned = [(DENSE, 0)]
    for ladder in ladders:
        if isinstance(ladder, Mapping) and "name" in ladder:
            planned += [(str(ladder["name"]), k + 1) for k in range(len(ladder.get("keep", ())))]
    return planned


def _outcomes(summary: Summary) -> Iterator[str]:
    for r in summary.rounds:
        name = "The dense network" if r.ladder == DENSE else f"Round {r.number} of ladder {r.ladder}"
        if not r.outcomes:
            yield f"{name} has not been verified yet."
        elif not r.complete:
            yield (
                f"{name} has been verified on {len(r.outcomes)} of {r.expected} images so far. Easy ones are "
                "decided first, so its shares are left out until it is done."
            )
