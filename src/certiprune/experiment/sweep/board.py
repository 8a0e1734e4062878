"""Where every task of a running sweep stands, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from certiprune.experiment import pipeline
from certiprune.experiment.events import Event
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.pace import Pace
from certiprune.experiment.sweep.plan import Task
from certiprune.experiment.sweep.state import Found


class Kind(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class State:
    """One task.

    Attributes:
        left: its stages that are not finished, in order.
        stage: the one that runs, if any.
        share: how much of that is done.
        since, first: when it was begun (``time.monotonic``), and how much was done then.
        reason: why the task has failed.
    """

    task: Task
    kind: Kind
    left: list[pipeline.Stage]
    stages: int
    stage: pipeline.Stage | None = None
    share: float = 0.0
    since: float = 0.0
    first: float = 0.0
    reason: str = ""


@dataclass
class Board:
    """All tasks by name, in the order in which they are begun; ``most`` is how many have run at a time."""

    states: dict[str, State] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    most: int = 1

    @staticmethod
    def of(tasks: Sequence[Task], found: Sequence[Found]) -> Board:
        """The board of a sweep of which nothing is running, and ``found`` is there of each task."""
        board = Board()
        for task, there in zip(tasks, found, strict=True):
            stages = list(pipeline.stages(task.experiment))
            left = [stage for stage in stages if stage.name not in there.seconds]
            board.states[task.name] = State(task, Kind.WAITING if left else Kind.DONE, left, len(stages))
            for stage in stages:
                # What was copied from a dense run was counted there.
                if stage.name in there.seconds and (task.start is None or stage.work.ladder is not None):
                    board.pace.took(task.experiment, stage, there.seconds[stage.name])
        return board

    def of_kind(self, kind: Kind) -> list[State]:
        return [state for state in self.states.values() if state.kind == kind]

    def ready(self) -> list[Task]:
        """Tasks that can be begun: those that wait for no other."""
        waiting = (state.task for state in self.of_kind(Kind.WAITING))
        return [t for t in waiting if t.needs is None or self.states[t.needs].kind == Kind.DONE]

    def begun(self, task: Task) -> None:
        self.states[task.name].kind = Kind.RUNNING
        self.most = max(self.most, len(self.of_kind(Kind.RUNNING)))

    def take(self, news: Told | Ended) -> None:
        """Note what an executor has said."""
        state = self.states[news.task.name]
        if isinstance(news, Told):
            self._take(state, news.event)
            return
        state.kind, state.reason, state.stage = Kind.FAILED if news.error else Kind.DONE, news.error, None
        if not news.error:
            state.left = []

    def _take(self, state: State, event: Event) -> None:
        now = time.monotonic()
        stage = next((stage for stage in state.left if stage.name == event.stage), None)
        if stage is None:
            return
        if event.done == event.total:
            if not event.skipped and state.stage == stage:
                self.pace.took(state.task.experiment, stage, now - state.since)
            state.left = [other for other in state.left if other != stage]
            state.stage, state.share = None, 0.0
            return
        if state.stage != stage:
            state.stage, state.since, state.first = stage, now, event.done / event.total
        state.share = event.done / event.total

    def seconds_left(self, state: State) -> float | None:
        """How long a task will take yet, on its own; None where there is nothing to go by."""
        total = 0.0
        for stage in state.left:
            if state.task.start is not None and stage.work.ladder is None:
                continue
            whole = self.pace.expected(state.task.experiment, stage)
            if stage == state.stage and state.share - state.first > 0.1:
                # Its own speed says more than that of others.
                total += (time.monotonic() - state.since) * (1.0 - state.share) / (state.share - state.first)
            elif whole is None:
                return None
            else:
                total += whole * (1.0 - state.share) if stage == state.stage else whole
        return total

    def all_left(self) -> float | None:
        """How long all tasks will take with as many at a time as so far; None as for one task."""
        todo = [*self.of_kind(Kind.RUNNING), *self.of_kind(Kind.WAITING)]
        each = [self.seconds_left(state) for state in todo]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        return max([sum(known) / self.most, *known], default=0.0)

    def failures(self) -> list[tuple[Task, str]]:
        """What has failed and why; what could not be begun because its dense network has failed is among it."""
        failed = [(state.task, state.reason) for state in self.of_kind(Kind.FAILED)]
        names = {task.name for task, _ in failed}
        waiting = (state.task for state in self.of_kind(Kind.WAITING))
        return failed + [(t, f"its dense network failed ({t.needs})") for t in waiting if t.needs in names]
