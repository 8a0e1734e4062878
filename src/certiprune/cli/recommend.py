"""``certiprune recommend``: which of the networks of a run or of a sweep to take."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certiprune.cli.interrupt import on_interrupt
from certiprune.cli.words import aligned
from certiprune.core.errors import InputError
from certiprune.report.wish import DEFAULT_LOSS, Size, Want, Wish

if TYPE_CHECKING:
    from certiprune.report.recommend import Candidate, Recommendation
    from certiprune.report.statistics import Estimate, OverSeeds
    from certiprune.report.sweep.summary import Sweep


def recommend(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run or of a sweep.")],
    want: Annotated[
        Want, typer.Option(help="What is best among the networks that are good enough.")
    ] = Want.SMALLEST,
    within: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS",
            help="How many points of certified accuracy may be lost against the dense network: 1, or with "
            "--want certified and --certified any number.",
            show_default=False,
        ),
    ] = None,
    standard_within: Annotated[
        float | None,
        typer.Option(
            metavar="POINTS", help="How many points of standard accuracy may be lost.", show_default=False
        ),
    ] = None,
    certified: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="The least certified accuracy.", show_default=False),
    ] = None,
    standard: Annotated[
        float | None,
        typer.Option(metavar="PERCENT", help="The least standard accuracy.", show_default=False),
    ] = None,
    size: Annotated[
        Size,
        typer.Option(
            help="What a network's size is: parameters that are not pruned, parameters or multiply-adds of the network "
            "with dead channels taken out."
        ),
    ] = Size.NONZERO,
    training: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a sweep: only networks of this training.")
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            help="Verify this many validation images of every network first, where that has not been done.",
            show_default=False,
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="With --images: the time limit of an image; 2 by default.", show_default=False),
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", help="Where the datasets' files are.")] = None,
    out: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write what was found as JSON.")
    ] = None,
) -> None:
    """Name the network that serves a wish best, with the Pareto front of all.

    It is chosen on validation images by certified and standard accuracy, size and verification time; test images only
    say how good the choice is. Without --images the measure is the one by which training chose its epochs, such as
    accuracy under interval bounds, and the seconds are those of the test images. Status 1: no network is good enough.

    \b
    Example:
      certiprune recommend runs/sweep --within 1
      certiprune recommend runs/sweep --want fastest --certified 60 --images 100
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a run or of a sweep")
    if seconds is not None and images is None:
        raise InputError("--seconds is the limit of an image that --images verifies; give both")
    if out is not None and not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}")
    if out is not None and (out.is_dir() or out.suffix in (".sqlite", ".yaml", ".safetensors")):
        raise InputError(f"--json {out} would not be a file of JSON; name one, such as choice.json")
    from certiprune.report.recommend import recommend as choose

    if within is None and want is not Want.CERTIFIED and certified is None:
        within = 100 * DEFAULT_LOSS
    wish = Wish(
        want,
        _fraction("--within", within),
        _fraction("--standard-within", standard_within),
        _fraction("--certified", certified),
        _fraction("--standard", standard),
        size,
    )
    found = _networks(folder)
    if images is not None:
        _validate(found, training, images, 2.0 if seconds is None else seconds, data)
        found = _networks(folder)
    result = choose(found, wish, training=training)
    print("\n".join(_lines(result)))  # noqa: T201
    for text in found.apart:
        print(f"certiprune: note: {text}", file=sys.stderr)  # noqa: T201
    if out is not None:
        from certiprune.store import write_text

        write_text(out, json.dumps(_tree(result), indent=1) + "\n")
    if result.chosen is None:
        raise typer.Exit(1)


def _fraction(name: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value <= 100:
        raise InputError(f"{name} {value:g} must lie between 0 and 100")
    return None if value is None else value / 100


def _networks(folder: Path) -> Sweep:
    from certiprune.cli.report import asked
    from certiprune.report.sweep import summary
    from certiprune.store import SweepLayout

    if not SweepLayout(folder).sweep.is_file():
        return summary.of_run(folder)
    return summary.gather(asked(folder))


def _validate(found: Sweep, training: str | None, images: int, seconds: float, data: Path | None) -> None:
    """Verify validation images of every network that could be chosen; a shared dense network in one of its runs."""
    from certiprune.cli.progress import Meter
    from certiprune.experiment.events import Event
    from certiprune.experiment.validate import validate

    runs: dict[Path, list[tuple[str, int]]] = {}
    for block in found.blocks:
        for method in block.methods if training in (None, block.training) else ():
            for branch in method.branches:
                networks = runs.setdefault(branch.folder, [])
                networks += [(r.ladder, r.number) for r in branch.rounds if r.validation]
    hint = "what is finished is kept; the same command goes on"
    with on_interrupt(hint), Meter() as meter:
        for number, (run, networks) in enumerate(runs.items(), start=1):
            place = f"{number}/{len(runs)} " if len(runs) > 1 else ""

            def watch(event: Event, place: str = place) -> None:
                if not event.skipped:
                    meter.update(f"{place}{event.stage}", event.done, event.total, event.text)

            validate(run, networks, images=images, seconds=seconds, progress=watch, data_folder=data)


def _lines(result: Recommendation) -> Iterator[str]:
    """What is said on the terminal."""
    yield f"Chosen on validation images: {_measure(result)}."
    if result.on_test:
        yield "Seconds are of test images, since no validation images were verified (--images 100 does)."
    yield f"The Pareto front, {len(result.front)} of {len(result.candidates)} networks:"
    head = ("", "network", "left", "certified", "standard", result.wish.size.value, "s an image")
    yield from aligned([head, *(_row(c, result) for c in result.front)])
    for text in result.left_out:
        yield f"Left out: {text}."
    yield ""
    if result.chosen is None:
        yield f"No network is good enough: {_demands(result)}."
        return
    chosen = result.chosen
    yield f"Recommended, the {_WORDS[result.wish.want]} with {_demands(result)}:"
    yield f"  {chosen.name}, {chosen.row.remaining.mean:.1%} of the {chosen.row.unit} left"
    yield from aligned(list(_tested(result)))
    yield from _claims(result)
    best = chosen.best_seed
    yield f"The network (seed {chosen.branches[best].seed}): {_model(chosen, best)}"


_WORDS = {
    Want.SMALLEST: "smallest",
    Want.FASTEST: "quickest to verify",
    Want.CERTIFIED: "best certified",
    Want.STANDARD: "most accurate",
}


def _measure(result: Recommendation) -> str:
    if result.verified:
        images, _, limits = result.measure.partition("/")[2].partition("x")
        limits = limits.replace("x", ", nodes ")
        return f"certified accuracy by complete verification of {images} of them ({limits} each)"
    return f"for certified accuracy stands {result.measure}, by which training chose its epochs"


def _demands(result: Recommendation) -> str:
    wish, dense, found = result.wish, result.reference, []
    for name, least, loss in (
        ("certified", wish.certified, wish.certified_loss),
        ("standard", wish.standard, wish.standard_loss),
    ):
        if least is not None:
            found.append(f"at least {least:.1%} {name}")
        if loss is not None and dense is not None:
            own: OverSeeds = getattr(dense, name)
            found.append(f"{name} accuracy within {_points(loss)} of the dense network's {own.mean:.1%}")
    return " and ".join(found) or "nothing demanded"


def _points(loss: float) -> str:
    return "1 point" if round(100 * loss, 6) == 1 else f"{100 * loss:g} points"


def _row(candidate: Candidate, result: Recommendation) -> tuple[str, ...]:
    return (
        "*" if candidate is result.chosen else "",
        candidate.name,
        f"{candidate.row.remaining.mean:.1%} {candidate.row.unit}",
        f"{candidate.certified.mean:.1%}",
        f"{candidate.standard.mean:.1%}",
        f"{candidate.size.mean:,.0f}",
        f"{candidate.seconds.mean:.3g}",
    )


def _tested(result: Recommendation) -> Iterator[tuple[str, ...]]:
    """The chosen network and the dense one on test images."""
    yield ("on test images", "standard", "certified", "upper side", "s an image")
    for candidate in (result.reference, result.chosen):
        if candidate is None or (candidate is result.reference and candidate is result.chosen):
            continue
        row = candidate.row
        cells = [_share(share) for share in (row.standard, row.certified, row.upper)]
        yield (candidate.name, *cells, f"{row.seconds.mean:.3g}" if row.seconds else "-")


def _share(found: Estimate | None) -> str:
    if found is None:
        return "-"
    low, high = found.interval
    return f"{found.value:.1%} [{100 * low:.1f}, {100 * high:.1f}; {found.covers}]"


def _claims(result: Recommendation) -> Iterator[str]:
    """Whether test images show that the loss is as small as was asked for."""
    if not result.tickets:
        return
    claim = result.tickets[0].claim
    held = sum(ticket.holds for ticket in result.tickets)
    yield (
        f"That it is worse than its dense network by less than {_points(claim.margin)}, in standard and "
        f"certified accuracy, is shown on test images at {claim.confidence:.0%} confidence for {held} of "
        f"{len(result.tickets)} seeds (undecided images counted against it)."
    )


def _model(candidate: Candidate, place: int) -> Path:
    from certiprune.store import RunLayout

    network = candidate.networks[place]
    return RunLayout(candidate.branches[place].folder).round(network.ladder, network.number).model


def _tree(result: Recommendation) -> dict[str, Any]:
    """Everything, as JSON: accuracies are fractions, the front in order."""

    def one(candidate: Candidate | None) -> dict[str, Any] | None:
        if candidate is None:
            return None
        row = candidate.row
        shares = {
            "standard": row.standard,
            "pgd": row.pgd,
            "certified": row.certified,
            "upper": row.upper,
        }
        return {
            "training": candidate.method.training,
            "method": candidate.method.name,
            "round": candidate.number,
            "validation": {
                "certified": candidate.certified.mean,
                "standard": candidate.standard.mean,
                "size": candidate.size.mean,
                "seconds": candidate.seconds.mean,
            },
            "test": {
                name: {"mean": s.value, "interval": s.interval, "covers": s.covers}
                for name, s in shares.items()
                if s is not None
            },
            "networks": {b.seed: str(_model(candidate, place)) for place, b in enumerate(candidate.branches)},
        }

    wish = result.wish
    return {
        "wish": {
            "want": wish.want.value,
            "certified_loss": wish.certified_loss,
            "standard_loss": wish.standard_loss,
            "certified": wish.certified,
            "standard": wish.standard,
            "size": wish.size.value,
        },
        "measure": result.measure,
        "seconds_of": "test" if result.on_test else "validation",
        "reference": one(result.reference),
        "chosen": one(result.chosen),
        "front": [one(candidate) for candidate in result.front],
        "left_out": list(result.left_out),
    }
