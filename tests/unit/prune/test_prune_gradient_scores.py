"""SNIP and Taylor against finite differences of the loss, which no gradient of the library has touched."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Batch, Split
from certiprune.prune import Calibration, Group, Groups, scores
from certiprune.train import losses
from certiprune.train.losses import AbstractLoss
from certiprune.train.scene import Scene
from helpers.scoring import batches, calibration, interval, natural, scored, slopes, weights
from helpers.training import convolutional, dense, own, shaken

EPS = 0.05
CLOSE = {"rtol": 1e-6, "atol": 1e-9}


def by_scene(loss: AbstractLoss) -> Callable[[nn.Module, Batch], float]:
    return lambda model, batch: float(
        loss(Scene.of(model, batch, eps=EPS, generator=generator(0))).total.detach()
    )


WALKED = losses.build("crown_ibp", end=0.7)
CASES = {
    "natural": (convolutional, "1.weight", losses.build("natural"), natural),
    "natural, last layer": (convolutional, "8.weight", losses.build("natural"), natural),
    "natural, residual": (own, "second.weight", losses.build("natural"), natural),
    "ibp": (dense, "4.weight", losses.build("ibp"), interval(EPS)),
    "ibp, no norm": (lambda s: dense(s, norm=False), "3.weight", losses.build("ibp"), interval(EPS)),
    "crown_ibp": (dense, "4.weight", losses.build("crown_ibp"), interval(EPS)),
    "crown_ibp, walked": (dense, "7.weight", WALKED, by_scene(WALKED)),
}


@pytest.mark.parametrize("case", CASES)
def test_snip_is_the_slope_of_the_summed_loss_and_taylor_the_mean_of_the_batches(case: str) -> None:
    build, name, loss, value = CASES[case]
    model = build(3)
    data = calibration(14, loss=loss, eps=EPS if loss.certified else 0.0)  # batches of 6, 6 and 2
    mask = weights(model)
    snip, taylor = (scored(method, model, mask, data)[name] for method in ("snip", "taylor"))
    reference = copy.deepcopy(model).train()
    each = [slopes(reference, name, lambda b=b: value(reference, b)) for b in batches(data)]
    assert len(each) == 3
    torch.testing.assert_close(snip, sum(each).abs(), **CLOSE)
    torch.testing.assert_close(taylor, sum(change.abs() for change in each) / 3, **CLOSE)
    assert snip.max() > 1e-3


def test_the_option_batches_is_how_many_are_seen() -> None:
    model, data = convolutional(1), calibration(14)
    mask = Mask.ones(model, ["8.weight"])
    first, reference = batches(data)[0], copy.deepcopy(model)
    wanted = slopes(reference, "8.weight", lambda: natural(reference, first)).abs()
    for name in ("snip", "taylor"):  # on one batch they are the same
        torch.testing.assert_close(scored(name, model, mask, data, batches=1)["8.weight"], wanted, **CLOSE)


@pytest.mark.parametrize("name", ["ibp", "crown_ibp"])
def test_under_bounds_snip_says_something_else(name: str) -> None:
    model = dense(5)
    mask = weights(model)
    clean, bound = (
        scored("snip", model, mask, calibration(12, loss=losses.build(loss), eps=EPS))
        for loss in ("natural", name)
    )
    for layer in mask:
        assert (clean[layer] - bound[layer]).abs().max() > 0.1 * clean[layer].abs().max()


def test_taylor_does_not_let_batches_cancel() -> None:
    # Two batches that pull a weight in opposite directions, with equal force.
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False)).double()
    nn.init.constant_(model[1].weight, 1.0)
    ones = torch.ones(4, 1, 1, 1)
    split = Split(ones, torch.tensor([0, 0, 1, 1]))
    for seed in range(20):
        data = Calibration(split, batch_size=2)
        labels = [batch.labels.tolist() for batch in batches(data, seed)]
        if labels[0][0] == labels[0][1]:
            break
    snip, taylor = (scored(m, model, weights(model), data, seed=seed)["1.weight"] for m in ("snip", "taylor"))
    assert snip.abs().max() < 1e-12
    torch.testing.assert_close(taylor, torch.full((2, 1), 0.5, dtype=torch.float64))


@pytest.mark.parametrize(("method", "rounding"), [("snip", 1e-12), ("taylor", 1e-12), ("grasp", 1e-5)])
def test_the_order_of_the_images_does_not_matter_where_all_of_them_are_one_batch(
    method: str, rounding: float
) -> None:
    model, data = convolutional(2), calibration(12, size=12)
    first, other = (scored(method, model, weights(model), data, seed=seed) for seed in (0, 1))
    for name in first:
        atol = rounding * float(first[name].abs().max())
        torch.testing.assert_close(first[name], other[name], rtol=0, atol=atol)


def test_the_order_of_batches_does_not_matter_to_snip_without_batch_norm() -> None:
    model, data = convolutional(2, norm=False), calibration(12, size=4)
    first, other = (scored("snip", model, weights(model), data, seed=seed) for seed in (0, 1))
    for name in first:
        torch.testing.assert_close(first[name], other[name], rtol=1e-9, atol=1e-12)


# Units: a convolution with its BatchNorm, and a linear layer with its own.
GROUPS = Groups(
    {
        "1": Group(3, ("1.weight",), ("1.bias", "2.weight", "2.bias"), ("2.weight",)),
        "5": Group(5, ("5.weight",), ("5.bias", "6.weight", "6.bias"), ("6.weight",)),
    }
)


def units(
    model: nn.Module, groups: Groups, data: Calibration, mask: Mask | None = None
) -> dict[str, torch.Tensor]:
    scorer = scores.build("taylor")
    found = scorer.score_units(model, groups, mask or groups.ones(), data, keep=1, generator=generator(0))
    return dict(found)


def factor_slopes(model: nn.Module, names: tuple[str, ...], size: int, batch: Batch) -> torch.Tensor:
    """The slope of the loss by one factor on entry k of each of the named parameters, for every k."""
    found = []
    for k in range(size):
        ends = []
        for c in (1 + 1e-5, 1 - 1e-5):
            changed = copy.deepcopy(model)
            for name in names:
                changed.get_parameter(name).data[k] *= c
            ends.append(natural(changed, batch))
        found.append((ends[0] - ends[1]) / 2e-5)
    return torch.tensor(found, dtype=torch.float64)


def test_taylors_units_are_the_slopes_by_a_factor_on_all_that_a_unit_has() -> None:
    model, data = convolutional(3), calibration(14)
    found = units(model, GROUPS, data)
    for name, group in GROUPS.items():
        members = (*group.weights, *group.others)
        each = [factor_slopes(model, members, group.size, batch) for batch in batches(data)]
        torch.testing.assert_close(found[name], sum(change.abs() for change in each) / 3, **CLOSE)


def test_batch_norm_takes_away_what_weights_alone_would_say_of_a_unit() -> None:
    model, data = convolutional(3), calibration(14)
    found = units(model, GROUPS, data)
    incoming = units(model, Groups({n: Group(g.size, g.weights) for n, g in GROUPS.items()}), data)
    after = [factor_slopes(model, ("2.weight", "2.bias"), 3, batch) for batch in batches(data)]
    assert incoming["1"].max() < 1e-3 * found["1"].max()
    torch.testing.assert_close(found["1"], sum(change.abs() for change in after) / 3, rtol=1e-2, atol=1e-6)


def test_what_comes_in_at_a_unit_goes_out_of_it() -> None:
    # Without biases a ReLU's unit has one factor on both sides: sums of w dL/dw are equal.
    model = shaken(nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False), nn.ReLU(), nn.Linear(6, 3)), 4)
    data = calibration(12, size=12)
    found = units(model, Groups({"1": Group(6, ("1.weight",))}), data)["1"]
    (batch,) = batches(data)
    cross_entropy(model(batch.images), batch.labels).backward()
    out = (model[3].weight * model[3].weight.grad).detach().sum(0)
    torch.testing.assert_close(found, out.abs())
    assert out.abs().max() > 1e-3


def test_a_pruned_unit_counts_for_nothing() -> None:
    model, data = convolutional(3), calibration(14)
    mask = GROUPS.ones()
    mask["1"][1] = False
    found = units(model, GROUPS, data, mask)
    assert found["1"][1] == 0
    pruned = copy.deepcopy(model)
    GROUPS.expand(pruned, mask).apply_(pruned)
    again = units(pruned, GROUPS, data, mask)
    assert all(torch.equal(found[name], again[name]) for name in found)


@pytest.mark.parametrize("method", ["snip", "taylor", "grasp"])
@pytest.mark.parametrize("value", [0, -1, 2.5, "many", None, True, float("nan")])
def test_a_number_of_batches_that_is_none_is_refused(method: str, value: object) -> None:
    with pytest.raises(
        InputError,
        match=f"option batches of the pruning method {method} must be a whole number, at least 1, not",
    ):
        scores.build(method, batches=value)
