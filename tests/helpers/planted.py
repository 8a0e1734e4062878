"""Trained classifiers with a counterexample planted where attacks do not look.

The spike  s(x) = relu(height - steep * sum_d |x_d - p_d|)  over a few pixels d is ``height`` at the point p and 0 as
soon as these pixels are ``width`` away from it. Subtracted from the label's output it changes nothing elsewhere; its
height is the label's lead at p and a little more, so that p, and hardly anything else, is misclassified. The images are
ones that the classifier is certified to have right: without the spike the answer would be another one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.core.mask import Mask
from certiprune.data import load
from certiprune.net import Network, compact, lower
from certiprune.net.build import Builder, fold
from certiprune.net.network import Node
from certiprune.net.ops import Add, Conv, Dense
from certiprune.verify import Budget, Problem, Verdict, verify
from helpers.networks import F64, Source

# A power of two, as the pixels are sixteenths: the ends of a box are float32 numbers.
EPS = 1 / 32
WIDTH = 1e-3
PLACES = ("inside", "face", "corner")


class Residual(nn.Module):
    """A convolution with a sum around it."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, 1, 1), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)) + x)


def _mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 10)
    )


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(4, 8, 2, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(72, 10),
    )


def _normed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 4, 2, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10),
    )  # fmt: skip


def _residual() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, 2, 1), nn.BatchNorm2d(3), nn.ReLU(), Residual(3), nn.Flatten(), nn.Linear(48, 10)
    )


MODELS = {"mlp": _mlp, "cnn": _cnn, "batch norm": _normed, "residual": _residual}


@dataclass(frozen=True)
class Base:
    """A trained classifier as a network, and images [n, 1, 8, 8] whose labels it is certified to keep within EPS."""

    network: Network
    images: Tensor
    labels: Tensor


def trained(name: str, *, pruned: bool, steps: int = 30) -> Base:
    """A small classifier of the embedded digits, by full-batch gradient steps.

    With ``pruned`` half of its weights and a third of its units are masked from the start.
    """
    data = load("digits").train
    images, labels = data.images[:250], data.labels[:250]
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        model = MODELS[name]()
        parameters = dict(model.named_parameters())
        keep = {key: torch.rand_like(p) < 0.5 for key, p in parameters.items() if p.dim() > 1 and pruned}
        for key in list(keep)[:-1]:
            keep[key][::3] = False
        mask = Mask(keep)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(steps):
            mask.apply_(model)
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
    network = lower(model.eval(), shape=(1, 8, 8), mask=mask)
    found = verify(network, images[:30], labels[:30], eps=EPS, budget=Budget(nodes=0))
    sure = sorted(o.index for o in found if o.verdict is Verdict.CERTIFIED)
    return Base(network, images[sure].double(), labels[sure])


@dataclass(frozen=True)
class Planted:
    """A network whose question about one image has the answer no, and the point that says so [*shape]."""

    network: Network
    problem: Problem
    point: Tensor


def plant(
    base: Base, seed: int, *, place: str, pixels: int, depth: float, scale: float, windows: bool
) -> Planted:
    """A question about one of the classifier's images, made false at one point.

    Args:
        base: the classifier.
        seed: which image, pixels and point.
        place: where the point lies: inside of the box, on a face, or in a corner (as far as its ``pixels`` go).
        pixels: how many pixels the spike looks at.
        depth: by how much the label loses there.
        scale: a factor on the spike's first weights, undone behind them.
        windows: whether the spike starts with a convolution that has one bias per position.
    """
    source = Source.of(seed)
    network = base.network
    k = source.whole(0, len(base.images) - 1)
    label = int(base.labels[k])
    problem = Problem.robust(base.images[k : k + 1], base.labels[k : k + 1], EPS, classes=10)
    at = torch.randperm(64, generator=source.generator)[:pixels]
    point = _point(problem.box, place, at, source)
    height = float(problem.margin.worst(network(point))) + depth
    spike = _spike_of_windows if windows else _spike
    nodes, top = spike(network, point, at, height, scale)
    lose = torch.zeros(10, 1, dtype=F64)
    lose[label] = -1
    nodes += [Node(Dense(lose, None), (top,)), Node(Add(), (network.output, top + 1))]
    whole = Network((*network.nodes, *nodes), network.input_shape)
    whole = fold(whole, whole.output)
    return Planted(compact(whole)[0], problem, point[0])


def crossed(planted: Planted, seed: int, rows: int) -> Planted:
    """The same question with ``rows`` rows in each clause, none of which may hold at the planted point either.

    A row m becomes the rows m + a_i g with the a_i of sum 0 and a form g that is 0 at the point: each of them is
    smaller than m in about half of the box, the largest is nowhere, and their mean is m.
    """
    source = Source.of(seed + 31)
    problem = planted.problem
    margin = problem.margin
    at = planted.network(planted.point.unsqueeze(0))[0]
    form = source.normal(margin.rows, len(at))
    share = torch.linspace(-1, 1, rows, dtype=F64)
    matrix = margin.matrix[0].unsqueeze(1) + share.reshape(1, -1, 1) * form.unsqueeze(1)
    offset = margin.offset[0].unsqueeze(1) - share * (form @ at).unsqueeze(1)
    clause = margin.clause.repeat_interleave(rows)
    several = Margin(matrix.reshape(1, -1, len(at)), offset.reshape(1, -1), clause)
    return replace(planted, problem=replace(problem, margin=several))


def _point(box: Box, place: str, at: Tensor, source: Source) -> Tensor:
    """A point of float32 numbers."""
    share = source.uniform(*box.lower.shape).mul(0.8).add(0.1)
    flat = (box.lower + share * (box.upper - box.lower)).float().double().flatten()
    ends = torch.stack([box.lower.flatten(), box.upper.flatten()])
    moved = {"inside": at[:0], "face": at[:1], "corner": at}[place]
    for d in moved.tolist():
        flat[d] = ends[source.whole(0, 1), d]
    return flat.reshape(box.lower.shape)


def _spike(
    network: Network, point: Tensor, at: Tensor, height: float, scale: float
) -> tuple[list[Node], int]:
    """The nodes of the spike and its number, by matrices."""
    b = Builder(network.input_shape)
    pick = torch.zeros(len(at), 64, dtype=F64)
    pick[torch.arange(len(at)), at] = scale
    both = torch.cat([pick, -pick])
    away = b.relu(b.emit(Dense(both, -both @ point.flatten()), b.flatten(0)))
    steep = torch.full((1, 2 * len(at)), -height / WIDTH / scale, dtype=F64)
    b.relu(b.emit(Dense(steep, torch.tensor([height], dtype=F64)), away))
    return _behind(b.nodes, network.output)


def _spike_of_windows(
    network: Network, point: Tensor, at: Tensor, height: float, scale: float
) -> tuple[list[Node], int]:
    """The nodes of the spike and its number, by convolutions whose bias differs from place to place."""
    b = Builder(network.input_shape)
    sign = torch.tensor([scale, -scale], dtype=F64).reshape(2, 1, 1, 1)
    shift = -sign[:, 0] * point[0]
    # Elsewhere the two ReLUs are never off, so that there is nothing to search.
    shift.flatten(1)[:, [d for d in range(64) if d not in at.tolist()]] += 2 * scale
    away = b.relu(b.emit(Conv(sign, shift), 0))
    steep = torch.zeros(1, 2, 8, 8, dtype=F64)
    steep.flatten(2)[:, :, at] = -height / WIDTH / scale
    b.relu(b.flatten(b.emit(Conv(steep, torch.full((1, 1, 1), height, dtype=F64)), away)))
    return _behind(b.nodes, network.output)


def _behind(nodes: list[Node], last: int) -> tuple[list[Node], int]:
    """Nodes that read the input and each other, put behind ``last`` others."""
    moved = [Node(n.op, tuple(i + last if i else 0 for i in n.inputs), n.name) for n in nodes]
    return moved, last + len(nodes)
