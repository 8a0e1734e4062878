"""``certiprune report``: tables and figures of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from certiprune.core.errors import InputError


def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of a run, finished or not.")],
) -> None:
    """Write a run's tables and one self-contained HTML page; it only reads results.

    \b
    Example:
      certiprune report demo-run
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the folder of a run")
    from certiprune import report as reports

    print(reports.write(folder))  # noqa: T201
