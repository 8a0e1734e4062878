"""Progress on a terminal (one moving bar with the time left) or, elsewhere, a plain line now and then."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 10.0


class Meter:
    """Shows how far named stages have come, on standard error; use it as a context manager.

    A finished stage leaves one line with its text behind, on a terminal and elsewhere alike.
    """

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._since = self._shown = 0.0
        self._first = 0

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, stage: str, done: int, total: int, text: str = "") -> None:
        """``stage`` has done ``done`` of ``total`` units; ``text`` is shown beside it."""
        now = time.monotonic()
        if stage != self._stage:
            # What was there when the stage began says nothing about how fast it is.
            self._stage, self._since, self._shown, self._first = stage, now, now, done
            if self._bar is not None:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(stage, total=total, text="")
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        if done >= total:
            self.line(f"{stage}: {text or 'done'} ({clock(now - self._since)})")
            self._stage = ""
        elif self._bar is None and now - self._shown >= SECONDS_BETWEEN_LINES:
            self._shown = now
            new = done - self._first
            left = f", about {clock((now - self._since) / new * (total - done))} left" if new else ""
            self.line(f"{stage}: {done}/{total}{left}{f'; {text}' if text else ''}")

    def line(self, text: str) -> None:
        """One line that stays."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201


def clock(seconds: float) -> str:
    """``seconds`` for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds + 0.5) // 60
    return (
        f"{minutes} min {int(seconds + 0.5) % 60} s"
        if minutes < 60
        else f"{minutes // 60} h {minutes % 60} min"
    )
