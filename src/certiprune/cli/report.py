"""``certiprune report``: tables and figures of a run or of a sweep."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.report.sweep import Cell


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder of a run or of a sweep, finished or not.")
    ],
    margin: Annotated[
        float | None,
        typer.Option(
            help="Of a sweep: how much worse, as a fraction, a lottery ticket may be.", show_default=False
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Of a sweep: the validation metric that chooses each method's round, such as statistics/crown.",
            show_default=False,
        ),
    ] = None,
    parquet: Annotated[bool, typer.Option(help="Of a sweep: write every table as Parquet, too.")] = False,
    figures: Annotated[bool, typer.Option(help="Of a sweep: write its figures as SVG files, too.")] = False,
) -> None:
    """Write the tables and one self-contained HTML page of a run or of a sweep; it only reads results.

    \b
    Example:
      certiprune report demo-run
      certiprune report runs/sweep --margin 0.01
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a run")
    from certiprune import report as reports
    from certiprune.store import SweepLayout

    if SweepLayout(folder).sweep.is_file():
        print(sweep_page(folder, margin=margin, by=by, parquet=parquet, figures=figures))  # noqa: T201
        return
    if margin is not None or by is not None or parquet or figures:
        raise InputError(
            f"--margin, --by, --parquet and --figures are for the folder of a sweep, and {folder} is none"
        )
    print(reports.write(folder))  # noqa: T201


def sweep_page(
    folder: Path,
    *,
    margin: float | None = None,
    by: str | None = None,
    parquet: bool = False,
    figures: bool = False,
) -> Path:
    """Write the page of the sweep in ``folder`` and those of its cells that have results; returns the sweep's.

    Raises:
        InputError: no cell has results yet, or an option does not fit.
    """
    from certiprune import report as reports
    from certiprune.report import sweep
    from certiprune.store import RunLayout

    found = asked(folder)
    claim = None if margin is None else sweep.Claim(margin=margin)
    for cell in found:
        if RunLayout(cell.folder).records.is_file():
            # A cell that was cut off before its first epoch has nothing to report; the sweep's page says so.
            with suppress(InputError):
                reports.write(cell.folder)
    return sweep.write(folder, found, claim=claim, by=by, parquet=parquet, figures=figures)


def asked(folder: Path) -> list[Cell]:
    """The runs that the sweep in ``folder`` asks for, there or not."""
    from certiprune.experiment.sweep import cells
    from certiprune.report.sweep import Cell

    return [Cell(c.training, c.pruning, c.seed, c.folder, c.digest) for c in cells(folder)]
