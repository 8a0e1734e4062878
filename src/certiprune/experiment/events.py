"""What a running experiment tells the one who watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Stage ``stage`` has done ``done`` of its ``total`` units.

    Attributes:
        stage: such as ``magnitude/2/train``; the same name as in the table ``stages``.
        done: units (batches, images or a score's steps) finished so far; equal to ``total`` in the stage's last event.
        total: units of the whole stage, at least 1.
        text: what there is to say of it, such as an accuracy; empty where there is nothing.
        skipped: whether the stage was found committed and nothing was done.
    """

    stage: str
    done: int
    total: int
    text: str = ""
    skipped: bool = False


Watcher = Callable[[Event], None]


def unwatched(event: Event) -> None:
    """The watcher of a run that nobody watches."""
    del event
