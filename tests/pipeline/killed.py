"""Run an experiment and kill the process, as a power cut would, at a named moment: the child of test_resume.

Usage: killed.py EXPERIMENT FOLDER event STAGE DONE | commit STAGE
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from certiprune.experiment import load, pipeline
from certiprune.experiment.events import Event
from certiprune.store import Records


def main(source: str, folder: str, moment: str, stage: str, done: str = "0") -> None:
    commit = Records.commit_stage

    def kill() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: Event) -> None:
        if moment == "event" and event.stage == stage and event.done == int(done) and not event.skipped:
            kill()

    def committing(self: Records, name: str, *arguments: Any, **options: Any) -> None:
        # Everything of the stage lies on disk except the record that it is finished.
        if moment == "commit" and name == stage:
            kill()
        commit(self, name, *arguments, **options)

    Records.commit_stage = committing  # type: ignore[method-assign]
    torch.set_num_threads(1)
    pipeline.run(load.load(source), Path(folder), progress=watch)


if __name__ == "__main__":
    main(*sys.argv[1:])
