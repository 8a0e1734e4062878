"""The report of a run: one HTML page that needs nothing from outside, and its numbers as CSV."""

from __future__ import annotations

from pathlib import Path

from certiprune.core.errors import InputError

__all__ = ["write"]


def write(folder: Path) -> Path:
    """Write ``report.html`` and ``tables/*.csv`` into the run's ``folder``; returns the page's path.

    A run that is not finished is reported as far as it is, and the page says what is missing. Each file is
    replaced atomically, and the same records give the same bytes.

    Raises:
        InputError: the folder holds no results, they cannot be read or are empty, or it cannot be written.
    """
    # Matplotlib and Jinja take longer to load than most commands take to run.
    from certiprune.report import page, scales, summary, tables
    from certiprune.store.commit import write_text
    from certiprune.store.layout import RunLayout

    layout = RunLayout(Path(folder))
    found = summary.read(layout.records)
    html = page.render(found, checkpoints=scales.paths(layout, page.ends(found)))
    try:
        for name, text in tables.files(found).items():
            write_text(layout.tables / name, text)
        write_text(layout.report, html)
    except OSError as error:
        raise InputError(f"cannot write the report into {folder}: {error.strerror or error}") from error
    return layout.report
