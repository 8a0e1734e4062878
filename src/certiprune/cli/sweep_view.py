"""A running sweep as people see it: a live table on a terminal and, elsewhere, a line for everything that happens."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from certiprune.cli.progress import clock
from certiprune.experiment.sweep.board import Board, Kind, State
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.run import Begun, News

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_SECONDS_BETWEEN_TABLES = 0.25
# What stands above, below and between the rows.
_LINES_AROUND = 5


class View:
    """Shows a board on standard error; use it as a context manager."""

    def __init__(self) -> None:
        self._live: Live | None = None
        self._shown = 0.0
        self._begun = False

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, board: Board, news: News) -> None:
        """``board`` as it is now, after ``news``."""
        if self._live is not None:
            now = time.monotonic()
            if isinstance(news, Ended) or now - self._shown >= _SECONDS_BETWEEN_TABLES:
                self._shown = now
                self._live.update(table(board, self._live.console.height - _LINES_AROUND), refresh=True)
            return
        text = line(board, news) if self._begun else summary(board)
        self._begun = True
        if text:
            print(text, file=sys.stderr, flush=True)  # noqa: T201


def line(board: Board, news: News) -> str:
    """What ``news`` says, in a line; empty where it is not worth one."""
    match news:
        case Begun(task):
            return f"{task.name}: begun"
        case Ended(task, ""):
            return f"{task.name}: done ({summary(board)})"
        case Ended(task, reason):
            return f"{task.name}: failed: {reason}"
        case Told(task, event) if event.done == event.total and not event.skipped:
            return f"{task.name}: {event.stage}: {event.text or 'done'}"
    return ""


def summary(board: Board) -> str:
    """How far the whole sweep is."""
    counts = [f"{len(board.of_kind(Kind.DONE))} of {len(board.states)} tasks done"]
    counts += [
        f"{len(found)} {kind}" for kind in (Kind.RUNNING, Kind.FAILED) if (found := board.of_kind(kind))
    ]
    left = board.all_left()
    if left:
        counts.append(f"about {clock(left)} left")
    return ", ".join(counts)


def table(board: Board, height: int) -> Table:
    """A row a task; where not all fit into ``height``, first what runs, what has failed, and what comes next."""
    from rich.table import Table

    found = Table(title=summary(board), title_justify="left", box=None, pad_edge=False)
    for name in ("task", "state", "stage", "of it", "left"):
        found.add_column(
            name, no_wrap=name != "stage", justify="right" if name in ("of it", "left") else "left"
        )
    states = list(board.states.values())
    if len(states) > height:
        order = (Kind.RUNNING, Kind.FAILED, Kind.WAITING, Kind.DONE)
        states.sort(key=lambda state: order.index(state.kind))
    for state in states[: max(1, height)]:
        found.add_row(*_row(board, state))
    if len(states) > height:
        found.caption = f"and {len(states) - max(1, height)} more"
    return found


def _row(board: Board, state: State) -> tuple[str, str, str, str, str]:
    from rich.markup import escape

    stage = share = left = ""
    if state.kind == Kind.RUNNING:
        stage = state.stage.name if state.stage else "starting"
        share = f"{state.share:.0%}" if state.stage else ""
        seconds = board.seconds_left(state)
        left = "" if seconds is None else clock(seconds)
    elif state.kind == Kind.WAITING:
        stage = f"after {state.task.needs}" if state.task.needs and state.task not in board.ready() else ""
    elif state.kind == Kind.FAILED:
        stage = state.reason
    name = f"{state.task.name} ({state.task.text})" if state.task.needs is None else state.task.name
    return escape(name), str(state.kind), escape(stage), share, left
