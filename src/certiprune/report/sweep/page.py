"""The sweep's page: what its template shows, and the template filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from certiprune.report import canvas, html, layerwise, scales, surface
from certiprune.report import figures as single
from certiprune.report.statistics import Estimate
from certiprune.report.sweep import compare, figures
from certiprune.report.sweep.headline import sentences
from certiprune.report.sweep.summary import Method, Sweep, relative
from certiprune.report.sweep.table import Part, Row
from certiprune.report.tickets import Claim
from certiprune.report.words import eps_text
from certiprune.store.layout import RunLayout


@dataclass(frozen=True)
class Sheet:
    """The figures of one training, and those of each of its methods, layer by layer.

    Attributes:
        figures: by a name that can be a file's, such as ``certified-accuracy``.
        absent: the networks whose checkpoints would be needed and are not there.
    """

    name: str
    figures: Mapping[str, Markup]
    methods: Sequence[tuple[str, Sequence[Markup]]]
    absent: Sequence[str]


@dataclass(frozen=True)
class Link:
    """A run of the sweep; ``page`` is its own report, relative to the sweep's, where there is one."""

    training: str
    name: str
    seed: int
    folder: str
    page: str | None


def render(root: Path, sweep: Sweep, parts: list[Part], claim: Claim, sheets: list[Sheet]) -> str:
    """The whole page as HTML that asks for nothing from outside."""
    duels = compare.duels(sweep, parts)
    found, tickets = compare.comparisons(duels), compare.seed_tickets(parts, claim)
    verified = [r for block in sweep.blocks for m in block.methods for b in m.branches for r in b.rounds]
    return html.fill(
        "sweep.html.j2",
        sweep=sweep,
        parts=parts,
        setting=setting(sweep),
        headlines=sentences(sweep, parts, found, tickets),
        networks=len(verified),
        images=max((len(r.outcomes) for r in verified), default=0),
        equal=len({len(r.outcomes) for r in verified}) < 2,
        comparisons=found,
        duels=[duel for duel in duels if duel.adjusted_chosen is not None],
        claim=claim,
        tickets=tickets,
        sheets=sheets,
        surface=Markup(surface.figure()),
        links=links(root, sweep),
        interval=interval_text,
    )


def setting(sweep: Sweep) -> tuple[str, str, str]:
    """Datasets, models and radii, each once: trainings may differ in them."""
    runs = [run.summary for run in sweep.runs]
    radii = dict.fromkeys(eps_text(run.eps) for run in runs)
    datasets, models = dict.fromkeys(run.dataset for run in runs), dict.fromkeys(run.model for run in runs)
    return ", ".join(datasets), ", ".join(models), f"eps {', '.join(radii)}"


def links(root: Path, sweep: Sweep) -> list[Link]:
    """Every run with its own page."""
    found: dict[Path, Link] = {}
    for block in sweep.blocks:
        for method in (*block.pruned, *block.dense):
            for branch in method.branches:
                page = RunLayout(branch.folder).report
                there = quote(relative(root, page)) if page.is_file() else None
                link = Link(block.training, method.name, branch.seed, relative(root, branch.folder), there)
                found.setdefault(branch.folder, link)
    return list(found.values())


def interval_text(found: Estimate, digits: int = 1) -> str:
    """``[23.1, 41.0]``, in per cent."""
    low, high = found.interval
    return f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def files(sheets: Sequence[Sheet]) -> dict[str, str]:
    """Each training's figures as SVG files, by name: ``TRAINING-FIGURE.svg``."""
    return {
        f"{sheet.name.replace('/', '~')}-{name}.svg": canvas.standalone(svg)
        for sheet in sheets
        for name, svg in sheet.figures.items()
    }


def sheet(part: Part) -> Sheet:
    """The figures of one training."""
    block = part.block
    measured, absent = scales.collect(_checkpoints(part.rows))
    shares = {"standard accuracy": "standard", "PGD accuracy": "pgd", "certified accuracy": "certified"}
    shares["upper side"] = "upper"
    shown = {title: figures.by_sparsity(block, title, figures.share(key)) for title, key in shares.items()}
    shown |= {
        "unstable ReLUs": figures.by_round(
            block, "unstable ReLUs", lambda row: row.unstable, "share of all ReLUs"
        ),
        "verification": figures.by_round(block, "verification", lambda row: row.seconds, "seconds an image"),
        "time limit": figures.over_time(block, part.rows),
        "BatchNorm scales": scales.figure(f"{block.training}: BatchNorm scales", measured),
    }
    drawn = {title.lower().replace(" ", "-"): Markup(svg) for title, svg in shown.items() if svg}
    methods = [(method.name, _layers(method)) for method in block.pruned]
    return Sheet(block.training, drawn, [(name, svgs) for name, svgs in methods if svgs], absent)


def _layers(method: Method) -> list[Markup]:
    """One seed's layers: the first one's, because layers are looked at and not counted."""
    branch = method.branches[0]
    rounds, name = figures.path(branch), f"{method.training}, {method.name}"
    return _markup(
        [
            single.heat("relu", f"{name}: unstable ReLUs, %", rounds),
            single.heat("weights", f"{name}: weights left, %", rounds),
            layerwise.stability(name, rounds),
            layerwise.widths(name, rounds),
        ]
    )


def _checkpoints(rows: Sequence[Row]) -> dict[str, Path]:
    """Where the first seed's networks of these rows are kept."""
    found = {}
    for row in rows:
        branch = row.method.branches[0]
        network = branch.round(row.number)
        if network is not None:
            found[row.method.name] = RunLayout(branch.folder).round(network.ladder, network.number).model
    return found


def _markup(svgs: Sequence[str | None]) -> list[Markup]:
    return [Markup(svg) for svg in svgs if svg]
