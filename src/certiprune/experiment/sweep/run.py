"""Run what is left of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from certiprune.core.errors import InputError
from certiprune.experiment.session import ADVICE
from certiprune.experiment.sweep import plan, state
from certiprune.experiment.sweep.board import Board, Kind
from certiprune.experiment.sweep.config import Sweep
from certiprune.experiment.sweep.executors.base import Ended, Executor, Told
from certiprune.experiment.sweep.folder import claimed
from certiprune.experiment.sweep.plan import Task


@dataclass(frozen=True)
class Begun:
    """A task has been given to the executor."""

    task: Task


News = Begun | Told | Ended | None
Watcher = Callable[[Board, News], None]
"""Is told of everything that changes, once the board shows it, and now and then of nothing (None)."""

TICK = 1.0
"""Seconds after which a watcher hears that nothing has changed."""


def unwatched(board: Board, news: News) -> None:
    """The watcher of a sweep that nobody watches."""
    del board, news


def run(
    sweep: Sweep,
    folder: str | Path,
    executor: Executor,
    *,
    watch: Watcher = unwatched,
    fresh: bool = False,
    threads: int | None = None,
    keep_going: bool = True,
    name: str = "sweep",
) -> list[tuple[Task, str]]:
    """Do what is left of ``sweep`` in ``folder``, and return the tasks that failed, each with its reason.

    What is done is what the records of the runs in the folder say: after a kill of this process or of a worker, the
    same call goes on, and tries again what failed. A failed task does not stop the others. The executor is closed at
    the end, however that comes.

    Args:
        fresh: remove first what an earlier sweep left in the folder.
        threads: refuse runs that were begun with another number of CPU threads.
        keep_going: begin other tasks after one has failed; otherwise only those that run are finished.
        name: what errors call the sweep's file.

    Raises:
        ConfigError: an experiment of the sweep is not valid, or the folder belongs to another sweep.
        InputError: a process is running a sweep in the folder, or a run in it has another number of threads.
    """
    try:
        planned = plan.grid(sweep, name=name)
        with claimed(sweep, Path(folder), fresh=fresh) as layout:
            tasks = plan.tasks(planned, layout)
            found = [state.find(task) for task in tasks]
            _same_threads(tasks, found, threads)
            board = Board.of(tasks, found)
            watch(board, None)
            _drive(board, executor, watch, keep_going)
            return board.failures()
    finally:
        executor.close()


def _same_threads(tasks: Sequence[Task], found: Sequence[state.Found], threads: int | None) -> None:
    for task, there in zip(tasks, found, strict=True):
        if threads is not None and there.threads not in (None, threads):
            begun = f"{task.folder} was begun with {there.threads} threads"
            raise InputError(f"{begun}, and {threads} would give other numbers; {ADVICE}")


def _drive(board: Board, executor: Executor, watch: Watcher, keep_going: bool) -> None:
    while True:
        if keep_going or not board.of_kind(Kind.FAILED):
            for task in board.ready():
                if not executor.room():
                    break
                executor.submit(task)
                board.begun(task)
                watch(board, Begun(task))
        if not board.of_kind(Kind.RUNNING):
            return
        news = executor.news(TICK)
        for item in news:
            board.take(item)
            watch(board, item)
        if not news:
            watch(board, None)
