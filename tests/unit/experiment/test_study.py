"""The study's settings as it states them, its tables as sweeps, and what these take."""

from __future__ import annotations

from pathlib import Path

import pytest

from certiprune.experiment import load, presets, sweep
from certiprune.experiment.config import Experiment
from certiprune.experiment.estimate import Pace, estimate
from certiprune.experiment.sweep import config

# Rounds of weights and of channels, and the penalties, row by row.
ROWS = {
    "imp": (16, 0.8, "magnitude", {}),
    "snip": (16, 0.8, "snip", {}),
    "taylor": (16, 0.8, "taylor", {}),
    "hydra": (16, 0.8, "hydra", {}),
    "hydra+nrs": (16, 0.8, "hydra", {"nrs": 0.01}),
    "imp+rs": (16, 0.8, "magnitude", {"rs": 0.01}),
    "imp+nrs": (16, 0.8, "magnitude", {"nrs": 0.01}),
    "structlth": (12, 0.89, "refill", {}),
    "slim": (12, 0.89, "slim", {"slimming": 1e-4}),
}
SETTINGS = {
    "fashion": ("fashion_mnist", 0.1, 200, (140, 170), (10, 70), True),
    "svhn": ("svhn", 2 / 255, 200, (140, 170), (10, 70), False),
    "cifar-2": ("cifar10", 2 / 255, 200, (140, 170), (10, 70), True),
    "cifar-8": ("cifar10", 8 / 255, 300, (210, 255), (15, 121), True),
}
TABLES = [f"{data}-{training}" for data in SETTINGS for training in ("adversarial", "certified")]
TABLES.remove("cifar-8-adversarial")
BEYOND = {"mini-fashion-rewinding", "mini-fashion-strong"}
"""Sweeps that ask what the tables do not."""


def cells(name: str) -> list[tuple[str, str, int, Experiment]]:
    planned = sweep.grid(config.load(Path(name)), name=name)
    return [(cell.training, cell.pruning, cell.seed, cell.experiment) for cell in planned]


def test_there_is_a_sweep_for_every_table_and_a_small_one() -> None:
    tables = {f"{size}-{table}" for size in ("study", "mini") for table in TABLES}
    assert set(presets.sweeps()) == tables | BEYOND


@pytest.mark.parametrize("table", TABLES)
def test_every_row_is_as_the_study_says(table: str) -> None:
    data, eps, epochs, milestones, rise, flip = SETTINGS[table.rpartition("-")[0]]
    certified = table.endswith("certified")
    seen = set()
    for _, pruning, seed, experiment in cells(f"study-{table}"):
        row = pruning.removesuffix("-certified")
        rounds, left, method, penalties = ROWS[row]
        seen.add((row, seed))
        train, ladder = experiment.train, experiment.ladders[-1]
        assert (experiment.data.name, experiment.data.crop_padding, experiment.data.flip) == (data, 4, flip)
        assert (experiment.model.name, experiment.model.width, train.batch_size) == ("cnn7", 1.0, 128)
        assert (train.epochs, train.milestones, train.clip) == (epochs, milestones, 8)
        assert (train.eps, experiment.verify.eps) == (eps, eps)
        assert (train.eps_start, train.eps_length, train.eps_shape, train.eps_mid) == (*rise, "smoothed", 0.4)
        assert train.loss.name == ("crown_ibp" if certified else "gradalign")
        stability = bool({"rs", "nrs"} & penalties.keys())
        if certified:
            assert (train.optimizer, train.learning_rate) == ("adam", 1e-3)
            assert train.weight_decay == (0 if stability else 1e-5)
        else:
            assert (train.optimizer, train.learning_rate, train.momentum) == ("sgd", 0.01, 0.9)
            assert train.weight_decay == 5e-4
        assert {p.name: p.weight for p in train.penalties} == penalties
        assert (ladder.method, len(ladder.keep), ladder.rewind) == (method, rounds, "initial")
        assert ladder.keep[0] == pytest.approx(left) and ladder.keep[-1] == pytest.approx(left**rounds)
        assert ladder.granularity == ("channels" if row in ("structlth", "slim") else "weights")
        assert (experiment.verify.images, experiment.verify.seconds) == (200, 300)
    rows = {"imp", "hydra", "imp+rs", "imp+nrs", "slim"} if table.startswith("cifar-8") else ROWS.keys()
    assert seen == {(row, seed) for row in rows for seed in range(5)}


@pytest.mark.parametrize("table", TABLES)
def test_the_small_one_has_the_same_rows_at_the_same_sparsities(table: str) -> None:
    small = cells(f"mini-{table}")
    assert {pruning for _, pruning, _, _ in small} == {p for _, p, _, _ in cells(f"study-{table}")}
    assert {seed for _, _, seed, _ in small} == {0, 1}
    for _, _, _, experiment in small:
        assert {ladder.keep for ladder in experiment.ladders} == {(0.4, 0.15)}
        assert (experiment.model.name, experiment.train.epochs) == ("cnn_small", 6)
        assert (experiment.verify.images, experiment.verify.seconds) == (300, 2)


def test_rewinding_and_finetuning_differ_in_nothing_else() -> None:
    found = cells("mini-fashion-rewinding")
    assert {training for training, *_ in found} == {"n_fgsm", "study-certified"}
    tables = {
        (t, p, s): e.digest()
        for table in ("mini-fashion-adversarial", "mini-fashion-certified")
        for t, p, s, e in cells(table)
    }
    for training, pruning, seed, experiment in found:
        (ladder,) = experiment.ladders
        if pruning == "imp":
            assert experiment.digest() == tables[training, pruning, seed]
        else:
            assert ladder.rewind == "finetune"
            other = ladder.model_copy(update={"name": "imp", "rewind": "initial"})
            assert (
                experiment.model_copy(update={"ladders": (other,)}).digest() == tables[training, "imp", seed]
            )


def test_the_stronger_trainings_are_those_of_their_papers() -> None:
    for training, _, _, experiment in cells("mini-fashion-strong"):
        assert experiment.train.loss.name == training
        assert [p.name for p in experiment.train.penalties] == ["fast_ibp"]
        assert (experiment.model.initial, experiment.train.epochs) == ("ibp", 6)


class Fixed(Pace):
    """A machine that takes a millisecond an image."""

    def image(self, experiment: Experiment) -> float:
        return 1e-3


def test_an_estimate_counts_networks_epochs_and_limits() -> None:
    text = (
        "data: {name: mnist, train_limit: 1000}\nverify: {images: 10, seconds: 3}\n"
        "train: {loss: {name: ibp}, epochs: 4, milestones: [2]}\n"
        "ladders: [{name: a, method: magnitude, keep: [0.5, 0.2]},"
        " {name: b, method: hydra, keep: [0.5], options: {epochs: 5}},"
        " {name: c, method: magnitude, keep: [0.5], rewind: finetune, epochs: 1}]"
    )
    found = estimate([load.parse(text)], Fixed())
    assert found.networks == 5
    # Dense, two rounds, a round with scores learned in five epochs, and one epoch of finetuning.
    assert found.training == pytest.approx((4 + 2 * 4 + 4 + 5 + 1) * 1000 * 3.2e-3)
    assert found.verification == 5 * 10 * 3
    text = (
        "data: {train_limit: 100}\ntrain: {loss: {name: fgsm}, epochs: 1, penalties: [{name: rs, weight: 1}]}"
    )
    penalised = load.parse(text)
    assert estimate([penalised], Fixed()).training == pytest.approx(100 * (1.8 + 3.4) * 1e-3)


def test_the_pace_is_measured_here() -> None:
    tiny = load.load("demo")
    assert 0 < Pace().image(tiny) < 1
