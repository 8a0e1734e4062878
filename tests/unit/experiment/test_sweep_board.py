"""Where tasks stand, in which order they can be begun, and how long they will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.experiment import pipeline, sweep
from certiprune.experiment.events import Event
from certiprune.experiment.sweep import board as boards
from certiprune.experiment.sweep.board import Board, Kind
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.state import Found
from certiprune.store import SweepLayout

TEXT = "{training: [fgsm, ibp], pruning: [imp, snip], keep: [0.5]}"
TASKS = sweep.tasks(sweep.grid(sweep.parse(TEXT)), SweepLayout(Path("s")))
FGSM, IBP, *CELLS = TASKS


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr(boards.time, "monotonic", lambda: now[0])
    return now


def finish(board: Board, clock: list[float], task: sweep.Task, seconds: dict[str, float]) -> None:
    """A task goes through its stages, and those of each step take so long."""
    board.begun(task)
    for stage in pipeline.stages(task.experiment):
        board.take(Told(task, Event(stage.name, 0, 10)))
        clock[0] += seconds[stage.step]
        board.take(Told(task, Event(stage.name, 10, 10, "done")))
    board.take(Ended(task))


def nothing() -> Board:
    return Board.of(TASKS, [Found()] * len(TASKS))


SECONDS = {"initial": 0.0, "prune": 1.0, "train": 40.0, "evaluate": 2.0, "verify": 8.0}


def test_cells_wait_for_their_dense_network() -> None:
    board = nothing()
    assert board.ready() == [FGSM, IBP]
    board.begun(FGSM)
    assert board.ready() == [IBP]
    board.take(Ended(FGSM))
    assert board.ready() == [IBP, *CELLS[:2]]
    assert [state.task for state in board.of_kind(Kind.DONE)] == [FGSM]


def test_what_a_failure_stops_is_reported_with_it() -> None:
    board = nothing()
    board.begun(FGSM)
    board.take(Ended(FGSM, "no data"))
    assert board.ready() == [IBP]
    because = f"its dense network failed ({FGSM.name})"
    assert board.failures() == [(FGSM, "no data"), (CELLS[0], because), (CELLS[1], because)]


def test_what_is_committed_is_done(clock: list[float]) -> None:
    stages = {stage.name: SECONDS[stage.step] for stage in pipeline.stages(FGSM.experiment)}
    board = Board.of(TASKS, [Found(stages, 1), *[Found()] * 5])
    assert [state.task for state in board.of_kind(Kind.DONE)] == [FGSM]
    assert board.ready() == [IBP, *CELLS[:2]]
    assert board.seconds_left(board.states[CELLS[0].name]) == pytest.approx(50.0)


def test_time_left_goes_by_what_is_finished(clock: list[float]) -> None:
    board = nothing()
    assert board.all_left() is None
    finish(board, clock, FGSM, SECONDS)
    # A cell's dense network is copied, its pruning is taken for quick, and IBP is taken to be as fast as FGSM.
    assert board.seconds_left(board.states[CELLS[0].name]) == pytest.approx(50.0)
    assert board.seconds_left(board.states[IBP.name]) == pytest.approx(50.0)
    assert board.all_left() == pytest.approx(5 * 50.0)
    board.begun(IBP)
    board.begun(CELLS[0])
    assert board.all_left() == pytest.approx(5 * 50.0 / 2)
    finish(board, clock, IBP, {**SECONDS, "train": 400.0})
    assert board.seconds_left(board.states[CELLS[1].name]) == pytest.approx(50.0)
    assert board.seconds_left(board.states[CELLS[2].name]) == pytest.approx(410.0)


def test_a_running_stage_goes_by_its_own_speed(clock: list[float]) -> None:
    board = nothing()
    finish(board, clock, FGSM, SECONDS)
    board.begun(CELLS[0])
    board.take(Told(CELLS[0], Event("imp/1/prune", 1, 1, "kept")))
    # It was resumed in the middle: the first half says nothing about its speed.
    board.take(Told(CELLS[0], Event("imp/1/train", 50, 100)))
    state = board.states[CELLS[0].name]
    assert board.seconds_left(state) == pytest.approx(0.5 * 40 + 10)
    clock[0] += 100
    board.take(Told(CELLS[0], Event("imp/1/train", 75, 100)))
    assert state.stage is not None and state.stage.name == "imp/1/train"
    assert board.seconds_left(state) == pytest.approx(100 + 10)


def test_news_of_stages_that_are_done_change_nothing() -> None:
    board = nothing()
    board.begun(FGSM)
    for _ in range(2):
        board.take(Told(FGSM, Event("dense/0/initial", 1, 1, skipped=True)))
    state = board.states[FGSM.name]
    assert [stage.step for stage in state.left] == ["train", "evaluate", "verify"] and state.stage is None
