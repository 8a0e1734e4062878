"""Loss fusion: the bound of the cross entropy by one walk back, against CROWN by matrices, points, and its ends."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from certiprune.attack import negative_cross_entropy, pgd
from certiprune.bounds.preact import PreActivation
from certiprune.core.box import Box
from certiprune.core.rng import generator
from certiprune.data import Batch
from certiprune.net.network import Network
from certiprune.train import losses
from certiprune.train.losses import crown_ibp
from certiprune.train.losses.crown_ibp import fused
from helpers.networks import Source, random_points
from helpers.training import (
    CLASSES,
    F64,
    MODELS,
    batch,
    convolutional,
    crown_upper,
    dense,
    loop_intervals,
    scene,
    shaken,
    steps,
)

SEEDS = st.integers(0, 10_000)


def examples(count: int) -> settings:
    return settings(max_examples=count, derandomize=True, deadline=None)


@pytest.mark.parametrize("beta", [1.0, 0.6, 0.0])
@pytest.mark.parametrize("seed", range(4))
def test_it_is_crown_by_matrices_around_the_chords_of_the_exponential(seed: int, beta: float) -> None:
    model, data = dense(seed), batch(seed)
    assert isinstance(model, nn.Sequential)
    where = scene(model, data, 0.15)
    found, box = steps(model, data.images), where.box
    wanted = []
    for k, label in enumerate(data.labels.tolist()):
        *entering, ends = loop_intervals(found, box.lower[k], box.upper[k], label)
        form, const, interval = torch.zeros(CLASSES, dtype=F64), 0.0, 0.0
        for j, (low, high) in enumerate(ends):
            interval += math.exp(high)
            if j == label:
                const += 1.0
                continue
            slope = (math.exp(high) - math.exp(low)) / (high - low)
            const += math.exp(high) - slope * high
            form[j] += slope
            form[label] -= slope
        walked = const + crown_upper(found, box.lower[k], box.upper[k], entering, form)
        wanted.append(math.log(beta * walked + (1 - beta) * interval))
    torch.testing.assert_close(fused(where, beta).detach(), torch.tensor(wanted, dtype=F64))


@pytest.mark.parametrize("kind", MODELS)
def test_without_the_walk_it_is_ibp_exactly(kind: str) -> None:
    model, data = MODELS[kind](3), batch(3)
    worst = scene(model, data, 0.1).margins
    each = cross_entropy(worst[0] + worst[1], data.labels, reduction="none")
    torch.testing.assert_close(fused(scene(model, data, 0.1), 0.0), each, rtol=1e-13, atol=0)
    # At the final radius, where beta is 0 by default, the losses are equal.
    ends = losses.build("crown_ibp")(scene(model, data, 0.1, target=0.1))
    ibp = losses.build("ibp")(scene(model, data, 0.1, target=0.1))
    torch.testing.assert_close(ends.total, ibp.total, rtol=1e-13, atol=0)
    assert ends.parts == {**ibp.parts, "beta": 0.0}


def test_beta_falls_from_start_to_end_with_the_radius() -> None:
    model, data = dense(1), batch(1)
    for eps, beta in ((0.05, 0.9 - 0.5 * 0.25), (0.1, 0.9 - 0.5 * 0.5), (0.2, 0.4)):
        loss = losses.build("crown_ibp", start=0.9, end=0.4)
        terms = loss(scene(model, data, eps, target=0.2))
        assert terms.parts["beta"] == pytest.approx(beta)
        torch.testing.assert_close(terms.total, fused(scene(model, data, eps), beta).mean())
        assert terms.bounds is not None and set(terms.parts) == {"accuracy", "certified_accuracy", "beta"}


def largest_entropy(network: Network, box: object, labels: Tensor, seed: int) -> Tensor:
    """The largest cross entropy that points and attacks find in each box."""
    found = pgd(
        negative_cross_entropy(network, labels),
        box,  # type: ignore[arg-type]
        steps=10,
        step_size=0.3,
        restarts=2,
        generator=generator(seed),
    )
    best = -found.values
    for k in range(len(labels)):
        points = random_points(seed + k, box[k : k + 1], 60)  # type: ignore[index]
        tried = cross_entropy(network(points), labels[k].expand(60), reduction="none")
        best[k] = torch.maximum(best[k], tried.max())
    return best


@examples(30)
@given(SEEDS)
def test_it_is_above_the_largest_cross_entropy(seed: int) -> None:
    source = Source.of(seed)
    kind = list(MODELS)[seed % len(MODELS)]
    model, data = MODELS[kind](seed), batch(seed, 3)
    where = scene(model, data, float(source.uniform(1)) * 0.4)
    with torch.no_grad():
        network = where.target_of_attack
        best = largest_entropy(network, where.box, data.labels, seed)
        for beta in (1.0, 0.5, 0.0):
            assert bool((fused(where, beta) >= best - 1e-9).all())
        # Between its ends it lies between them.
        ends = torch.stack([fused(where, 1.0), fused(where, 0.0)])
        middle = fused(where, 0.3)
        assert bool((middle >= ends.amin(0) - 1e-12).all() and (middle <= ends.amax(0) + 1e-12).all())


def test_the_walk_is_tighter_where_intervals_forget() -> None:
    """x - x is 0, which a walk back sees and intervals do not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Identity(), nn.Linear(4, CLASSES)).double()
    shaken(model, 2)
    where = scene(model, batch(2), 0.2)
    with torch.no_grad():
        assert bool((fused(where, 1.0) < fused(where, 0.0) - 0.01).all())


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_its_cost_does_not_depend_on_the_number_of_classes(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[tuple[int, ...]] = []
    crown = crown_ibp.crown

    def counting(network: Network, box: Box, pre: PreActivation, coeff: Tensor, const: Tensor) -> Tensor:
        walked.append(coeff.shape)
        return crown(network, box, pre, coeff, const)

    monkeypatch.setattr(crown_ibp, "crown", counting)
    losses.build("crown_ibp")(
        scene(dense(1, classes=classes), batch(1, 5, classes=classes), 0.05, target=0.1)
    )
    assert walked == [(5, classes)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1e3, 1e5])
def test_huge_margins_overflow_nowhere(size: float, dtype: torch.dtype) -> None:
    for seed in range(3):
        model, data = dense(seed), batch(seed)
        with torch.no_grad():
            for parameter in model[-1].parameters():
                parameter.mul_(size)
        model.to(dtype)
        data = data._replace(images=data.images.to(dtype))
        wanted = fused(scene(model, data, 0.1), 0.0).detach()
        assert float(wanted.max()) > size / 10
        for beta in (1.0, 0.5):
            model.zero_grad()
            total = fused(scene(model, data, 0.1), beta)
            total.mean().backward()
            assert bool(total.isfinite().all()) and float(total.detach().max()) > size / 20
            assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def pruned(seed: int) -> nn.Module:
    """A network of which a few neurons have lost all incoming weights: what enters their ReLUs is constant."""
    model = convolutional(seed)
    with torch.no_grad():
        model[1].weight[0] = 0
        model[6].weight[:2] = 0
    return model


@pytest.mark.parametrize("training", [True, False])
def test_neurons_without_incoming_weights_have_finite_gradients(training: bool) -> None:
    model, data = pruned(3).train(training), batch(3)
    where = scene(model, data, 0.1)
    assert any(bool((t == where.bounds.pre.upper[v]).any()) for v, t in where.bounds.pre.lower.items())
    fused(where, 0.7).mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_constant_networks_and_boxes_of_one_point() -> None:
    model, data = dense(4), batch(4)
    with torch.no_grad():
        model[-1].weight.zero_()
    entropy = cross_entropy(model(data.images), data.labels, reduction="none")
    for beta in (1.0, 0.5, 0.0):
        model.zero_grad()
        total = fused(scene(model, data, 0.1), beta)
        torch.testing.assert_close(total, entropy)
        total.mean().backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    model = dense(5)
    entropy = cross_entropy(model(data.images), data.labels, reduction="none")
    total = fused(scene(model, data, 0.0), 1.0)
    torch.testing.assert_close(total, entropy)
    total.mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("eps", [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8])
def test_narrow_intervals_have_the_gradient_of_double_precision(eps: float) -> None:
    """Epsilon rises from 0: chords over tiny intervals are quotients of tiny differences."""

    def gradient(dtype: torch.dtype) -> Tensor:
        model, data = dense(6, norm=False).to(dtype), batch(6)
        data = Batch(data.images.float().to(dtype), data.labels)
        fused(scene(model, data, eps), 1.0).mean().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()

    exact = gradient(torch.float64)
    assert float((gradient(torch.float32) - exact).norm()) < 1e-3 * float(exact.norm())


def test_a_rising_radius_raises_the_loss() -> None:
    model, data = convolutional(7), batch(7)
    where = scene(model, data, 0.0)
    with torch.no_grad():
        values = [float(fused(replace(where, eps=eps), 1.0).mean()) for eps in (0.0, 0.01, 0.03, 0.1, 0.2)]
    assert values == sorted(values) and values[0] < values[1]
