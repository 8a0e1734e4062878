"""A sweep in seconds, and ways to run it: in this process, and in processes that are killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from facts import epochs

from certiprune.core import processes
from certiprune.experiment import sweep
from certiprune.experiment.events import Event
from certiprune.experiment.sweep import run as runs
from certiprune.experiment.sweep.board import Board
from certiprune.experiment.sweep.executors.base import Ended, Told
from certiprune.experiment.sweep.executors.local import Processes
from certiprune.experiment.sweep.perform import Means, perform, reason
from certiprune.experiment.sweep.plan import Task
from certiprune.store import RunLayout

TINY = """
training: [fgsm]
pruning: [imp, snip, imp+rs]
keep: [0.5]
set:
  data: {train_limit: 200}
  model: {width: 0.5}
  train: {epochs: 2, batch_size: 50, eps: 0.05, statistics: {every: 0}}
  evaluate: {images: 20, unstable_images: 2, pgd_steps: 1}
  verify: {eps: 0.01, images: 3, nodes: 5}
"""
PART = TINY.replace("[imp, snip, imp+rs]", "[imp, snip]")
MEANS = Means(threads=1)


class Inline:
    """One task at a time, in the process of the sweep."""

    def __init__(self, means: Means = MEANS) -> None:
        self.means = means
        self.tasks: list[Task] = []
        self.closed = False

    def room(self) -> bool:
        return not self.tasks

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def news(self, seconds: float) -> list[Told | Ended]:
        task, told = self.tasks.pop(), list[Event]()
        try:
            perform(task, self.means, told.append)
            error = ""
        except Exception as failed:
            error = reason(failed)
        return [*(Told(task, event) for event in told), Ended(task, error)]

    def close(self) -> None:
        self.closed = True


def kill_in_dense(command: Sequence[str], dense: Path) -> tuple[str, int]:
    """Run a sweep's ``command`` and kill the worker that trains ``dense`` after three epochs.

    Returns what the command has said, all of it, and after how many epochs the worker was killed.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        while epochs(dense) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        holder = re.match(r"process (\d+) on", RunLayout(dense).lock.read_text())
        assert holder is not None
        os.kill(int(holder[1]), signal.SIGKILL)
        killed_after = epochs(dense)
        said, _ = process.communicate()
    assert process.returncode == 0, said
    return said, killed_after


def serve_and_die(pipe: Connection, task: Task, means: Means) -> None:
    """A worker that is killed in the middle of training a dense network."""
    processes.end_with_parent()

    def watch(event: Event) -> None:
        pipe.send(event)
        if event.stage == "dense/0/train" and event.done > 0:
            os.kill(os.getpid(), signal.SIGKILL)

    perform(task, means, watch)
    pipe.send("")


def main(folder: str) -> None:
    """Run the smaller sweep with two workers, and be killed when the first cell has trained its pruned network."""

    def watch(board: Board, news: runs.News) -> None:
        if (
            isinstance(news, Told)
            and news.event.stage.endswith("/1/train")
            and news.event.done == news.event.total
        ):
            os.kill(os.getpid(), signal.SIGKILL)

    runs.run(sweep.parse(PART), Path(folder), Processes(2, MEANS), watch=watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
