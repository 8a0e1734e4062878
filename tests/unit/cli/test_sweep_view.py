"""What people see of a running sweep."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from certiprune.cli.sweep_view import View, line, table
from certiprune.experiment import sweep
from certiprune.experiment.events import Event
from certiprune.experiment.sweep.board import Board
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.run import Begun
from certiprune.experiment.sweep.state import Found
from certiprune.store import SweepLayout

TEXT = "{training: [fgsm], pruning: [imp, imp+rs], seeds: [0, 1]}"
TASKS = sweep.tasks(sweep.grid(sweep.parse(TEXT)), SweepLayout(Path("s")))


def board() -> Board:
    """One task has failed, one runs, the others wait."""
    found = Board.of(TASKS, [Found()] * len(TASKS))
    for task in TASKS[:2]:
        found.begun(task)
    found.take(Ended(TASKS[0], "the [red] data is missing"))
    found.take(Told(TASKS[1], Event("dense/0/train", 3, 10)))
    return found


def shown(height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=160)
    console.print(table(board(), height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_table_has_a_row_for_every_task() -> None:
    lines = shown(40)
    assert lines[0].split("left")[0].strip() == "0 of 8 tasks done, 1 running, 1 failed"
    rows = {words[0]: text for text in lines[2:] if (words := text.split())}
    assert list(rows) == [task.name for task in TASKS]
    assert "the [red] data is missing" in rows[TASKS[0].name]
    assert rows[TASKS[1].name].split()[-2:] == ["dense/0/train", "30%"]
    assert f"after {TASKS[1].name}" in rows["cells/fgsm/imp/seed-1"]
    assert "waiting" in rows[TASKS[2].name] and "after" not in rows[TASKS[2].name]


def test_where_not_all_fit_what_happens_comes_first() -> None:
    lines = shown(3)
    assert [text.split()[0] for text in lines[2:4]] == [TASKS[1].name, TASKS[0].name]
    assert lines[-1].strip() == "and 5 more"


def test_elsewhere_there_is_a_line_for_what_happens(capsys) -> None:
    found, (first, second, *_) = board(), TASKS
    with View() as view:
        for news in (
            None,
            Begun(second),
            Told(second, Event("dense/0/train", 3, 10)),
            Told(second, Event("dense/0/train", 10, 10, "accuracy 90%")),
            Told(second, Event("dense/0/verify", 1, 1, skipped=True)),
            None,
            Ended(first, "no data"),
        ):
            view.show(found, news)
    assert capsys.readouterr().err.splitlines() == [
        "0 of 8 tasks done, 1 running, 1 failed",
        f"{second.name}: begun",
        f"{second.name}: dense/0/train: accuracy 90%",
        f"{first.name}: failed: no data",
    ]
    assert line(found, Ended(second)) == f"{second.name}: done (0 of 8 tasks done, 1 running, 1 failed)"
