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
    """A sentence for each training, one about tickets, and what limits them all."""
    lines = [_training(part, found) for part in parts]
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


def _training(part: Part, found: Sequence[Comparison]) -> str:
    name = part.block.training
    rows = [row for row in part.rows if row.choice is not None and row.certified is not None]
    dense = next((row for row in part.rows if not row.method.pruned and not row.method.extra), None)
    if dense is None or dense.certified is None:
        return f"{name}: the dense network has not been verified completely yet."
    start = f"{name}: dense {percent(dense.certified.value)} certified"
    if not rows:
        return f"{start}; no pruned network could be chosen and is verified completely yet."
    # The methods' order on validation images, not on the images of the table.
    best = max(rows, key=lambda row: row.choice.value.mean if row.choice else 0.0)
    certified = best.certified
    assert certified is not None  # rows without it were left out
    text = f"{start}; the method that does best on validation images, {best.method.name} with "
    text += f"{percent(best.remaining.mean)} of the {best.unit} left, {percent(certified.value)}"
    return f"{text}{_test(best, found)}."


def _test(best: Row, found: Sequence[Comparison]) -> str:
    against = next((c for c in found if c.method is best.method and c.rival == "dense"), None)
    if against is None:
        return ""
    clear = len(against.clear)
    seeds = len(against.duels)
    sure = "more than chance explains" if clear == seeds else "within chance"
    if 0 < clear < seeds:
        sure = f"more than chance explains with {clear} of {seeds} seeds"
    return f" ({points(against.gain.mean)} points, {sure})"
