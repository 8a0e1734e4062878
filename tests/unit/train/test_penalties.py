"""Penalties by hand, by loops, and by what they are said to equal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from certiprune.bounds.ibp import ibp
from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.train import losses, penalties
from certiprune.train.losses import Penalised
from certiprune.train.penalties import AbstractPenalty
from certiprune.train.penalties.rs import stability
from certiprune.train.scene import Scene
from helpers.networks import Source
from helpers.training import MODELS, Own, batch, convolutional, dense, own, scene

EPS = 0.1


def value(name: str, where: Scene, bounds: PreActivation | None = None) -> float:
    found = penalties.build(name)(where, bounds)
    assert found is not None and found.shape == ()
    return float(found.detach())


def pre(*ends: tuple[list[list[float]], list[list[float]]]) -> PreActivation:
    lower = {k: torch.tensor(low).double() for k, (low, _) in enumerate(ends, start=2)}
    return PreActivation(lower, {k: torch.tensor(high).double() for k, (_, high) in enumerate(ends, start=2)})


def test_rs_by_hand() -> None:
    bounds = pre(([[-1.0, 2.0]], [[1.0, 3.0]]), ([[-4.0]], [[-0.5]]))
    # l u is -1, 6 and 2.
    wanted = -(math.tanh(0.0) + math.tanh(7.0) + math.tanh(3.0)) / 3
    where = scene(dense(0), batch(), EPS)
    assert value("rs", where, bounds) == pytest.approx(wanted)
    assert float(stability(bounds, {2: torch.tensor([2.0, 0.5]).double()})) == pytest.approx(
        -(math.tanh(1 - 1 / 4) + math.tanh(1 + 6 * 4) + math.tanh(3.0)) / 3
    )
    own_bounds = where.bounds.pre
    terms = [
        -math.tanh(1 + low * high)
        for v in own_bounds.lower
        for low, high in zip(
            own_bounds.lower[v].flatten().tolist(), own_bounds.upper[v].flatten().tolist(), strict=True
        )
    ]
    assert value("rs", where) == pytest.approx(sum(terms) / len(terms))


def test_rs_falls_as_neurons_become_stable() -> None:
    def at(low: float, high: float) -> float:
        return float(stability(pre(([[low]], [[high]])), {}))

    assert at(1.0, 2.0) < at(0.0, 2.0) < at(-0.5, 2.0) < at(-1.0, 2.0)
    assert at(-2.0, -1.0) == pytest.approx(at(1.0, 2.0)) and at(5.0, 9.0) >= -1 and at(-9.0, 9.0) <= 1


@pytest.mark.parametrize("kind", MODELS)
def test_nrs_is_rs_where_scales_are_1(kind: str) -> None:
    model = MODELS[kind](1)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.weight.copy_(layer.weight.sign())
    where = scene(model, batch(1), EPS)
    assert value("nrs", where) == pytest.approx(value("rs", where), rel=1e-12)
    plain = scene(dense(1, norm=False), batch(1), EPS)
    assert value("nrs", plain) == value("rs", plain) and plain.scales == {}


@pytest.mark.parametrize("shifted", [False, True])
def test_nrs_is_rs_before_the_scaling_by_gamma(shifted: bool) -> None:
    """Of z / gamma = x + beta / gamma, where x is what BatchNorm has normalised but not scaled."""
    model, data = (
        nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3)),
        batch(2),
    )
    source = Source.of(2)
    model.double()
    norm = model[2]
    with torch.no_grad():
        norm.weight.copy_(source.normal(7))
        norm.bias.copy_(source.normal(7) if shifted else torch.zeros(7))
    where = scene(model, data, EPS)
    linear, box = model[1], where.box
    x = linear(data.images.flatten(1))
    mean, invstd = x.mean(0), (x.var(0, unbiased=False) + norm.eps).rsqrt()
    centre = (linear(box.centre.flatten(1)) - mean) * invstd + norm.bias / norm.weight
    radius = box.half_width.flatten(1) @ linear.weight.abs().T * invstd
    wanted = -torch.tanh(1 + (centre - radius) * (centre + radius)).mean()
    assert value("nrs", where) == pytest.approx(float(wanted.detach()), rel=1e-10)
    assert abs(value("nrs", where) - value("rs", where)) > 0.01


def test_nrs_measures_each_relu_by_the_norm_right_before_it() -> None:
    model = own(3)
    assert isinstance(model, Own)
    where = scene(model, batch(3), EPS)
    relus = where.network.relus
    first, _, last = relus
    # The second place of the one ReLU layer follows a sum.
    assert list(where.scales) == [first, last]
    assert torch.equal(where.scales[first].flatten(), model.norm1.weight)
    assert torch.equal(where.scales[last], model.norm3.weight)
    total, count = 0.0, 0
    for v in relus:
        unit = {first: model.norm1.weight[:, None, None], last: model.norm3.weight}.get(v, torch.ones(()))
        bounds = where.bounds.pre
        terms = torch.tanh(1 + bounds.lower[v] * bounds.upper[v] / unit**2).detach()
        total, count = total - float(terms.sum()), count + terms.numel()
    assert value("nrs", where) == pytest.approx(total / count)


def test_nrs_has_no_gradient_through_the_division() -> None:
    """It reaches gamma through the bounds, as of numbers divided by a constant."""
    model = convolutional(4)
    where = scene(model, batch(4), EPS)
    scales = {v: t.clone() for v, t in where.scales.items()}
    assert len(scales) == 2 and not any(t.requires_grad for t in where.scales.values())
    parameters = list(model.parameters())
    found = penalties.build("nrs")(where, None)
    assert found is not None
    again = scene(model, batch(4), EPS)
    wanted = stability(again.bounds.pre, scales)
    for mine, other in zip(
        torch.autograd.grad(found, parameters, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(wanted, parameters, allow_unused=True, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_a_channel_of_scale_0_leaves_nrs_finite() -> None:
    model = convolutional(5).float()
    with torch.no_grad():
        model[2].weight[0] = 0.0
    data = batch(5)._replace(images=batch(5).images.float())
    found = penalties.build("nrs")(scene(model, data, EPS), None)
    assert found is not None and -1 <= float(found.detach()) <= 1
    found.backward()
    used = [p.grad for p in model.parameters() if p.grad is not None]
    assert used and all(bool(g.isfinite().all()) for g in used)


def test_slimming_and_l1_by_hand() -> None:
    model = convolutional(6)
    where = scene(model, batch(6), EPS)
    scales = [float(x) for k in (2, 6) for x in model[k].weight.detach()]
    assert value("slimming", where) == pytest.approx(sum(abs(x) for x in scales)) and min(scales) < 0
    weights = [float(x) for k in (1, 5, 8) for x in model[k].weight.detach().flatten()]
    assert value("l1", where) == pytest.approx(sum(abs(x) for x in weights))
    plain = scene(dense(6, norm=False), batch(6), EPS)
    assert value("slimming", plain) == 0.0
    bare = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16, affine=False))
    assert value("slimming", scene(bare, batch(6), EPS)) == value("l1", scene(bare, batch(6), EPS)) == 0.0


def test_slimming_and_l1_hold_at_every_radius_and_need_no_bounds() -> None:
    class Untraceable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.norm = nn.Linear(16, 3), nn.BatchNorm1d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.layer(x.flatten(1))) if bool(x.sum() > 0) else x

    for eps in (0.0, EPS):
        where = scene(Untraceable().double(), batch(), eps)
        assert value("slimming", where) == 3.0 and value("l1", where) > 0


def test_a_pruned_weight_has_no_gradient_from_l1() -> None:
    model = dense(1)
    with torch.no_grad():
        model[1].weight[0] = 0.0
    found = penalties.build("l1")(scene(model, batch(1), EPS), None)
    assert found is not None
    (gradient,) = torch.autograd.grad(found, model[1].weight)
    assert not bool(gradient[0].any()) and torch.equal(gradient[1:], model[1].weight[1:].sign())


def fast_ibp_by_loops(where: Scene, tolerance: float) -> float:
    bounds, total = where.bounds.pre, 0.0
    widths = [float(w) / 2 for w in (where.box.upper - where.box.lower).flatten()]
    start = sum(widths) / len(widths)
    for v in bounds.lower:
        ends = list(zip(bounds.lower[v].flatten().tolist(), bounds.upper[v].flatten().tolist(), strict=True))
        middles = [(low + high) / 2 for low, high in ends]
        radius = sum((high - low) / 2 for low, high in ends) / len(ends)
        total += max(0.0, tolerance - start / radius) / tolerance
        mean = sum(middles) / len(middles)
        on = [m for m, (low, _) in zip(middles, ends, strict=True) if low > 0]
        off = [m for m, (_, high) in zip(middles, ends, strict=True) if high < 0]
        pairs = [
            (sum(on), -sum(off)),
            (sum((m - mean) ** 2 for m in on), sum((m - mean) ** 2 for m in off)),
        ]
        for one, other in pairs:
            if one > 1e-12 and other > 1e-12:
                total += max(0.0, tolerance - min(one / other, other / one)) / tolerance
    return (1 - where.eps / where.target) * total / len(bounds.lower)


@pytest.mark.parametrize("tolerance", [0.5, 0.9])
@pytest.mark.parametrize("kind", MODELS)
def test_fast_ibp_by_loops(kind: str, tolerance: float) -> None:
    for seed in range(3):
        where = scene(MODELS[kind](seed), batch(seed), 0.03, target=0.1)
        found = penalties.build("fast_ibp", tolerance=tolerance)(where, None)
        assert found is not None
        assert float(found.detach()) == pytest.approx(fast_ibp_by_loops(where, tolerance), rel=1e-9)
        assert float(found.detach()) > 0


def test_fast_ibp_vanishes_when_the_radius_has_risen() -> None:
    model, data = convolutional(7), batch(7)
    values = [value("fast_ibp", scene(model, data, eps, target=0.1)) for eps in (0.05, 0.09, 0.0999)]
    assert values[0] > values[1] > values[2] > 0
    assert values[2] < 0.01 * values[0]
    for eps in (0.0, 0.1):
        assert penalties.build("fast_ibp")(scene(model, data, eps, target=0.1), None) is None
    assert penalties.build("fast_ibp")(scene(model, data, 0.1), None) is None


def test_penalties_on_bounds_do_not_apply_at_eps_0() -> None:
    where = scene(dense(1), batch(1), 0.0)
    assert penalties.build("rs")(where, None) is None and penalties.build("nrs")(where, None) is None


@dataclass(frozen=True)
class Seen(AbstractPenalty):
    """Keeps what it is given."""

    kept: list[PreActivation | None]
    name: ClassVar[str] = "seen"

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        self.kept.append(bounds)
        return None


@pytest.mark.parametrize("name", losses.names())
def test_penalties_get_the_losses_own_bounds(name: str) -> None:
    model, data, kept = convolutional(8), batch(8), list[PreActivation | None]()
    where = scene(model, data, EPS, target=2 * EPS)
    loss = losses.build(name)
    terms = Penalised(loss, ((Seen(kept), 1.0), (penalties.build("rs"), 0.3)))(where)
    (bounds,) = kept
    whole = where.bounds.pre
    plain = loss(scene(model, data, EPS, target=2 * EPS))
    torch.testing.assert_close(
        terms.total.detach() - plain.total.detach(), torch.tensor(0.3 * terms.parts["rs"]).double()
    )
    if not loss.certified:
        assert bounds is None and terms.parts["rs"] == value("rs", where)
        return
    assert bounds is not None and list(bounds.lower) == list(whole.lower)
    inside = [bool((bounds.lower[v] > whole.lower[v]).any()) for v in whole.lower]
    assert all(inside) if name == "sabr" else not any(inside)
    assert terms.parts["rs"] == value("rs", where, bounds)
    if name == "sabr":
        assert terms.parts["rs"] != value("rs", where)


def test_the_bounds_of_small_boxes_are_those_boxes() -> None:
    model, data = convolutional(8), batch(8)
    where = scene(model, data, EPS)
    terms = losses.build("sabr", ratio=0.0)(where)
    assert terms.bounds is not None
    for v, lower in terms.bounds.lower.items():
        torch.testing.assert_close(lower, terms.bounds.upper[v])
    whole = ibp(where.network, Box(where.box.lower, where.box.upper))
    assert all(bool((whole.pre.lower[v] <= t + 1e-9).all()) for v, t in terms.bounds.lower.items())


def test_a_penalised_loss_is_the_sum_and_says_its_parts() -> None:
    model, data = convolutional(9), batch(9)
    where = scene(model, data, 0.05, target=0.1)
    parts = (("slimming", 1e-4), ("l1", 1e-5), ("fast_ibp", 0.5), ("nrs", 0.01))
    loss = Penalised(losses.build("ibp"), tuple((penalties.build(name), weight) for name, weight in parts))
    terms, plain = loss(where), losses.build("ibp")(scene(model, data, 0.05, target=0.1))
    values = {name: value(name, where) for name, _ in parts}
    assert terms.parts == {**plain.parts, **values}
    total = float(plain.total.detach()) + sum(weight * values[name] for name, weight in parts)
    assert float(terms.total.detach()) == pytest.approx(total, rel=1e-12)
    # What does not apply is not a part.
    ended = loss(scene(model, data, 0.1, target=0.1))
    assert "fast_ibp" not in ended.parts and "nrs" in ended.parts
    zero = loss(scene(model, data, 0.0, target=0.1))
    assert set(zero.parts) == {"accuracy", "slimming", "l1"}


@pytest.mark.parametrize("name", losses.names())
def test_a_penalised_loss_is_certified_as_its_loss_is(name: str) -> None:
    loss = losses.build(name)
    assert Penalised(loss, ()).certified == loss.certified
    where = scene(dense(2), batch(2), EPS)
    assert torch.equal(Penalised(loss, ())(where).total, loss(scene(dense(2), batch(2), EPS)).total)
