"""The report of a sweep: the study's table over trainings, methods of pruning and seeds, with tests and figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from certiprune.core.errors import InputError
from certiprune.report.sweep.summary import Cell
from certiprune.report.tickets import Claim

__all__ = ["Cell", "Claim", "write"]


def write(
    folder: Path,
    cells: Iterable[Cell],
    *,
    claim: Claim | None = None,
    by: str | None = None,
    parquet: bool = False,
    figures: bool = False,
) -> Path:
    """Write ``report.html`` and ``tables/`` into the sweep's ``folder``; returns the page's path.

    A sweep that is not finished is reported as far as it is, and the page says what is missing. Each file is replaced
    atomically, and the same records give the same bytes.

    Args:
        cells: the runs, in the order of the table.
        claim: margin and confidence of certified lottery tickets; 2 points at 95 % where it is None.
        by: the metric on validation images that each method's round is chosen by (such as ``statistics/crown``), in
            place of the one that training chose its epoch by.
        parquet: whether to write every table as Parquet, too.
        figures: whether to write each training's figures as SVG files, too, into ``figures/``.

    Raises:
        InputError: no cell has results, ``by`` is no accuracy on validation images or recorded of no network, pyarrow
            is asked for and not installed, or the folder cannot be written.
    """
    from certiprune.report import grid
    from certiprune.report.summary import SPENT
    from certiprune.report.sweep import export, page, summary, table
    from certiprune.store.commit import write_bytes, write_text
    from certiprune.store.layout import RunLayout

    if parquet:
        grid.require_parquet()
    layout = RunLayout(Path(folder))
    found = summary.gather(cells)
    parts = table.parts(found, by)
    if by is not None and not any(part.measure for part in parts):
        raise InputError(f"no network has {by!r} of the epoch that was kept; choose rounds by another metric")
    if by is not None and (by.startswith(SPENT) or not by.startswith(("validation_", "statistics/"))):
        raise InputError(
            f"{by!r} is no accuracy on validation images, of which more is better; "
            "choose rounds by one, such as validation_accuracy or statistics/crown"
        )
    claim = claim or Claim()
    sheets = [page.sheet(part) for part in parts]
    html = page.render(layout.root, found, parts, claim, sheets)
    tables = export.tables(layout.root, found, parts, claim)
    texts = {f"{one.name}.csv": one.csv() for one in tables}
    texts |= {"table.tex": export.latex(parts), "references.bib": export.references(found)}
    columns = {f"{one.name}.parquet": one.parquet() for one in tables} if parquet else {}
    try:
        for name, text in texts.items():
            write_text(layout.tables / name, text)
        for name, text in page.files(sheets).items() if figures else ():
            write_text(layout.figures / name, text)
        for name, data in columns.items():
            write_bytes(layout.tables / name, data)
        write_text(layout.report, html)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror or error}") from error
    return layout.report
