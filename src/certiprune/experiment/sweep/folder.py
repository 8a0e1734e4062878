"""The folder of a sweep: for one process at a time, and only for the sweep that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from certiprune.core.errors import ConfigError
from certiprune.experiment.session import ADVICE, difference
from certiprune.experiment.sweep import config
from certiprune.experiment.sweep.config import Sweep
from certiprune.store import RunLayout, SweepLayout, alone, remove, write_text


@contextmanager
def claimed(sweep: Sweep, folder: Path, *, fresh: bool) -> Iterator[SweepLayout]:
    """``folder``, made if it is missing, for this process and for ``sweep`` until the block ends.

    ``fresh`` first removes what a sweep, whichever, has left in it, and nothing of folders that are no sweep's.

    Raises:
        InputError: a process is running a sweep in it, or it cannot be used.
        ConfigError: it belongs to another sweep, whose first difference is named, or to something else.
    """
    # Workers have other working folders.
    layout = SweepLayout(folder.absolute())
    with alone(layout.root, layout.lock):
        if fresh and layout.sweep.is_file():
            _clear(layout)
        if layout.sweep.is_file():
            before = config.load(layout.sweep)
            if change := difference(before.resolved(), sweep.resolved()):
                raise ConfigError(f"{folder} holds another sweep ({change}); {ADVICE}")
        else:
            others = (layout.cells, layout.dense, RunLayout(layout.root).records)
            if found := next((path for path in others if path.exists()), None):
                raise ConfigError(f"{found} exists and belongs to no sweep here; choose another folder")
            write_text(layout.sweep, config.dump(sweep))
        yield layout


def _clear(layout: SweepLayout) -> None:
    # The sweep file goes last: while it is there, the other files are known to be a sweep's.
    run = RunLayout(layout.root)
    remove(layout.cells, layout.dense, layout.slurm, run.tables, run.figures)
    run.report.unlink(missing_ok=True)
    layout.sweep.unlink()
