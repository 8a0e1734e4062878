"""Whole trainings by every scheme: learning, bit for bit the same again and resumed, with pruned weights at 0."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Dataset
from certiprune.net.prunable import prunable
from certiprune.net.zoo import ModelSpec, build
from certiprune.train import Capture, Plan, TrainState, accuracy, losses, penalties, train
from certiprune.train.losses import AbstractLoss, Penalised
from helpers.training import MODELS, batch, pooled, scene

# The radius rises in the first epoch and is final in the second.
PLAN = Plan(
    2, batch_size=32, learning_rate=0.03, eps=0.05, eps_start=0, eps_length=1, validation_steps=1, eps_mid=0.5
)


def penalised(loss: AbstractLoss, *chosen: tuple[str, float]) -> Penalised:
    return Penalised(loss, tuple((penalties.build(name), weight) for name, weight in chosen))


SCHEMES: dict[str, AbstractLoss] = {
    **{name: losses.build(name) for name in losses.names()},
    "pgd of 2 steps": losses.build("pgd", steps=2, step=0.7),
    "natural with rs": penalised(losses.build("natural"), ("rs", 0.1)),
    "fgsm with nrs": penalised(losses.build("fgsm"), ("nrs", 0.1)),
    "gradalign with slimming": penalised(losses.build("gradalign"), ("slimming", 1e-4)),
    "ibp with fast_ibp and l1": penalised(losses.build("ibp"), ("fast_ibp", 0.5), ("l1", 1e-5)),
    "sabr with rs": penalised(losses.build("sabr"), ("rs", 0.1)),
}


def random_mask(model: nn.Module, keep: float, inside: Mask | None = None) -> Mask:
    source = generator(0, "mask", keep)
    shapes = {name: model.get_parameter(name).shape for name in prunable(model)}
    chosen = {name: torch.rand(shape, generator=source) < keep for name, shape in shapes.items()}
    return Mask(chosen if inside is None else {name: chosen[name] & old for name, old in inside.items()})


def same(left: TrainState, right: TrainState) -> None:
    for mine, other in (
        (left.model, right.model),
        (left.optimizer, right.optimizer),
        (left.chosen, right.chosen),
    ):
        assert list(mine) == list(other)
        assert all(torch.equal(mine[name], other[name]) for name in mine)
    assert [(r.epoch, r.metrics) for r in left.history] == [(r.epoch, r.metrics) for r in right.history]


@pytest.mark.parametrize("name", SCHEMES)
def test_it_is_the_same_again_and_resumed_and_prunes(spec: ModelSpec, dataset: Dataset, name: str) -> None:
    loss, mask = SCHEMES[name], random_mask(build(spec), 0.5)
    model, capture = build(spec), Capture([1])
    whole = train(model, loss, dataset, PLAN, mask=mask, seed=3)
    same(train(build(spec), loss, dataset, PLAN, mask=mask, seed=3, callbacks=[capture]), whole)
    other = build(spec, generator=generator(9))
    same(train(other, loss, dataset, PLAN, mask=mask, seed=3, start=capture.captured[1]), whole)
    assert not torch.equal(capture.captured[1].model["conv1.weight"], whole.model["conv1.weight"])
    # A smaller mask later: what was pruned first stays pruned, too.
    nested = random_mask(model, 0.6, mask)
    last = train(model, loss, dataset, replace(PLAN, epochs=1, eps_length=0), mask=nested, seed=4)
    for weight, keep in nested.items():
        for state, kept in ((whole, mask[weight]), (last, keep)):
            assert not bool(state.model[weight][~kept].any())
            assert bool((state.model[weight][kept] != 0).all())
    assert int((~nested["conv1.weight"] & mask["conv1.weight"]).sum()) > 0


@pytest.mark.parametrize("name", SCHEMES)
def test_it_learns_and_says_what_it_did(model: nn.Module, dataset: Dataset, name: str) -> None:
    loss = SCHEMES[name]
    plan = Plan(8, batch_size=16, learning_rate=0.05, eps=0.02, eps_start=1, eps_length=3, validation_steps=1)
    state = train(model, loss, dataset, plan, seed=1)
    assert accuracy(model, dataset.test) >= 0.9
    # The clean pass alone, or the pass at the adversarial points, has moved the statistics on: once a batch.
    assert int(model.get_buffer("norm1.num_batches_tracked")) == 8 * 6
    first, last = (record.metrics for record in (state.history[0], state.history[-1]))
    assert first["accuracy"] < last["accuracy"]
    if loss.certified and not name.startswith("sabr"):
        assert last["certified_accuracy"] > 0.5
    if isinstance(loss, Penalised):
        assert {penalty.name for penalty, _ in loss.penalties} - {"fast_ibp"} <= set(last)


@pytest.mark.parametrize("kind", [*MODELS, "pooled"])
def test_all_is_computed_where_the_model_is(kind: str) -> None:
    """Whatever is made on torch's default device has no numbers here, and could not be computed with."""
    model, data = {**MODELS, "pooled": pooled}[kind](1), batch(1)
    chosen = tuple((penalties.build(name), 0.1) for name in penalties.names())
    for name in losses.names():
        where = scene(model, data, 0.05, target=0.1)
        with torch.device("meta"):
            terms = Penalised(losses.build(name), chosen)(where)
            terms.total.backward()
        assert terms.total.device == torch.device("cpu")
        assert set(terms.parts) >= set(penalties.names())
