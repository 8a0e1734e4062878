from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Augment, Dataset, Split
from certiprune.net.prunable import prunable
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import (
    Callback,
    Capture,
    EpochRecord,
    Plan,
    TrainingError,
    TrainState,
    accuracy,
    losses,
    train,
)
from certiprune.train.scene import Scene

PLAN = Plan(4, batch_size=32, learning_rate=0.05, eps=0.05, eps_start=1, eps_length=1, milestones=(3,))
FGSM = losses.build("fgsm")


def random_mask(model: nn.Module, keep: float = 0.3) -> Mask:
    source = generator(0, "mask")
    names = [*prunable(model), "hidden.weight"]
    return Mask({n: torch.rand(model.get_parameter(n).shape, generator=source) < keep for n in names})


def same(left: TrainState, right: TrainState) -> None:
    """Everything but the seconds is equal bit for bit."""
    assert left.epoch == right.epoch and left.seed == right.seed
    for mine, other in (
        (left.model, right.model),
        (left.optimizer, right.optimizer),
        (left.chosen, right.chosen),
    ):
        assert list(mine) == list(other)
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert [(r.epoch, r.metrics) for r in left.history] == [(r.epoch, r.metrics) for r in right.history]
    assert left.best is not None and right.best is not None
    assert (left.best.epoch, left.best.value) == (right.best.epoch, right.best.value)


class Watch(Callback):
    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.states: list[TrainState] = []
        self.records: list[EpochRecord] = []

    def on_batch(self, epoch: int, batch: int, batches: int) -> None:
        self.batches.append((epoch, batch, batches))

    def on_epoch(self, state: TrainState, record: EpochRecord) -> None:
        self.states.append(state)
        self.records.append(record)


@pytest.mark.parametrize("name", ["natural", "fgsm"])
def test_separable_images_are_learnt(model: nn.Module, dataset: Dataset, name: str) -> None:
    state = train(model, losses.build(name), dataset, replace(PLAN, epochs=6), seed=1)
    assert accuracy(model, dataset.test) >= 0.95
    assert state.history[-1].metrics["loss"] < state.history[0].metrics["loss"]
    assert not model.training


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_pruned_weights_stay_exactly_zero(model: nn.Module, dataset: Dataset, optimizer: str) -> None:
    mask = random_mask(model)
    rate = 0.05 if optimizer == "sgd" else 0.01
    plan = replace(PLAN, optimizer=optimizer, learning_rate=rate, momentum=0.9, weight_decay=0.01)
    watch = Watch()
    # A training without the mask fills the optimiser's memory with what would revive the pruned weights.
    dense = train(model, FGSM, dataset, replace(plan, epochs=2))
    train(model, FGSM, dataset, plan, mask=mask, start=dense, callbacks=[watch])
    for state in watch.states:
        for name, keep in mask.items():
            assert bool((state.model[name][~keep] == 0).all())
            assert int((state.model[name] != 0).sum()) == int(keep.sum())


def test_clipping_measures_the_gradient_of_the_kept_weights_only(model: nn.Module, dataset: Dataset) -> None:
    """One step of plain descent at rate 1 moves the kept weights by exactly the limit."""
    mask = random_mask(model, keep=0.5)
    mask.apply_(model)
    before = nn.utils.parameters_to_vector(model.parameters()).detach()
    plan = Plan(1, batch_size=97, learning_rate=1.0, momentum=0.0, weight_decay=0.0, clip=0.01)
    train(model, losses.build("natural"), dataset, plan, mask=mask)
    moved = nn.utils.parameters_to_vector(model.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("stop", [1, 3])
def test_a_resumed_training_equals_an_unbroken_one(
    spec: ModelSpec, dataset: Dataset, optimizer: str, stop: int
) -> None:
    plan = replace(PLAN, optimizer=optimizer, learning_rate=0.01)
    mask, augment = random_mask(build(spec)), Augment(crop_padding=1)
    whole = train(build(spec), FGSM, dataset, plan, mask=mask, seed=5, augment=augment)
    capture = Capture([stop])
    train(build(spec), FGSM, dataset, plan, mask=mask, seed=5, augment=augment, callbacks=[capture])
    other = build(spec, generator=generator(9))
    resumed = train(
        other, FGSM, dataset, plan, mask=mask, seed=5, augment=augment, start=capture.captured[stop]
    )
    same(resumed, whole)
    assert all(torch.equal(whole.model[name], tensor) for name, tensor in other.state_dict().items())


def test_going_on_does_not_change_the_state_it_started_from(model: nn.Module, dataset: Dataset) -> None:
    watch = Watch()
    early = train(model, FGSM, dataset, replace(PLAN, epochs=2), callbacks=[watch])
    kept = {k: v.clone() for k, v in (early.model | early.optimizer).items()}  # type: ignore[operator]
    train(model, FGSM, dataset, PLAN, start=early, callbacks=[watch])
    for state in (early, watch.states[1]):
        now = {**state.model, **state.optimizer}
        assert all(torch.equal(kept[name], now[name]) for name in kept)
    first, last = watch.states[0].model, watch.states[-1].model
    assert all(first[name].data_ptr() != last[name].data_ptr() for name in first)
    assert not torch.equal(first["conv1.weight"], last["conv1.weight"])
    live = {tensor.data_ptr() for tensor in model.state_dict().values()}
    assert live.isdisjoint(tensor.data_ptr() for state in watch.states for tensor in state.model.values())


def test_the_seed_decides_everything(spec: ModelSpec, dataset: Dataset) -> None:
    one, same_seed, other = (train(build(spec), FGSM, dataset, PLAN, seed=seed) for seed in (1, 1, 2))
    same(one, same_seed)
    assert not torch.equal(one.model["conv1.weight"], other.model["conv1.weight"])


def test_weights_are_chosen_after_the_rise_and_later_at_a_tie(model: nn.Module, dataset: Dataset) -> None:
    values = iter([0.5, 0.9, 0.9, 0.7])
    plan = replace(PLAN, epochs=5, eps_start=0, eps_length=2)
    watch = Watch()
    state = train(model, FGSM, dataset, plan, measure=lambda *_: next(values), callbacks=[watch])
    assert [s.best and (s.best.epoch, s.best.value) for s in watch.states] == [
        None, (2, 0.5), (3, 0.9), (4, 0.9), (4, 0.9)
    ]  # fmt: skip
    assert torch.equal(state.chosen["conv1.weight"], watch.states[3].model["conv1.weight"])
    assert watch.states[0].chosen is watch.states[0].model


def test_the_choice_never_sees_the_test_split(model: nn.Module, dataset: Dataset) -> None:
    seen: list[Split] = []

    def measure(_: nn.Module, split: Split, source: torch.Generator) -> float:
        seen.append(split)
        return 0.0

    train(model, FGSM, dataset, PLAN, measure=measure)
    assert len(seen) == 3 and all(split is dataset.validation for split in seen)


def test_records_hold_what_the_epochs_table_wants(model: nn.Module, dataset: Dataset) -> None:
    watch = Watch()
    state = train(model, FGSM, dataset, PLAN, callbacks=[watch])
    assert state.history == tuple(watch.records) and [r.epoch for r in watch.records] == [1, 2, 3, 4]
    wanted = {"loss", "accuracy", "validation_accuracy", "eps", "learning_rate"}
    assert set(state.history[0].metrics) == wanted
    assert set(state.history[-1].metrics) == wanted | {"validation_robust_accuracy"}
    assert [r.metrics["eps"] for r in watch.records] == [0.0, 0.05, 0.05, 0.05]
    assert [r.metrics["learning_rate"] for r in watch.records] == [0.05, 0.05, 0.05, pytest.approx(0.005)]
    assert all(r.seconds > 0 for r in watch.records)
    assert watch.batches[:5] == [(0, 1, 4), (0, 2, 4), (0, 3, 4), (0, 4, 4), (1, 1, 4)]


def test_a_last_batch_of_one_image_is_left_out(dataset: Dataset) -> None:
    model = build(ModelSpec("cnn7", (1, 8, 8), 4, (0.4,), (0.3,), width=0.1))
    sizes: list[int] = []

    class Sizes(losses.Natural):
        def __call__(self, scene: Scene) -> losses.Terms:
            sizes.append(len(scene.batch.images))
            return super().__call__(scene)

    train(model, Sizes(), dataset, Plan(1, batch_size=48))
    assert len(dataset.train) == 97 and sizes == [48, 48]


def test_a_part_is_the_mean_over_the_batches_that_have_it(model: nn.Module, dataset: Dataset) -> None:
    class Sometimes(losses.Natural):
        def __call__(self, scene: Scene) -> losses.Terms:
            terms = super().__call__(scene)
            if scene.eps > 0:
                terms.parts["half"] = 0.5
            return terms

    plan = Plan(1, batch_size=16, eps=0.1, eps_start=0, eps_length=1)
    state = train(model, Sometimes(), dataset, plan)
    assert state.history[0].metrics["half"] == 0.5


def test_a_loss_that_is_not_finite_stops_with_advice(model: nn.Module, dataset: Dataset) -> None:
    class Broken(losses.Natural):
        def __call__(self, scene: Scene) -> losses.Terms:
            terms = super().__call__(scene)
            return losses.Terms(terms.total * torch.nan, terms.parts)

    with pytest.raises(
        TrainingError, match=r"loss is nan in epoch 1, batch 1: lower learning_rate \(0.05 now\)"
    ):
        train(model, Broken(), dataset, PLAN)


def test_a_gradient_that_is_not_finite_stops_before_the_step(model: nn.Module, dataset: Dataset) -> None:
    class Steep(losses.Natural):
        def __call__(self, scene: Scene) -> losses.Terms:
            terms = super().__call__(scene)
            return losses.Terms((terms.total - terms.total.detach()).sqrt(), terms.parts)

    before = model.get_parameter("conv1.weight").detach().clone()
    with pytest.raises(TrainingError, match=r"gradient is not finite in epoch 1, batch 1.*or set clip"):
        train(model, Steep(), dataset, replace(PLAN, clip=None))
    assert torch.equal(model.get_parameter("conv1.weight"), before)


def test_what_does_not_fit_is_refused(model: nn.Module, dataset: Dataset) -> None:
    state = train(model, FGSM, dataset, replace(PLAN, epochs=2), seed=3)
    with pytest.raises(InputError, match="has seed 3, not 4"):
        train(model, FGSM, dataset, PLAN, seed=4, start=state)
    with pytest.raises(InputError, match="has 2 epochs, and the plan only 1"):
        train(model, FGSM, dataset, Plan(1), seed=3, start=state)
    with pytest.raises(InputError, match="belong to another model"):
        train(build(ModelSpec("mlp", (1, 8, 8), 4, (0.4,), (0.3,))), FGSM, dataset, PLAN, seed=3, start=state)
    foreign = replace(state, optimizer={"momentum_buffer.nothing": torch.zeros(3)})
    with pytest.raises(InputError, match=r"momentum_buffer.nothing \(3,\) fits no parameter"):
        train(model, FGSM, dataset, PLAN, seed=3, start=foreign)
    with pytest.raises(InputError, match="mask of"):
        train(model, FGSM, dataset, PLAN, mask=Mask({"nothing": torch.ones(1).bool()}))
    with pytest.raises(InputError, match="at least 2 images, not 1"):
        train(model, FGSM, replace(dataset, train=dataset.train.head(1)), PLAN)


def test_a_finished_training_is_returned_as_it_is(model: nn.Module, dataset: Dataset) -> None:
    state = train(model, FGSM, dataset, replace(PLAN, epochs=2))
    assert train(model, FGSM, dataset, replace(PLAN, epochs=2), start=state) is state
