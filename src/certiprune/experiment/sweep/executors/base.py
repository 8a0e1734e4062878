"""What runs tasks, seen from the sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from certiprune.experiment.events import Event
from certiprune.experiment.sweep.plan import Task


@dataclass(frozen=True)
class Told:
    """How far a running task is. Such news may be lost, and nothing depends on it."""

    task: Task
    event: Event


@dataclass(frozen=True)
class Ended:
    """A task runs no more; ``error`` says in one line why it is not done, and is empty where it is."""

    task: Task
    error: str = ""


class Executor(Protocol):
    """Runs tasks by ``perform``, several at a time, none of them in the process of the sweep itself.

    Every submitted task has exactly one ``Ended``, whatever becomes of its worker.
    """

    def room(self) -> bool:
        """Whether another task would be begun rather soon."""

    def submit(self, task: Task) -> None:
        """Have ``task`` run; returns at once."""

    def news(self, seconds: float) -> list[Told | Ended]:
        """What there is to say of the submitted tasks; waits for the first up to ``seconds``."""

    def close(self) -> None:
        """End every running task. What these have committed is kept."""
