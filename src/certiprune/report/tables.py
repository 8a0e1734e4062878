"""The report's numbers as rows, and the rows as CSV text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

from certiprune.report.grid import Grid
from certiprune.report.statistics import Paired, Proportion, holm, paired
from certiprune.report.summary import Round, Summary
from certiprune.report.tickets import Claim, Ticket, of_run
from certiprune.store.rows import LayerRow, OutcomeRow
from certiprune.train.statistics import QUANTILES
from certiprune.verify.outcome import Verdict

_SIZES = (
    "parameters",
    "multiply_adds",
    "file_bytes",
    "compact_parameters",
    "compact_multiply_adds",
    "compact_file_bytes",
    "compact_relus",
)
# The measured proportions of a round, each written as a value and the two ends of its interval.
_MEASURES = ("standard", "pgd", "certified", "upper", "ibp", "crown")


@dataclass(frozen=True)
class Comparison:
    """A pruned round against the dense network: certified images, on the images that both answered.

    Attributes:
        adjusted: the p-value adjusted for all comparisons of the report (Holm).
    """

    round: Round
    pair: Paired
    adjusted: float

    @property
    def clear(self) -> bool:
        """Whether the difference is more than chance explains, at 5 % over all comparisons together."""
        return self.adjusted < 0.05


def comparisons(summary: Summary) -> list[Comparison]:
    """Every completely verified round against the dense network; empty until that one is complete."""
    if summary.dense is None or not summary.dense.complete:
        return []
    before = summary.dense.proved
    others = [r for r in summary.rounds if r is not summary.dense and r.complete]
    found = [(r, pair) for r in others if (pair := paired(before, r.proved))]
    adjusted = holm([pair.p_value for _, pair in found])
    return [Comparison(r, pair, p) for (r, pair), p in zip(found, adjusted, strict=True)]


def files(summary: Summary, claim: Claim | None = None) -> dict[str, str]:
    """File name -> CSV text of every table; numbers are written so that reading gives the same ones."""
    return {
        "rounds.csv": rounds_csv(summary),
        "layers.csv": layers_csv(summary),
        "widths.csv": widths_csv(summary),
        "outcomes.csv": outcomes_csv(summary),
        "epochs.csv": epochs_csv(summary),
        "comparisons.csv": comparisons_csv(summary),
        "tickets.csv": tickets_csv(of_run(summary, claim or Claim())),
    }


def rounds_csv(summary: Summary) -> str:
    """One row a round: sizes, proportions with 95 % intervals, counts of verdicts, cost."""
    header = ["ladder", "round", "method", "kept", "total", "remaining", "kept_all", "total_all"]
    header += [f"{name}{end}" for name in _MEASURES for end in ("_accuracy", "_low", "_high")]
    header += ["test_images", "verified_images", *Verdict, "unstable", "relus"]
    header += ["nodes_median", "nodes_total", "seconds_median", "seconds_total", "unit", *_SIZES]
    header += ["certificates"]
    return _csv("rounds", header, (_round_row(r) for r in summary.rounds))


def layers_csv(summary: Summary) -> str:
    """One row a layer and round: weights kept, or ReLU neurons that are unstable and what bounds them."""
    rows = (astuple(layer) for r in summary.rounds for layer in r.layers)
    return _csv("layers", [field.name for field in fields(LayerRow)], rows)


def widths_csv(summary: Summary) -> str:
    """One row a ReLU layer and round: quantiles over its neurons of the intervals' widths, where they were recorded."""
    rows = ([r.ladder, r.number, name, *found] for r in summary.rounds for name, found in r.widths.items())
    return _csv("widths", ["ladder", "round", "name", *(f"q{100 * q:g}" for q in QUANTILES)], rows)


def outcomes_csv(summary: Summary) -> str:
    """One row an image and round: the verifier's answer, in the columns of ``certiprune verify --csv``."""
    header = ["index" if field.name == "idx" else field.name for field in fields(OutcomeRow)]
    return _csv("outcomes", header, (astuple(outcome) for r in summary.rounds for outcome in r.outcomes))


def epochs_csv(summary: Summary) -> str:
    """One row an epoch; a measure that an epoch lacks is left empty."""
    names = sorted({name for epoch in summary.epochs for name in epoch.metrics})
    rows = (
        [e.ladder, e.round, e.epoch, e.seconds, *(e.metrics.get(name) for name in names)]
        for e in summary.epochs
    )
    return _csv("epochs", ["ladder", "round", "epoch", "seconds", *names], rows)


def comparisons_csv(summary: Summary) -> str:
    """One row a pruned round: the paired comparison of certified images with the dense network."""
    header = ["ladder", "round", "images", "only_dense", "only_pruned", "gain", "gain_low", "gain_high"]
    rows = (_comparison_row(comparison) for comparison in comparisons(summary))
    return _csv("comparisons", [*header, "p_value", "p_adjusted"], rows)


def tickets_csv(found: Sequence[Ticket]) -> str:
    """One row a pruned network: the claim that it is a certified lottery ticket, and its parts."""
    rows = ([t.pruned.ladder, t.pruned.number, *ticket_cells(t)] for t in found)
    return _csv("tickets", ["ladder", "round", *TICKET_HEAD], rows)


TICKET_HEAD = (
    *("margin", "confidence", "images", "standard_gain", "standard_low"),
    *("conservative_gain", "conservative_low", "p_value", "p_adjusted", "ticket"),
    *("proved_gain", "proved_low", "proved_p_value", "proved_p_adjusted", "ticket_proved"),
)


def ticket_cells(ticket: Ticket) -> list[Any]:
    """What ``TICKET_HEAD`` names; the ends ``low`` are one-sided, at the claim's confidence, not adjusted."""
    confidence, tests = ticket.claim.confidence, (ticket.standard, ticket.conservative, ticket.proved)
    parts = [value for test in tests for value in (test.pair.gain, test.low(confidence))]
    first = [ticket.claim.margin, confidence, ticket.standard.pair.images, *parts[:4]]
    first += [ticket.p_value, ticket.adjusted, int(ticket.holds)]
    return [*first, *parts[4:], ticket.p_proved, ticket.adjusted_proved, int(ticket.holds_proved)]


def _csv(name: str, header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    return Grid.of(name, header, rows).csv()


def _round_row(r: Round) -> list[Any]:
    sizes = [r.row.kept, r.row.total, r.remaining, r.row.kept_all, r.row.total_all]
    measures = (getattr(r, name) for name in _MEASURES)
    shares = [end for proportion in measures for end in _ends(proportion)]
    images = [r.row.test_images, len(r.outcomes), *(r.count(verdict) for verdict in Verdict)]
    nodes, seconds = r.nodes or (None, None), r.seconds or (None, None)
    cost = [nodes[1], nodes[0], seconds[1], seconds[0], r.row.unit]
    cost += [getattr(r.row, name) if r.sized else None for name in _SIZES]
    cost += [r.certificates]
    return [r.ladder, r.number, r.row.method, *sizes, *shares, *images, r.unstable, r.row.relus, *cost]


def _comparison_row(comparison: Comparison) -> list[Any]:
    r, pair = comparison.round, comparison.pair
    counts = [pair.images, pair.first_only, pair.second_only]
    return [r.ladder, r.number, *counts, pair.gain, *pair.interval, pair.p_value, comparison.adjusted]


def _ends(proportion: Proportion | None) -> list[float | None]:
    if proportion is None:
        return [None, None, None]
    return [proportion.value, proportion.low, proportion.high]
