"""What a sweep found, in plain sentences: honest whichever way it goes."""

from __future__ import annotations

from collections.abc import Sequence

from certiprune.report.sweep.compare import Comparison, SeedTicket
from certiprune.report.sweep.summary import Sweep
from certiprune.report.sweep.table import Part, Row
from certiprune.report.words import percent, points


def sentences(
    sweep: Sweep, parts: Sequence[Part], found: Sequence[Comparison], tickets: Sequence[SeedTicket]
) -> list[str]:
    """A sentence for each training, one about tickets, and what limits them all; first what cannot be compared."""
    lines = [*sweep.apart, *(_training(part, found, len(sweep.seeds)) for part in parts)]
    if tickets:
        held = sum(t.ticket.holds for t in tickets)
        proved = sum(t.ticket.holds_proved for t in tickets)
        claim = tickets[0].ticket.claim
        stated = f"within {100 * claim.margin:g} points at {percent(claim.confidence)} confidence"
        lines.append(
            f"Certified lottery tickets, {stated}: "
            f"{held} of {len(tickets)} networks by the conservative count, {proved} by what is proved of both."
        )
    if len(sweep.seeds) == 1:
        lines.append(
            "There is one seed only: nothing here says how much the randomness of training moves it."
        )
    return lines


def _training(part: Part, found: Sequence[Comparison], seeds: int) -> str:
    name = part.block.training
    chosen = [row for row in part.rows if row.choice is not None]
    rows = [row for row in chosen if row.certified is not None]
    dense = next((row for row in part.rows if not row.method.pruned and not row.method.extra), None)
    if dense is None:
        start = f"{name}: no dense network without a penalty of its method's own"
    elif dense.certified is None:
        return f"{name}: the dense network has not been verified completely yet."
    else:
        start = f"{name}: dense {_certified(dense, seeds)} certified"
    if not rows:
        return f"{start}; no pruned network could be chosen and is verified completely yet."
    # The methods' order on validation images, not on the images of the table.
    best = max(rows, key=lambda row: row.choice.value.mean if row.choice else 0.0)
    which = "the method" if len(rows) == len(chosen) else "of the methods verified so far, the one"
    text = f"{start}; {which} that does best on validation images, {best.method.name} with "
    text += f"{percent(best.remaining.mean)} of the {best.unit} left, {_certified(best, seeds)}"
    return f"{text}{_test(best, found)}.{_caution(best, dense, found)}"


def _certified(row: Row, seeds: int) -> str:
    """The mean, and of how many seeds where some are not verified yet."""
    assert row.certified is not None  # rows without it are left out
    there = len(row.certified.each)
    return percent(row.certified.value) + (f" ({there} of {seeds} seeds)" if there < seeds else "")


def _test(best: Row, found: Sequence[Comparison]) -> str:
    against = _against(best, found)
    if against is None:
        return ""
    higher, lower, seeds = len(against.higher), len(against.lower), len(against.duels)
    sure = "more than chance explains" if seeds in (higher, lower) else "within chance"
    if higher and lower:
        sure = f"more than chance explains up with {higher} and down with {lower} of {seeds} seeds"
    elif 0 < higher + lower < seeds:
        word = "up" if higher else "down"
        sure = f"more than chance explains {word} with {higher + lower} of {seeds} seeds"
    return f" ({points(against.gain.mean)} points, {sure})"


def _caution(best: Row, dense: Row | None, found: Sequence[Comparison]) -> str:
    """A warning where undecided images of the dense network alone could explain a clear gain."""
    against = _against(best, found)
    if against is None or not against.higher or dense is None:
        return ""
    if not dense.upper or not best.certified or dense.upper.value < best.certified.value:
        return ""
    return (
        f" The dense network's upper side is {percent(dense.upper.value)}: part or all of the gain may be that "
        "the pruned network is easier to verify."
    )


def _against(best: Row, found: Sequence[Comparison]) -> Comparison | None:
    return next((c for c in found if c.method is best.method and c.rival == "dense"), None)
