"""Tasks in processes of this machine, a new one for each, so that nothing of a task outlives it but its folder."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from certiprune.core import processes
from certiprune.experiment.events import Event
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.perform import Means, perform, reason
from certiprune.experiment.sweep.plan import Task


class Processes:
    """Up to ``jobs`` tasks at a time, each with ``means``. See ``Executor``."""

    def __init__(self, jobs: int, means: Means) -> None:
        self._jobs, self._means = jobs, means
        self._running: dict[Connection, tuple[BaseProcess, Task]] = {}

    def room(self) -> bool:
        return len(self._running) < self._jobs

    def submit(self, task: Task) -> None:
        process, pipe = processes.start(_serve, task, self._means)
        self._running[pipe] = (process, task)

    def news(self, seconds: float) -> list[Told | Ended]:
        return [
            self._news_of(pipe) for pipe in wait(list(self._running), seconds) if isinstance(pipe, Connection)
        ]

    def _news_of(self, pipe: Connection) -> Told | Ended:
        process, task = self._running[pipe]
        try:
            said = pipe.recv()
        except (EOFError, OSError):
            said = f"the worker {processes.ending(process, 'take fewer --jobs')}"
        if isinstance(said, Event):
            return Told(task, said)
        del self._running[pipe]
        processes.stop([(process, pipe)])
        return Ended(task, said)

    def close(self) -> None:
        processes.stop([(process, pipe) for pipe, (process, _) in self._running.items()])
        self._running.clear()


def _serve(pipe: Connection, task: Task, means: Means) -> None:
    """A worker's life; runs in a process of its own."""
    processes.end_with_parent()
    said = ""
    try:
        perform(task, means, pipe.send)
    except Exception as error:
        said = reason(error)
    # The parent may have gone.
    with suppress(BrokenPipeError):
        pipe.send(said)
