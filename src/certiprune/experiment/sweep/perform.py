"""What a worker does with a task, wherever it runs."""

from __future__ import annotations

import os
import platform
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from certiprune.core.errors import CertipruneError, InputError
from certiprune.core.memory import allowance, keep_freed
from certiprune.experiment import pipeline
from certiprune.experiment.events import Event, Watcher
from certiprune.experiment.sweep.plan import Task
from certiprune.store import Busy
from certiprune.verify.memory import out_of_memory

WAIT = 30.0
"""Seconds to wait for a folder: the worker of a sweep that was killed may be in it for a moment longer."""
PAUSE = 0.5
"""Seconds between two events from the middle of a stage."""


@dataclass(frozen=True)
class Means:
    """What a task may use.

    Attributes:
        threads: CPU threads of a run that begins now; one that has begun goes on with as many as it has.
        data: where the datasets' files are; None for their usual place.
        memory: bytes that verification may hold; None for a share of what is free.
    """

    threads: int
    data: Path | None = None
    memory: int | None = None


def shared(means: Means) -> Means:
    """``means`` on a node of a cluster, with some memory.

    As many tasks as there are CPUs for may be here, and each would take the same free memory for its own.
    """
    if means.memory is not None:
        return means
    share = min(1.0, means.threads / (os.cpu_count() or 1))
    return replace(means, memory=int(allowance(None) * share))


def perform(task: Task, means: Means, watch: Watcher) -> None:
    """Do what is left of ``task``. After a kill at any moment the same call goes on.

    Raises:
        InputError: the sweep's folder is not there on this machine, or its run is in use elsewhere.
        CertipruneError: as ``pipeline.run``.
    """
    if not task.sweep.is_file():
        raise InputError(
            f"{task.sweep} is not there on {platform.node()}; the sweep's folder must lie on storage that all nodes see"
        )
    torch.set_num_threads(means.threads)
    keep_freed()
    began = time.monotonic()
    while True:
        try:
            return pipeline.run(
                task.experiment,
                task.folder,
                progress=Spared(watch),
                data_folder=means.data,
                start=task.start,
                early=task.early,
                memory=means.memory,
            )
        except Busy:
            if time.monotonic() - began > WAIT:
                raise
            time.sleep(PAUSE)


class Spared:
    """Passes on a stage's first and last event and, in between, one now and then."""

    def __init__(self, watch: Watcher) -> None:
        self._watch = watch
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        now = time.monotonic()
        if event.done in (0, event.total) or now - self._last >= PAUSE:
            self._last = now
            self._watch(event)


def reason(error: BaseException) -> str:
    """What has gone wrong, in one line; of an error that is not the user's, where it was raised as well."""
    if out_of_memory(error):
        return "out of memory; take fewer --jobs"
    text = " ".join(str(error).split())
    if isinstance(error, CertipruneError):
        return text
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    return f"{type(error).__name__}: {text}{where}"
