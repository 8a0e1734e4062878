"""One unbroken run of the tiny experiment, for all tests of the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.experiment import load, pipeline
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return load.load(TINY)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> tuple[Path, list[Event]]:
    """The folder of the run, and what a watcher was told."""
    folder, events = tmp_path_factory.mktemp("unbroken") / "run", list[Event]()
    pipeline.run(experiment, folder, progress=events.append)
    return folder, events
