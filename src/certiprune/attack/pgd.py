"""Projected gradient descent in a box: the one loop of every attack.

Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018; one step
of 1.25 half widths from a random start is the FGSM of Wong et al., "Fast is better than free", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.attack.objectives import Objective
from certiprune.attack.quick import QuickGradients
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator as seeded


@dataclass(frozen=True)
class AttackResult:
    """The best point found for each of ``n`` items, and the objective's value there.

    Attributes:
        points: [n, *shape], inside their boxes.
        values: [n]; infinite where the objective gave nothing but NaN.
    """

    points: Tensor
    values: Tensor


def pgd(
    objective: Objective,
    box: Box,
    *,
    steps: int,
    step_size: float,
    restarts: int,
    generator: torch.Generator,
    start: Tensor | None = None,
    stop_at: float | None = None,
) -> AttackResult:
    """Look for the point of each box where ``objective`` is smallest, by steps down its gradient's sign.

    Items are independent of each other: each restart draws one point of the unit cube and uses it for
    every item, so that an item's result depends neither on its companions in the batch nor on their order
    (as far as the objective's own arithmetic is independent of the batch). ``generator`` is read once,
    whatever happens later.

    Args:
        objective: maps points [n, *shape] to [n] numbers; it may run a model, whose ``.grad`` is not touched.
        box: the ``n`` boxes.
        steps: steps from each start.
        step_size: length of a step, as a fraction of each coordinate's half width.
        restarts: how many starts are drawn uniformly in the box.
        generator: seeds the random starts.
        start: points [n, *shape] to start from first, moved into the box if they are outside.
        stop_at: an item is done as soon as its value is not above this (0 for a violation): its first such
            point is kept, and the attack ends when every item is done.

    Raises:
        InputError: a number is out of range, or there is no start at all.
    """
    if steps < 0 or restarts < 0 or step_size <= 0:
        raise InputError(
            f"an attack needs steps >= 0, restarts >= 0, step_size > 0: {steps}, {restarts}, {step_size}"
        )
    if restarts == 0 and start is None:
        raise InputError("an attack with no restarts needs a start")
    # One draw: the caller's generator moves on by the same amount whether or not the attack ends early.
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    length = step_size * box.half_width
    best = box.centre
    values = best.new_full((len(box),), torch.inf)
    for begin in _starts(box, restarts, seed, start):
        points = begin
        for step in range(steps + 1):
            if step < steps:
                found, gradient = value_and_gradient(objective, points)
            else:
                with torch.no_grad():
                    found, gradient = objective(points), torch.zeros_like(points)
            better = found < values
            if stop_at is not None:
                better &= values > stop_at
            values = torch.where(better, found, values)
            best = torch.where(_like(better, points), points, best)
            if stop_at is not None and bool((values <= stop_at).all()):
                return AttackResult(best, values)
            points = box.clamp(points - length * gradient.sign())
    return AttackResult(best, values)


def fgsm(
    objective: Objective, box: Box, *, generator: torch.Generator | None = None, step_size: float = 1.25
) -> AttackResult:
    """One step of ``pgd`` from a random point of the box, or from its centre where there is no generator.

    Args:
        objective: as for ``pgd``; the better of the start and the point after the step is kept.
        box: the ``n`` boxes.
        generator: seeds the random start, which is the same point of the unit cube for every item.
        step_size: length of the step, as a fraction of each coordinate's half width.
    """
    if generator is None:
        idle = torch.Generator(device="cpu")
        return pgd(objective, box, steps=1, step_size=step_size, restarts=0, generator=idle, start=box.centre)
    return pgd(objective, box, steps=1, step_size=step_size, restarts=1, generator=generator)


def descend(objective: Objective, points: Tensor, length: float | Tensor) -> Tensor:
    """``points`` [n, *shape] moved by ``length`` (input units) down the gradient's sign; not projected."""
    return points - length * value_and_gradient(objective, points)[1].sign()


def value_and_gradient(objective: Objective, points: Tensor) -> tuple[Tensor, Tensor]:
    """The objective [n] at ``points`` [n, *shape] and its gradient [n, *shape], both detached.

    Gradients of parameters are not accumulated. The gradient is zero where the objective does not depend
    on a point.
    """
    with torch.enable_grad():
        points = points.detach().requires_grad_()
        with QuickGradients():
            values = objective(points)
        if not values.requires_grad:
            return values, torch.zeros_like(points)
        (gradient,) = torch.autograd.grad(values.sum(), points, allow_unused=True, materialize_grads=True)
    return values.detach(), gradient


def _starts(box: Box, restarts: int, seed: int, start: Tensor | None) -> Iterator[Tensor]:
    if start is not None:
        yield box.clamp(start.detach())
    source = seeded(seed, "starts")
    for _ in range(restarts):
        unit = torch.rand(box.lower.shape[1:], generator=source).to(box.lower)
        yield box.clamp(box.lower + unit * (box.upper - box.lower))


def _like(chosen: Tensor, points: Tensor) -> Tensor:
    return chosen.reshape(-1, *([1] * (points.dim() - 1)))
