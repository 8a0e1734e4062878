"""A whole experiment on digits: what is in the records afterwards, and what a second run does."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from facts import facts

from certiprune import data
from certiprune.core.errors import ConfigError, InputError
from certiprune.core.rng import generator
from certiprune.experiment import load, pipeline, session
from certiprune.experiment.config import Experiment
from certiprune.experiment.events import Event
from certiprune.net import checkpoint
from certiprune.prune import select
from certiprune.prune.scores import build
from certiprune.store import Records, RunLayout
from certiprune.train import accuracy, tensorboard
from certiprune.train.statistics import bound_statistics, width_quantiles

NETWORKS = [("dense", 0), ("magnitude", 1), ("magnitude", 2), ("random", 1)]
Run = tuple[Path, list[Event]]


def test_every_network_has_all_its_rows(unbroken: Run, experiment: Experiment) -> None:
    with Records.open(RunLayout(unbroken[0]).records, read_only=True) as records:
        assert [(row.ladder, row.round) for row in records.rounds()] == NETWORKS
        for name, number in NETWORKS:
            assert [row.epoch for row in records.epochs(name, number)] == [1, 2, 3, 4]
            assert [row.idx for row in records.outcomes(name, number)] == list(range(12))
            assert len(records.layers(name, number, "weights")) > 2
        assert {row.name for row in records.stages()} == {stage.name for stage in pipeline.stages(experiment)}
        meta = records.meta()
    assert meta["digest"] == experiment.digest()
    assert meta["config"] == experiment.resolved()
    assert (meta["dataset"], meta["classes"], meta["input_shape"]) == ("digits", 10, [1, 8, 8])


def test_rounds_say_what_the_stored_networks_are(unbroken: Run) -> None:
    test = data.load("digits").test
    with Records.open(RunLayout(unbroken[0]).records, read_only=True) as records:
        for row in records.rounds():
            found = checkpoint.load(RunLayout(unbroken[0]).round(row.ladder, row.round).model)
            wanted = {("dense", 0): 1.0, ("magnitude", 1): 0.5}.get((row.ladder, row.round), 0.2)
            assert row.kept == round(wanted * row.total)
            assert row.total_all - row.kept_all == row.total - row.kept
            assert row.standard_accuracy == accuracy(found.model, test.head(50))
            assert row.pgd_accuracy <= row.standard_accuracy
            bounds = bound_statistics(found.model, test.head(50), 0.02)
            assert (row.ibp_accuracy, row.crown_accuracy) == (bounds.ibp, bounds.crown)
            assert max(row.ibp_accuracy, row.crown_accuracy) <= row.pgd_accuracy
            assert row.test_images == 50
            layers = records.layers(row.ladder, row.round, "relu")
            assert sum(layer.kept for layer in layers) == pytest.approx(row.unstable)
            assert sum(layer.total for layer in layers) == row.relus
            assert [layer.name for layer in layers] == [layer.name for layer in bounds.layers]
            for layer, measured in zip(layers, bounds.layers, strict=True):
                assert (layer.product, layer.rs, layer.width) == (
                    measured.product,
                    measured.rs,
                    measured.width,
                )
                assert math.isnan(layer.nrs) == math.isnan(layer.width_before) == (layer.name == "relu3")
            assert all(math.isnan(layer.rs) for layer in records.layers(row.ladder, row.round, "weights"))
            weights = records.layers(row.ladder, row.round, "weights")
            assert sum(layer.total - layer.kept for layer in weights) == row.total - row.kept
            if found.mask is not None:
                assert found.mask.kept == row.kept


def test_evaluation_says_how_the_widths_of_bounds_are_spread(unbroken: Run) -> None:
    few = data.load("digits").test.head(12)
    with Records.open(RunLayout(unbroken[0]).records, read_only=True) as records:
        for name, number in NETWORKS:
            stage = records.stage(f"{name}/{number}/evaluate")
            model = checkpoint.load(RunLayout(unbroken[0]).round(name, number).model).model
            assert stage is not None
            wanted = {layer: list(found) for layer, found in width_quantiles(model, few, 0.02).items()}
            assert stage.payload == {"widths": wanted}


def test_epochs_hold_the_statistics_of_bounds(unbroken: Run) -> None:
    with Records.open(RunLayout(unbroken[0]).records, read_only=True) as records:
        for row in records.epochs():
            assert {"statistics/clean", "statistics/ibp", "unstable/relu1", "nrs/relu2"} <= set(row.metrics)
            assert (
                ("statistics/crown" in row.metrics) == ("statistics/pgd" in row.metrics) == (row.epoch == 4)
            )


def test_metrics_go_to_tensorboard_where_that_is_asked_for(
    tmp_path: Path, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[Path, int, str, int]] = []

    class Fake:
        def __init__(self, folder: Path, start: int) -> None:
            self.place = (folder.relative_to(tmp_path), start)

        def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
            written.append((*self.place, tag, global_step))

        def flush(self) -> None:
            pass

    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="TensorBoard is not installed"):
        pipeline.run(experiment, tmp_path, tensorboard=True)
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: name)
    monkeypatch.setattr(tensorboard, "writer", lambda folder, start: Fake(folder, start))
    pipeline.run(experiment, tmp_path, until="dense/0/train", tensorboard=True)
    assert {place[:2] for place in written} == {(Path("tensorboard/dense/0"), 0)}
    with Records.open(RunLayout(tmp_path).records, read_only=True) as records:
        wanted = {(name, row.epoch) for row in records.epochs() for name in row.metrics}
    assert {place[2:] for place in written} == wanted


def test_masks_are_nested_and_weights_rewound(unbroken: Run) -> None:
    layout = RunLayout(unbroken[0])
    first, second = (checkpoint.load(layout.round("magnitude", number).model).mask for number in (1, 2))
    assert first is not None and second is not None and second.nested_in(first)
    dense = layout.round("dense", 0)
    origins = {"magnitude": dense.initial, "random": dense.early(2)}
    for name, number in NETWORKS[1:]:
        begin, origin = checkpoint.load(layout.round(name, number).initial), checkpoint.load(origins[name])
        assert begin.mask is not None
        begin.mask.apply_(origin.model)
        for key, tensor in origin.model.state_dict().items():
            assert torch.equal(tensor, begin.model.state_dict()[key])


def test_the_mask_is_chosen_from_the_trained_network(unbroken: Run, experiment: Experiment) -> None:
    layout = RunLayout(unbroken[0])
    before, after = (checkpoint.load(layout.round("magnitude", number).model) for number in (1, 2))
    assert before.mask is not None and after.mask is not None
    scores = build("magnitude").score(before.model, before.mask, None, keep=1, generator=generator(0))
    assert dict(select(scores, before.mask, keep=after.mask.kept)).keys() == dict(after.mask).keys()
    wanted = select(scores, before.mask, keep=after.mask.kept)
    assert all(torch.equal(wanted[name], after.mask[name]) for name in wanted)


def test_the_watcher_sees_every_stage_through(unbroken: Run, experiment: Experiment) -> None:
    for stage in pipeline.stages(experiment):
        told = [event for event in unbroken[1] if event.stage == stage.name]
        assert told[-1].done == told[-1].total
        assert all(event.done < event.total for event in told[:-1])
        assert told[-1].text


def test_a_second_run_does_nothing(unbroken: Run, experiment: Experiment) -> None:
    folder, events, before = unbroken[0], list[Event](), facts(unbroken[0])
    pipeline.run(experiment, folder, progress=events.append)
    assert all(event.skipped for event in events)
    assert facts(folder) == before


def test_the_resolved_file_in_the_folder_is_the_same_experiment(
    unbroken: Run, experiment: Experiment
) -> None:
    again = load.load(RunLayout(unbroken[0]).experiment)
    assert again.digest() == experiment.digest()


def test_another_experiment_is_kept_out_of_the_folder(unbroken: Run, experiment: Experiment) -> None:
    other = experiment.model_copy(update={"train": experiment.train.model_copy(update={"epochs": 5})})
    before = facts(unbroken[0])
    with pytest.raises(
        ConfigError, match=r"holds another experiment \(train.epochs was 4 and is 5\).*--fresh"
    ):
        pipeline.run(other, unbroken[0])
    assert facts(unbroken[0]) == before


def test_other_images_are_kept_out_of_the_folder(
    unbroken: Run, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = data.load("digits")
    changed = replace(found, test=found.test.head(5))
    monkeypatch.setattr(session.data, "load", lambda *arguments, **options: changed)
    with pytest.raises(ConfigError, match="begun with other images of digits"):
        pipeline.run(experiment, unbroken[0])


def test_fresh_starts_over_and_touches_only_a_runs_files(tmp_path: Path, experiment: Experiment) -> None:
    pipeline.run(experiment, tmp_path, until="dense/0/initial")
    (tmp_path / "notes.txt").write_text("mine")
    other = experiment.model_copy(update={"seed": 1})
    events: list[Event] = []
    pipeline.run(other, tmp_path, fresh=True, until="dense/0/initial", progress=events.append)
    assert not any(event.skipped for event in events)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with Records.open(RunLayout(tmp_path).records) as records:
        assert records.meta()["digest"] == other.digest()


def test_a_file_of_the_users_own_is_not_overwritten(tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "experiment.yaml").write_text("seed: 1")
    for fresh in (False, True):
        with pytest.raises(ConfigError, match="choose another folder"):
            pipeline.run(experiment, tmp_path, fresh=fresh)
    assert (tmp_path / "experiment.yaml").read_text() == "seed: 1"


def test_a_run_keeps_the_threads_it_was_begun_with(tmp_path: Path, experiment: Experiment) -> None:
    pipeline.run(experiment, tmp_path, threads=2, until="dense/0/initial")
    assert torch.get_num_threads() == 1
    used: list[int] = []
    pipeline.run(
        experiment,
        tmp_path,
        until="dense/0/initial",
        progress=lambda event: used.append(torch.get_num_threads()),
    )
    assert used == [2]
    with pytest.raises(InputError, match="was begun with 2 threads, and 3 would give other numbers"):
        pipeline.run(experiment, tmp_path, threads=3)


def test_a_device_that_is_not_there_is_named(tmp_path: Path, experiment: Experiment) -> None:
    with pytest.raises(InputError, match="device cuda:99 is not there"):
        pipeline.run(experiment.model_copy(update={"device": "cuda:99"}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_stage_is_named(tmp_path: Path, experiment: Experiment) -> None:
    with pytest.raises(InputError, match="there is no stage x; there are dense/0/initial"):
        pipeline.run(experiment, tmp_path, until="x")
