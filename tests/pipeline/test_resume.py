"""A run that is killed at its worst moments and continued ends like one that was never interrupted."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from facts import assert_equal_runs

from certiprune.experiment import pipeline
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event
from certiprune.store import Records, RunLayout

HERE = Path(__file__).parent


def kill(folder: Path, *moment: str) -> None:
    """Run until ``moment`` in a process that is then killed with SIGKILL."""
    command = [sys.executable, str(HERE / "killed.py"), str(HERE / "tiny.yaml"), str(folder), *moment]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> tuple[Path, list[Event]]:
    """A run killed in training, pruning and verification, one process after the other."""
    folder, events = tmp_path_factory.mktemp("killed") / "run", list[Event]()
    kill(folder, "event", "dense/0/train", "31")  # in the third epoch, 13 batches each
    kill(folder, "commit", "magnitude/1/prune")
    kill(folder, "commit", "magnitude/1/train")
    kill(folder, "event", "magnitude/1/verify", "7")
    pipeline.run(experiment, folder, progress=events.append)
    return folder, events


def test_it_equals_an_unbroken_run(
    resumed: tuple[Path, list[Event]], unbroken: tuple[Path, list[Event]]
) -> None:
    assert_equal_runs(resumed[0], unbroken[0])


def test_only_what_was_missing_was_done(resumed: tuple[Path, list[Event]]) -> None:
    told: dict[str, list[Event]] = {}
    for event in resumed[1]:
        told.setdefault(event.stage, []).append(event)
    for stage in ("dense/0/train", "dense/0/verify", "magnitude/1/prune", "magnitude/1/train"):
        assert [event.skipped for event in told[stage]] == [True]
    verdicts = [event.done for event in told["magnitude/1/verify"] if event.text.split()[1:2] == ["image"]]
    assert verdicts[0] == 8 and len(verdicts) == 5


def test_training_goes_on_after_the_last_whole_epoch(tmp_path: Path, experiment: Experiment) -> None:
    kill(tmp_path, "event", "dense/0/train", "31")
    with Records.open(RunLayout(tmp_path).records) as records:
        assert [row.epoch for row in records.epochs()] == [1, 2]
        assert not records.stage_done("dense/0/train")
    events: list[Event] = []
    pipeline.run(experiment, tmp_path, progress=events.append, until="dense/0/train")
    batches = [event.done for event in events if event.stage == "dense/0/train" and event.total > 1]
    assert batches[0] == 27 and len(batches) == 26
