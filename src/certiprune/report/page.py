"""The page: everything that the template shows, and the template filled in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from certiprune.report import canvas, curves, figures, gallery, html, layerwise, overtime, scales, tickets
from certiprune.report.headline import caution, sentences
from certiprune.report.missing import missing
from certiprune.report.statistics import anytime
from certiprune.report.summary import Round, Summary, name_of
from certiprune.report.tables import Comparison, comparisons
from certiprune.report.words import number, percent, seconds_text
from certiprune.store.layout import DENSE
from certiprune.store.rows import EpochRow

_LAYERWISE = (layerwise.stability, layerwise.widths, layerwise.spread)


@dataclass(frozen=True)
class Fact:
    """A number worth a glance, and what it says."""

    value: str
    text: str


@dataclass(frozen=True)
class Album:
    """A round's gallery; ``open`` where the page shows it at once."""

    name: str
    cards: Sequence[gallery.Card]
    open: bool


@dataclass(frozen=True)
class Course:
    """The figures over the epochs of one network; ``open`` where the page shows them at once."""

    name: str
    figures: Sequence[Markup]
    open: bool


def render(
    summary: Summary, claim: tickets.Claim | None = None, checkpoints: Mapping[str, Path] | None = None
) -> str:
    """The whole page as HTML that asks for nothing from outside.

    Args:
        claim: what is tested of tickets; the default one where it is None.
        checkpoints: names of networks and the files that hold them, for what the records do not have.
    """
    found, claim = comparisons(summary), claim or tickets.Claim()
    measured, absent = scales.collect(checkpoints or {})
    return html.fill(
        "report.html.j2",
        run=summary,
        headlines=sentences(summary, found),
        caution=caution(summary, found),
        missing=missing(summary),
        facts=facts(summary, found),
        ladders=summary.ladders,
        comparisons=found,
        claim=claim,
        tickets=tickets.of_run(summary, claim),
        accuracy=accuracy_figures(summary),
        comparison=comparison_figures(summary),
        layers=[
            *layer_figures(summary),
            *_markup([scales.figure("BatchNorm scales", measured, width=canvas.WIDE)]),
        ],
        absent=absent,
        cost=cost_figures(summary),
        training=training_figures(summary),
        courses=epoch_figures(summary),
        albums=albums(summary),
        config=_yaml(summary.meta.get("config")),
        environment=_flat(summary.meta.get("environment")),
        digest=str(summary.meta.get("digest", "")),
    )


def facts(summary: Summary, found: Sequence[Comparison]) -> list[Fact]:
    """The sparsest verified network beside the dense one, and how much was verified, in a few numbers."""
    dense, verified = summary.dense, [r for r in summary.rounds if r.outcomes]
    shown: list[Fact] = []
    if dense is not None and dense.certified and not found:
        shown.append(Fact(percent(dense.certified.value), "certified, dense network"))
    if dense is not None and found:
        sparsest = min((c.round for c in found), key=lambda r: r.remaining)
        of = f"of {number(sparsest.row.total)} prunable {sparsest.row.unit} left in {sparsest.name}"
        of += ", the sparsest network"
        shown.append(Fact(percent(sparsest.remaining), of))
        for name, key in (("certified", "certified"), ("standard accuracy", "standard")):
            before, after = getattr(dense, key), getattr(sparsest, key)
            if before and after:
                text = f"{name}, {sparsest.name} (dense: {percent(before.value)})"
                shown.append(Fact(percent(after.value), text))
    if verified:
        images = max(len(r.outcomes) for r in verified)
        seconds = sum(r.seconds[0] for r in verified if r.seconds)
        shown.append(Fact(number(images), f"test images verified, {_plural(len(verified), 'network')}"))
        shown.append(Fact(seconds_text(seconds), "of verification in all"))
    return shown


def accuracy_figures(summary: Summary) -> list[Markup]:
    """Each ladder's accuracies against sparsity."""
    ladders = summary.ladders.items()
    return [Markup(figures.measures(name, rounds)) for name, rounds in ladders if rounds]


def comparison_figures(summary: Summary) -> list[Markup]:
    """The ladders beside each other, then the verdicts of each."""
    titles = {"certified": "Certified accuracy", "standard": "Standard accuracy", "pgd": "PGD accuracy"}
    several, verified = len(summary.ladders) > 1, _verified(summary)
    shown = [figures.comparison(key, title, summary.ladders) for key, title in titles.items() if several]
    shown += [figures.stacks("verdict", f"{name}: verdicts", rounds) for name, rounds in verified.items()]
    return [Markup(svg) for svg in shown]


def layer_figures(summary: Summary) -> list[Markup]:
    """Unstable neurons and weights left, layer by layer, one figure a ladder."""
    titles = {"relu": "unstable ReLUs, %", "weights": "weights left, %"}
    shown = [
        figures.heat(kind, f"{name}: {title}", rounds)
        for name, rounds in summary.ladders.items()
        for kind, title in titles.items()
    ]
    shown += [draw(name, rounds) for name, rounds in summary.ladders.items() for draw in _LAYERWISE]
    return _markup(shown)


def cost_figures(summary: Summary) -> list[Markup]:
    """What verification cost, and which stage decided, one row of figures a ladder."""
    shown: list[Markup] = []
    for name, rounds in _verified(summary).items():
        shown.append(Markup(figures.cost("seconds", f"{name}: seconds", rounds)))
        shown.append(Markup(figures.cost("nodes", f"{name}: subproblems", rounds)))
        shown.append(Markup(figures.stacks("stage", f"{name}: what decided", rounds)))
        answered = {r.name: anytime(r.outcomes) for r in canvas.few([r for r in rounds if r.complete])}
        shown += _markup([overtime.figure(f"{name}: by time limit", answered, summary.limit)])
    return shown


def training_figures(summary: Summary) -> list[Markup]:
    """The training of every round, in the order of the ladders."""
    return _markup([curves.training(name, epochs) for name, epochs in _trainings(summary)])


def epoch_figures(summary: Summary) -> list[Course]:
    """What else was recorded of the epochs of every round, in the order of the ladders; the first is open."""
    draw = (
        curves.accuracies,
        curves.parts,
        curves.schedule,
        curves.unstable,
        curves.stability,
        curves.widths,
    )
    shown = [(name, _markup([f(name, epochs) for f in draw])) for name, epochs in _trainings(summary)]
    courses = [(name, svgs) for name, svgs in shown if svgs]
    return [Course(name, svgs, number == 0) for number, (name, svgs) in enumerate(courses)]


def _trainings(summary: Summary) -> list[tuple[str, list[EpochRow]]]:
    """Every round that was trained: its name and its epochs."""
    found: dict[tuple[str, int], list[EpochRow]] = {}
    for epoch in summary.epochs:
        found.setdefault((epoch.ladder, epoch.round), []).append(epoch)
    return [(name_of(*key), epochs) for key, epochs in found.items()]


def ends(summary: Summary) -> list[Round]:
    """The dense network and the last round of each ladder."""
    return list(dict.fromkeys(r for rounds in summary.ladders.values() for r in (rounds[:1] + rounds[-1:])))


def albums(summary: Summary) -> list[Album]:
    """A gallery for every round that has stored images; the first and each ladder's last are open."""
    last = {rounds[-1].name for rounds in summary.ladders.values() if rounds}
    shown = [(r, gallery.cards(summary, r)) for r in summary.rounds]
    return [Album(r.name, cards, r.ladder == DENSE or r.name in last) for r, cards in shown if cards]


def _verified(summary: Summary) -> dict[str, list[Round]]:
    found = {name: [r for r in rounds if r.outcomes] for name, rounds in summary.ladders.items()}
    return {name: rounds for name, rounds in found.items() if rounds}


def _markup(svgs: Sequence[str | None]) -> list[Markup]:
    return [Markup(svg) for svg in svgs if svg]


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _yaml(config: Any) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else ""


def _flat(environment: Any) -> dict[str, str]:
    if not isinstance(environment, Mapping):
        return {}
    return {
        str(key): ", ".join(map(str, v)) if isinstance(v, list) else str(v) for key, v in environment.items()
    }
