"""A run that takes over another's dense network ends as if it had trained its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from facts import assert_equal_runs

from certiprune.core.errors import ConfigError, InputError
from certiprune.experiment import adopt, pipeline
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event
from certiprune.store import Records, RunLayout


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> Path:
    """The dense network of the tiny experiment, with the weights after epoch 2, which one ladder goes back to."""
    folder = tmp_path_factory.mktemp("dense")
    pipeline.run(experiment.model_copy(update={"ladders": ()}), folder, early=(2,))
    return folder


class Killed(BaseException):
    pass


def test_it_equals_a_run_of_its_own_whenever_the_copying_is_killed(
    tmp_path: Path,
    dense: Path,
    experiment: Experiment,
    unbroken: tuple[Path, list[Event]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*arguments: Any) -> None:
        raise Killed

    for owner, name in ((Path, "write_bytes"), (Records, "add")):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(owner, name, killed)
            pipeline.run(experiment, tmp_path, start=dense)
        with Records.open(RunLayout(tmp_path).records, read_only=True) as records:
            assert records.stages() == [] and records.epochs() == [] and records.outcomes() == []
    told: list[Event] = []
    pipeline.run(experiment, tmp_path, start=dense, progress=told.append)
    assert all(event.skipped for event in told if event.stage in adopt.STAGES)
    assert_equal_runs(tmp_path, unbroken[0])
    with Records.open(RunLayout(tmp_path).records, read_only=True) as ours:
        found = [row.seconds for row in ours.stages() if row.name in adopt.STAGES]
    with Records.open(RunLayout(dense).records, read_only=True) as theirs:
        assert found == [row.seconds for row in theirs.stages()]


def test_only_the_dense_network_of_the_same_experiment_is_taken(
    tmp_path: Path, dense: Path, experiment: Experiment
) -> None:
    other = experiment.model_copy(update={"train": experiment.train.model_copy(update={"epochs": 3})})
    with pytest.raises(ConfigError, match=r"holds another dense network \(train.epochs was 4 and is 3\)"):
        pipeline.run(other, tmp_path, start=dense)
    with pytest.raises(InputError, match="begun with 1 threads, and 2 would give other numbers"):
        pipeline.run(experiment, tmp_path, start=dense, threads=2)


def test_it_has_to_be_finished_and_to_hold_the_early_weights(tmp_path: Path, experiment: Experiment) -> None:
    bare, start = experiment.model_copy(update={"ladders": ()}), tmp_path / "dense"
    with pytest.raises(InputError, match="there are no results at"):
        pipeline.run(experiment, tmp_path / "run", start=start)
    pipeline.run(bare, start, until="dense/0/train")
    with pytest.raises(InputError, match="is not finished"):
        pipeline.run(experiment, tmp_path / "run", start=start)
    pipeline.run(bare, start)
    with pytest.raises(InputError, match=r"early-2.safetensors is missing; remove .*dense and run it again"):
        pipeline.run(experiment, tmp_path / "run", start=start)
