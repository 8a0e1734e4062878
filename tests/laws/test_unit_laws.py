"""Units: those that are pruned are gone whatever a network is made of, and scores do not see how units are numbered."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.data import Split
from certiprune.net.zoo import Residual
from certiprune.prune import Calibration, scores
from certiprune.prune.coupling import groups
from helpers.networks import Source
from helpers.training import shaken
from helpers.units import check_gone, random_units

LAW = settings(derandomize=True, deadline=None, max_examples=60)
SEEDS = st.integers(0, 2**20)
SIDE = 4

STEPS = (
    "conv",
    "conv",
    "conv",
    "sum",
    "sum",
    "norm",
    "relu",
    "relu",
    "depthwise",
    "grouped",
    "pool",
    "shift",
    "times",
)


@dataclass(frozen=True)
class Step:
    """One step of a random network: what it does, with which earlier values."""

    kind: str
    first: int
    second: int


class Drawn(nn.Module):
    """Values of 4 channels, each made by a step from earlier ones; the last few end in a linear layer."""

    def __init__(self, steps: list[Step]) -> None:
        super().__init__()
        self.steps = steps
        makers = {
            "conv": lambda: nn.Conv2d(4, 4, 3, padding=1),
            "norm": lambda: nn.BatchNorm2d(4),
            "depthwise": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
            "grouped": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2),
            "pool": lambda: nn.AvgPool2d(3, 1, 1),
        }
        self.layers = nn.ModuleDict(
            {str(k): makers[step.kind]() for k, step in enumerate(steps) if step.kind in makers}
        )
        self.first, self.relu = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU()
        self.last, self.end = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * SIDE**2, 3)

    def forward(self, x: Tensor) -> Tensor:
        values = [self.relu(self.first(x))]
        for k, step in enumerate(self.steps):
            a, b = values[step.first % len(values)], values[step.second % len(values)]
            values.append(self.apply_step(k, step.kind, a, b))
        return self.end(self.relu(self.last(values[-1])).flatten(1))

    def apply_step(self, k: int, kind: str, a: Tensor, b: Tensor) -> Tensor:
        if kind == "sum":
            return a + b
        if kind == "relu":
            return self.relu(a)
        if kind == "shift":
            return a - 0.5
        return 0.5 * a if kind == "times" else self.layers[str(k)](a)


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Steps read recent values more often, so that networks are deep."""
    count = draw(st.integers(1, 9))
    steps = []
    for k in range(count):
        recent = st.integers(max(0, k - 2), k)
        steps.append(Step(draw(st.sampled_from(STEPS)), draw(recent), draw(st.integers(0, k))))
    return shaken(Drawn(steps), draw(SEEDS)).eval()  # type: ignore[return-value]


@LAW
@given(drawn(), SEEDS, st.floats(0.1, 0.9))
def test_pruned_units_are_gone(model: Drawn, seed: int, share: float) -> None:
    found = groups(model, layers="all")
    assert "last" in found
    check_gone(model, found, random_units(found, seed, share), (1, SIDE, SIDE), exact=True)


@LAW
@given(drawn(), SEEDS)
def test_masks_of_units_and_of_parameters_are_one_and_the_same(model: Drawn, seed: int) -> None:
    found = groups(model, layers="all")
    units = random_units(found, seed)
    expanded = found.expand(model, units)
    again = found.units(expanded)
    assert all(torch.equal(again[name], units[name]) for name in units)
    weights = found.weights(model, units)
    assert all(bool((~weights[name] | expanded[name]).all()) for name in weights)
    # What is left out of it reads what is 0, so that nothing changes without it.
    pruned = copy.deepcopy(model)
    expanded.apply_(pruned)
    x = Source.of(seed).normal(3, 1, SIDE, SIDE)
    before = pruned(x)
    weights.apply_(pruned)
    torch.testing.assert_close(pruned(x), before)


def chain(seed: int) -> nn.Sequential:
    """Convolutions with BatchNorm, one behind a residual sum, and linear layers."""
    body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3, padding=1)]
    layers += [nn.BatchNorm2d(3), nn.ReLU(), Residual(body, nn.Identity()), nn.ReLU(), nn.Flatten()]
    return shaken(nn.Sequential(*layers, nn.Linear(48, 3)), seed).float().eval()  # type: ignore[return-value]


def permuted(model: nn.Module, orders: dict[str, Tensor]) -> nn.Module:
    """The same function with the units of each group in another order."""
    other, found = copy.deepcopy(model), groups(model)
    tensors = other.state_dict()
    for name, order in orders.items():
        group = found[name]
        norms = [scale.removesuffix("weight") for scale in group.scales]
        running = [f"{norm}running_{part}" for norm in norms for part in ("mean", "var")]
        for key in (*group.weights, *group.others, *running):
            tensors[key].copy_(tensors[key][order].clone())
        for key in group.readers:
            width = tensors[key].shape[1] // group.size
            columns = (order.unsqueeze(1) * width + torch.arange(width)).flatten()
            tensors[key].copy_(tensors[key][:, columns].clone())
    return other


@settings(LAW, max_examples=10)
@given(SEEDS)
def test_the_order_of_units_does_not_matter_to_their_scores(seed: int) -> None:
    source = Source.of(seed)
    model, split = (
        chain(seed),
        Split(torch.rand(6, 1, 4, 4, generator=source.generator), torch.zeros(6).long()),
    )
    found, data = groups(model), Calibration(split, eps=0.02)
    orders = {name: torch.randperm(g.size, generator=source.generator) for name, g in found.items()}
    other = permuted(model, orders)
    torch.testing.assert_close(other(split.images), model(split.images), rtol=1e-4, atol=1e-4)
    units = random_units(found, seed)
    moved = Mask({name: units[name][order] for name, order in orders.items()})
    for name in ("l1-channel", "slim", "refill", "rs", "nrs", "magnitude"):
        method = scores.build(name)
        one = method.score_units(model, found, units, data, keep=3, generator=generator(0))
        two = method.score_units(other, found, moved, data, keep=3, generator=generator(0))
        for group, order in orders.items():
            torch.testing.assert_close(two[group], one[group][order], rtol=1e-3, atol=1e-4)


@settings(LAW, max_examples=10)
@given(SEEDS, st.floats(0.1, 10))
def test_scores_of_sizes_grow_with_the_weights(seed: int, factor: float) -> None:
    model = chain(seed)
    found = groups(model)
    units, larger = random_units(found, seed), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in larger.parameters():
            parameter.mul_(factor)
    for name in ("l1-channel", "slim", "refill", "magnitude"):
        method = scores.build(name)
        one, two = (
            method.score_units(m, found, units, None, keep=4, generator=generator(0)) for m in (model, larger)
        )
        for group in found:
            torch.testing.assert_close(two[group], factor * one[group], rtol=1e-5, atol=0)
