from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from certiprune.core.errors import ModelError
from certiprune.data import Dataset
from certiprune.net.tensor_file import write_tensors
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import Plan, TrainState, load_state, losses, save_state, train

PLAN = Plan(3, batch_size=32, optimizer="adam", learning_rate=0.01, eps=0.05, eps_start=1, eps_length=1)
LOSS = losses.build("fgsm")


def equal(left: TrainState, right: TrainState) -> bool:
    pairs = ((left.model, right.model), (left.optimizer, right.optimizer), (left.chosen, right.chosen))
    tensors = all(set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
    return tensors and (left.epoch, left.seed, left.history) == (right.epoch, right.seed, right.history)


def test_a_state_comes_back_bit_for_bit(tmp_path: Path, model: nn.Module, dataset: Dataset) -> None:
    state = train(model, LOSS, dataset, PLAN, seed=7)
    save_state(tmp_path / "state.safetensors", state)
    back = load_state(tmp_path / "state.safetensors")
    assert equal(back, state)
    assert state.best is not None and back.best is not None
    assert (back.best.epoch, back.best.value) == (state.best.epoch, state.best.value)
    assert any(name.startswith("exp_avg_sq.") for name in back.optimizer)


def test_without_a_best_epoch_none_comes_back(tmp_path: Path, model: nn.Module, dataset: Dataset) -> None:
    state = replace(train(model, LOSS, dataset, replace(PLAN, epochs=2)), best=None)
    save_state(tmp_path / "state", state)
    assert load_state(tmp_path / "state").best is None


def test_a_training_goes_on_from_the_file_as_if_unbroken(
    tmp_path: Path, spec: ModelSpec, dataset: Dataset
) -> None:
    whole = train(build(spec), LOSS, dataset, PLAN, seed=7)
    half = train(build(spec), LOSS, dataset, replace(PLAN, epochs=2), seed=7)
    save_state(tmp_path / "state", half)
    resumed = train(build(spec), LOSS, dataset, PLAN, seed=7, start=load_state(tmp_path / "state"))
    assert equal(replace(resumed, history=()), replace(whole, history=()))
    assert [r.metrics for r in resumed.history] == [r.metrics for r in whole.history]


def test_missing_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(ModelError, match="there is no training state at"):
        load_state(path)
    write_tensors(path, {}, {}, kind="checkpoint", version=1)
    with pytest.raises(ModelError, match="is not a training state"):
        load_state(path)
    write_tensors(path, {"odd.name": torch.zeros(1)}, {}, kind="training state", version=1)
    with pytest.raises(ModelError, match="is damaged: 'odd'"):
        load_state(path)
