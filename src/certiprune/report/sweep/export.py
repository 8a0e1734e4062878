"""A sweep's numbers for other programs: CSV and Parquet, a LaTeX table, the references."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from certiprune.report import references as sources
from certiprune.report.grid import Grid
from certiprune.report.statistics import Estimate, OverSeeds, Proportion, anytime
from certiprune.report.summary import Round, dig
from certiprune.report.sweep import compare
from certiprune.report.sweep.summary import Sweep, relative
from certiprune.report.sweep.table import Part, Row, every_round
from certiprune.report.tables import TICKET_HEAD, ticket_cells
from certiprune.report.tickets import Claim
from certiprune.verify.outcome import Verdict

_SHARES = ("standard", "pgd", "certified", "upper", "unknown", "falsified", "misclassified")
_MEANS = ("seconds", "unstable")
_PLACE = ("training", "method", "round")
# An interval of one seed is about images (of a mean: there is none), of several about seeds.
_ENDS = ("", "_low", "_high", "_seeds")
_PER_NETWORK = ("standard", "pgd", "certified", "upper")
# Shares of the time limit at which the any-time curves are tabulated.
_LIMITS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def tables(root: Path, sweep: Sweep, parts: list[Part], claim: Claim) -> list[Grid]:
    """Every table: the study's, all rounds over seeds, networks, runs, comparisons, tickets, curves over time."""
    duels = compare.duels(sweep, parts)
    return [
        Grid.of("table", _head("measure", "validation", "among"), map(_table_row, _rows(parts))),
        Grid.of("rounds", _head(), map(_row, every_round(sweep))),
        _networks(root, sweep),
        _runs(root, sweep),
        _comparisons(duels),
        Grid.of(
            "tickets",
            ("training", "method", "seed", "round", *TICKET_HEAD),
            (
                [t.method.training, t.method.name, t.seed, t.ticket.pruned.number, *ticket_cells(t.ticket)]
                for t in compare.seed_tickets(parts, claim)
            ),
        ),
        _anytime(sweep),
    ]


def latex(parts: Iterable[Part]) -> str:
    """The study's table in LaTeX, which needs the package ``booktabs``: per cent, and seconds an image.

    Means over the seeds with half the width of Student's interval behind the sign, where there are several; of one
    seed the certified accuracy stands with Wilson's interval over images.
    """
    lines = [
        "% Made by certiprune; needs \\usepackage{booktabs}.",
        r"\begin{tabular}{lrrrrrr}",
        r"\toprule",
        r"Method & Left & Standard & PGD & Certified & Upper & s/image \\",
    ]
    for part in parts:
        lines += [r"\midrule", rf"\multicolumn{{7}}{{l}}{{\textit{{{_tex(part.block.training)}}}}} \\"]
        lines += [_tex_row(row) for row in part.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def references(sweep: Sweep) -> str:
    """BibTeX of every method in the sweep, and of the study."""
    used: set[str] = set()
    for run in sweep.runs:
        used |= sources.methods(dig(run.summary.meta, "config"))
    return sources.bibliography(used)


def _head(*more: str) -> tuple[str, ...]:
    shares = [f"{name}{end}" for name in _SHARES for end in _ENDS]
    means = [f"{name}{end}" for name in _MEANS for end in _ENDS]
    return (*_PLACE, *more, "seeds", "remaining", "unit", *shares, *means)


def _rows(parts: Iterable[Part]) -> list[Row]:
    return [row for part in parts for row in part.rows]


def _row(row: Row, *more: Any) -> list[Any]:
    place = [row.method.training, row.method.name, row.number, *more]
    cells = [len(row.networks), row.remaining.mean, row.unit]
    shares = [end for name in _SHARES for end in _share(getattr(row, name))]
    return [*place, *cells, *shares, *(end for name in _MEANS for end in _mean(getattr(row, name)))]


def _table_row(row: Row) -> list[Any]:
    choice = row.choice
    return _row(row, *((choice.measure, choice.value.mean, choice.among) if choice else (None, None, None)))


def _share(found: Estimate | None) -> Sequence[float | None]:
    return [None] * 4 if found is None else [found.value, *found.interval, len(found.each)]


def _mean(found: OverSeeds | None) -> Sequence[float | None]:
    if found is None:
        return [None] * 4
    return [found.mean, *(found.interval or (None, None)), found.seeds]


def _networks(root: Path, sweep: Sweep) -> Grid:
    """One row a network, with Wilson's interval and the exact one."""
    ends = ("", "_low", "_high", "_exact_low", "_exact_high")
    header = ["training", "method", "seed", "round", "folder", "remaining", "unit"]
    header += [f"{name}{end}" for name in _PER_NETWORK for end in ends]
    header += ["test_images", "verified_images", *(f"{verdict}_images" for verdict in Verdict)]
    header += ["seconds_total", "unstable", "relus"]
    rows = (
        [method.training, method.name, branch.seed, r.number, relative(root, branch.folder), *_network(r)]
        for block in sweep.blocks
        for method in block.methods
        for branch in method.branches
        for r in branch.rounds
    )
    return Grid.of("networks", header, rows)


def _runs(root: Path, sweep: Sweep) -> Grid:
    """One row a cell: what identifies its experiment and its images, and what can change a result's last bits."""
    environment = ("certiprune", "torch", "python", "threads", "processor", "platform")
    rows = (
        [
            relative(root, run.folder),
            *(run.summary.meta.get(key) for key in ("digest", "data_fingerprint")),
            *(run.summary.eps, run.summary.limit),
            *(dig(run.summary.meta, "environment", key) for key in environment),
        ]
        for run in sweep.runs
    )
    return Grid.of("runs", ["folder", "digest", "data_fingerprint", "eps", "seconds", *environment], rows)


def _network(r: Round) -> list[Any]:
    shares: list[Proportion | None] = [getattr(r, name) for name in _PER_NETWORK]
    cells = [end for p in shares for end in ((p.value, p.low, p.high, *p.exact) if p else [None] * 5)]
    counts = [r.row.test_images, len(r.outcomes), *(r.count(verdict) for verdict in Verdict)]
    seconds = r.seconds[0] if r.seconds else None
    return [r.remaining, r.row.unit, *cells, *counts, seconds, r.unstable, r.row.relus]


def _comparisons(duels: Sequence[compare.Duel]) -> Grid:
    """One row a network and rival; the p-values of rounds not chosen are adjusted for all rows only."""
    header = [
        "training",
        "method",
        "seed",
        "round",
        "remaining",
        "rival",
        "images",
        "only_rival",
        "only_method",
    ]
    header += ["gain", "gain_low", "gain_high", "p_value", "p_adjusted", "chosen", "p_adjusted_chosen"]
    rows = (
        [
            *(d.method.training, d.method.name, d.seed, d.network.number, d.network.remaining, d.rival),
            *(d.pair.images, d.pair.first_only, d.pair.second_only, d.pair.gain, *d.pair.interval),
            *(d.pair.p_value, d.adjusted, int(d.adjusted_chosen is not None), d.adjusted_chosen),
        ]
        for d in duels
    )
    return Grid.of("comparisons", header, rows)


def _anytime(sweep: Sweep) -> Grid:
    """One row a network and time limit: what would have been certified with that limit, and the upper side."""
    rows = (
        [method.training, method.name, branch.seed, r.number, limit, curve.lower(limit), curve.upper(limit)]
        for block in sweep.blocks
        for method in block.methods
        for branch in method.branches
        for r in branch.rounds
        if r.complete
        for curve in [anytime(r.outcomes)]
        for limit in [share * (branch.summary.limit or curve.last) for share in _LIMITS]
    )
    return Grid.of("anytime", ["training", "method", "seed", "round", "seconds", "certified", "upper"], rows)


def _tex_row(row: Row) -> str:
    left = f"{100 * row.remaining.mean:.3g}" if row.remaining.mean < 1 else "100"
    seeds = len(row.networks)
    shares = [_tex_share(row.standard, seeds), _tex_share(row.pgd, seeds)]
    shares += [_tex_share(row.certified, seeds, images=True), _tex_share(row.upper, seeds)]
    cells = [_tex(row.method.name), left, *shares]
    cells.append("--" if row.seconds is None else f"{row.seconds.mean:.3g}")
    return " & ".join(cells) + r" \\"


def _tex_share(found: Estimate | None, seeds: int, *, images: bool = False) -> str:
    if found is None:
        return "--"
    ends, there = found.seeds.interval, len(found.each)
    value, of = f"{100 * found.value:.1f}", f" ({there} of {seeds} seeds)" if there < seeds else ""
    if ends is not None:
        return rf"${value} \pm {50 * (ends[1] - ends[0]):.1f}${of}"
    if images:
        return f"{value} [{100 * found.interval[0]:.1f}, {100 * found.interval[1]:.1f}]{of}"
    return value + of


def _tex(text: str) -> str:
    """``text`` so that TeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
