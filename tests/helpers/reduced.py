"""Networks in one box, with tasks about it in the layered and in the reduced form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from certiprune.bounds import Engine, preactivations
from certiprune.bounds.mix import Mix
from certiprune.bounds.reduced import Reduced, reduce
from certiprune.core.box import Box
from certiprune.net import Network
from certiprune.net.build import Builder
from certiprune.net.ops import Conv, Permute, Select
from certiprune.verify.clauses import Several
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation
from certiprune.verify.subproblem import Subproblems
from helpers.networks import KINDS, Source, images, random_box


def mixed(source: Source, seed: int) -> Network:
    """Groups, padding on two sides, other orders, picks and places; a last sum (or ReLU) that reads the input, too."""
    b = Builder((2, 4, 4))
    grouped = Conv(source.normal(4, 1, 2, 2), 0.3 * source.normal(4, 1, 1), (1 + seed % 2,) * 2, groups=2)
    turned = b.emit(Permute((0, 2, 1)), b.emit(grouped, b.pad(0, (1, 0, 0, 1))))
    first = b.relu(b.emit(Select(0, torch.tensor([2, 0, 3])), turned))
    bent = b.scale(first, source.normal(3, 1, 1), source.normal(b.shapes[first][-1]))
    second = b.relu(b.emit(source.conv(2, 6, 3, 1, 1), b.concat([first, bent], 0)))
    parts = [b.flatten(v) for v in (second, 0)]
    total = b.add(*[b.emit(source.dense(3, b.shapes[v][0]), v) for v in parts])
    return b.finish(b.relu(total) if seed % 3 == 0 else total)


def apart(source: Source, seed: int) -> Network:
    """ReLUs that do not see each other, one that reads the input itself, and two that the outputs do not need."""
    b = Builder((3,))
    left, right, dead = (b.relu(b.emit(source.dense(3, 3), 0)) for _ in range(3))
    direct = b.relu(b.scale(0, 1.0, source.normal(3)) if seed % 2 else 0)
    b.relu(b.emit(source.dense(1, 3), dead))
    deep = b.relu(b.emit(source.dense(3, 3), left))
    b.emit(source.dense(2, 3), b.add(deep, right, direct, deep))
    return Network(tuple(b.nodes), (3,))


def affine(source: Source, seed: int) -> Network:
    """No ReLU at all."""
    b = Builder((3,))
    return b.finish(b.emit(source.dense(2, 3), 0))


EXTRA: dict[str, Callable[[Source, int], Network]] = {"mixed": mixed, "apart": apart, "affine": affine}
NAMES = (*KINDS, "images", *EXTRA)


def network_of(name: str, seed: int, relus: int = 10) -> Network:
    """A random network of one of ``NAMES``."""
    if name == "images":
        return images(seed)
    return EXTRA[name](Source.of(seed), seed) if name in EXTRA else KINDS[name](Source.of(seed), relus)


@dataclass(frozen=True)
class Scene:
    """The same tasks about one box in both forms."""

    network: Network
    box: Box
    reduced: ReducedRelaxation
    layered: LayeredRelaxation

    @property
    def form(self) -> Reduced:
        return self.reduced.reduced


def scene(name: str, seed: int, tasks: int = 2) -> Scene:
    """Random tasks about a random network in a box that leaves some of its neurons stable."""
    network = network_of(name, seed)
    box = random_box(seed, network, radius={"images": 0.03, "mixed": 0.3}.get(name, 0.6))
    return scene_of(network, box, Source.of(seed + 1), tasks)


@torch.no_grad()
def scene_of(network: Network, box: Box, source: Source, tasks: int = 2, memory: int = 1 << 30) -> Scene:
    """Random tasks about the one box."""
    engine = Engine.of(network, memory=memory)
    pre = preactivations(engine, box)
    item = torch.zeros(tasks, dtype=torch.int64)
    coeff, const = source.normal(tasks, network.outputs), source.normal(tasks)
    given = engine, box[item], coeff, const, pre[item]
    form = reduce(engine, box, pre)
    return Scene(network, box, ReducedRelaxation.of(*given, form), LayeredRelaxation.of(*given))


def subproblems(
    made: Scene, source: Source, count: int, *, bent: bool = False, goals: bool = False
) -> Subproblems:
    """Random splits and parameters, good and bad.

    With ``bent`` the columns' own bounds are random, too: narrower than the box's, so that some neurons become stable.
    With ``goals`` a random neuron is bounded, under the form as a constraint.
    """
    root = made.reduced.root()[torch.arange(count) % len(made.reduced)]
    shape = (count, made.reduced.width)
    sign = (source.normal(*shape).sign() * (source.uniform(*shape) < 0.3)).float()
    lower, upper = root.lower, root.upper
    if bent:
        lower, upper = (t * source.uniform(*shape).float().mul(2).clamp(max=1) for t in (lower, upper))
        lower = lower * (source.uniform(*shape) > 0.1)
        upper = upper * (source.uniform(*shape) > 0.1)
    theta = source.uniform(*shape).float() * torch.where(sign == 0, 1.0, 2.0)
    sub = Subproblems(root.task, theta, sign, lower, upper)
    if not goals or shape[1] == 0:
        return sub
    goal = torch.zeros_like(theta)
    column = torch.randint(shape[1], (count,), generator=source.generator)
    goal[torch.arange(count), column] = source.normal(count).sign().float()
    return replace(sub, theta=torch.cat([theta, source.uniform(count, 1).float()], 1), goal=goal)


def crossed(made: Scene, source: Source, rows: int) -> Scene:
    """The same box with tasks that are clauses of ``rows`` random rows each."""
    tasks = len(made.reduced)
    mix = Mix(source.normal(tasks, rows, made.network.outputs), source.normal(tasks, rows))
    several = Several(mix, torch.full((tasks, rows), 1 / rows))
    reduced, layered = (replace(t, several=several) for t in (made.reduced, made.layered))
    return Scene(made.network, made.box, reduced, layered)


def weighted(sub: Subproblems, source: Source, rows: int) -> Subproblems:
    """The subproblems with random weights for ``rows`` rows; some weights are 0."""
    weight = source.uniform(len(sub), rows) * (source.uniform(len(sub), rows) < 0.7)
    weight[:, 0] += 0.01
    weight = (weight / weight.sum(1, keepdim=True)).float()
    width = sub.sign.shape[1]
    return sub.using(torch.cat([sub.theta[:, :width], weight, sub.theta[:, width:]], 1))
