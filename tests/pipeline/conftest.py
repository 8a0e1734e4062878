"""One unbroken run of the tiny experiment, for all tests of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from certiprune.experiment import load, pipeline
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event

TINY = Path(__file__).parent / "tiny.yaml"


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Equal numbers need an equal order of additions, so an equal number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def experiment() -> Experiment:
    return load.load(TINY)


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> tuple[Path, list[Event]]:
    """The folder of the run, and what a watcher was told."""
    folder, events = tmp_path_factory.mktemp("unbroken") / "run", list[Event]()
    pipeline.run(experiment, folder, progress=events.append)
    return folder, events
