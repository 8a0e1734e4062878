"""The order of the stages, and which of them are still to do.

    dense:         initial -> train -> evaluate -> verify
    each ladder:   round 1, 2, ...: prune -> train -> evaluate -> verify

A stage is finished when it is committed in the records (``stages``), and never for a file's existence. What
is finished is skipped, so a run that was killed goes on where it was: within training after the last whole
epoch, within verification with the images that have no verdict yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from certiprune.core.errors import InputError
from certiprune.experiment import adopt
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event, Watcher, unwatched
from certiprune.experiment.session import Session, session
from certiprune.experiment.steps import Result, Work, evaluate, initial, prune, train, verify

STEPS: dict[str, Callable[[Session, Work], Result]] = {
    "initial": initial.run,
    "prune": prune.run,
    "train": train.run,
    "evaluate": evaluate.run,
    "verify": verify.run,
}


@dataclass(frozen=True)
class Stage:
    """One step on one network."""

    work: Work
    step: str

    @property
    def name(self) -> str:
        return f"{self.work.name}/{self.step}"


def stages(experiment: Experiment) -> Iterator[Stage]:
    """Every stage of ``experiment``, in order."""
    dense = Work(None, 0)
    yield from (Stage(dense, step) for step in ("initial", "train", "evaluate", "verify"))
    for ladder in experiment.ladders:
        for number in range(1, len(ladder.keep) + 1):
            work = Work(ladder, number)
            yield from (Stage(work, step) for step in ("prune", "train", "evaluate", "verify"))


def run(
    experiment: Experiment,
    out: Path,
    *,
    progress: Watcher = unwatched,
    fresh: bool = False,
    data_folder: Path | None = None,
    threads: int | None = None,
    until: str | None = None,
    tensorboard: bool = False,
    start: Path | None = None,
    early: Collection[int] = (),
    memory: int | None = None,
) -> None:
    """Do what is left of ``experiment`` in folder ``out``.

    Tables of a run that was interrupted and continued on one machine equal those of an unbroken one, apart
    from seconds, as long as no verdict hangs on a time limit (see ``Verify``).

    Args:
        progress: is told how each stage comes along.
        fresh: remove what an earlier run left in the folder, whichever experiment it was.
        data_folder: where the dataset's files are; None for its usual place.
        threads: CPU threads; by default as many as the run was begun with, or torch's own number.
        until: the name of the stage to stop after; None for all.
        tensorboard: write the metrics of training for TensorBoard as well.
        start: the folder of a run whose finished dense network is taken over (see ``adopt.dense``), with its number of
            threads; what the run finds is what it would have found by itself.
        early: epochs after which the dense network's weights are kept, besides those that ladders rewind to.
        memory: bytes that verification may hold; None for a share of what is free.

    Raises:
        ConfigError: the folder belongs to another experiment.
        CertipruneError: something else that the user can mend.
    """
    todo = list(stages(experiment))
    names = [stage.name for stage in todo]
    if until is not None and until not in names:
        raise InputError(f"there is no stage {until}; there are {', '.join(names)}")
    if start is not None:
        threads = adopt.threads(start, threads)
    with session(
        experiment,
        Path(out),
        watch=progress,
        fresh=fresh,
        data_folder=data_folder,
        threads=threads,
        tensorboard=tensorboard,
        early=early,
        memory=memory,
    ) as opened:
        if start is not None:
            adopt.dense(opened, start)
        for stage in todo:
            _do(opened, stage)
            if stage.name == until:
                break


def _do(opened: Session, stage: Stage) -> None:
    if opened.records.stage_done(stage.name):
        opened.watch(Event(stage.name, 1, 1, skipped=True))
        return
    begin = time.perf_counter()
    opened.watch(Event(stage.name, 0, 1))
    result = STEPS[stage.step](opened, stage.work)
    seconds = time.perf_counter() - begin
    opened.records.commit_stage(stage.name, seconds, result.payload, rows=result.rows)
    opened.watch(Event(stage.name, 1, 1, result.text))
