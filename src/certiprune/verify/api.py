"""Robustness of labelled images: the question that everybody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.verify.cascade import decide
from certiprune.verify.effort import Cascade
from certiprune.verify.outcome import Outcome
from certiprune.verify.problem import Budget, Problem


@dataclass(frozen=True)
class Progress:
    """How far a verification is: images decided, of how many, and the last outcome."""

    done: int
    total: int
    last: Outcome


def verify(
    network: Network,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | Tensor,
    domain: tuple[float, float] = (0.0, 1.0),
    budget: Budget | None = None,
    indices: Sequence[int] | None = None,
    original: Callable[[Tensor], Tensor] | None = None,
    progress: Callable[[Progress], None] | None = None,
    how: Cascade | None = None,
) -> Iterator[Outcome]:
    """Decide for each image whether its whole L-infinity ball, clipped to ``domain``, keeps its label.

    Args:
        network: in float64, with normalisation inside.
        images: [n, *shape] in input units.
        labels: [n] int64.
        eps: one radius or one for each image [n], in input units.
        domain: the smallest and largest input.
        budget: what each image may cost.
        indices: the numbers that outcomes carry; 0 to n - 1 when None.
        original: the model that counterexamples are replayed on, in float32; the network in float64 when None.
        progress: called after each outcome.
        how: how hard each stage tries.

    Returns:
        One outcome per image, as they are decided. ``certified`` is proved for every real point of the box, rounding
        counted in; ``falsified`` and ``misclassified`` come with a replayed point; ``unknown`` says why.
    """
    problem = Problem.robust(images, labels, eps, classes=network.outputs, domain=domain)
    for done, outcome in enumerate(
        decide(network, problem, budget=budget, replay=original, how=how), start=1
    ):
        k = outcome.index
        number = k if indices is None else indices[k]
        named = replace(outcome, index=number, label=int(labels[k]))
        if progress is not None:
            progress(Progress(done, len(images), named))
        yield named


def unstable_counts(network: Network, images: Tensor, eps: float | Tensor) -> dict[str, Tensor]:
    """Unstable neurons per image [n] for each ReLU layer by name, under CROWN's bounds."""
    engine = Engine.of(network, images.device)
    parts = []
    radius = torch.as_tensor(eps, dtype=torch.float64).expand(len(images))
    with torch.no_grad():
        for at in range(0, len(images), 16):
            box = Box.ball(images[at : at + 16].double(), radius[at : at + 16])
            parts.append(preactivations(engine, box))
    names = relu_names(network)
    return {name: torch.cat([p.unstable(v).flatten(1).sum(1) for p in parts]) for v, name in names.items()}


def relu_names(network: Network) -> dict[int, str]:
    """A name for each ReLU, unique and in order."""
    return {v: f"relu{k}" for k, v in enumerate(network.relus, start=1)}
