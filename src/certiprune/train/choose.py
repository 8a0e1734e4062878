"""By what the weights to keep are chosen on the validation split."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from certiprune.data import Split
from certiprune.train.evaluate import accuracy, pgd_accuracy
from certiprune.train.losses import AbstractLoss
from certiprune.train.plan import Plan
from certiprune.train.statistics import ibp_accuracy

Measure = Callable[[nn.Module, Split, torch.Generator], float]
"""How good a model is on the validation split, larger is better; the generator is all of its randomness."""


def measure(plan: Plan, loss: AbstractLoss) -> tuple[str, Measure]:
    """The measure that ``plan.choose`` asks for, for a training by ``loss``, and what it is called in the metrics."""
    if _choice(plan, loss) == "certified":
        return "validation_certified_accuracy", lambda model, split, _: ibp_accuracy(model, split, plan.eps)
    if _choice(plan, loss) == "clean":
        return "validation_accuracy", lambda model, split, _: accuracy(model, split)

    def robust(model: nn.Module, split: Split, generator: torch.Generator) -> float:
        steps, size = plan.validation_steps, 2.5 / plan.validation_steps
        return pgd_accuracy(
            model, split, plan.eps, steps=steps, restarts=1, generator=generator, step_size=size
        )

    return "validation_robust_accuracy", robust


def _choice(plan: Plan, loss: AbstractLoss) -> str:
    if plan.eps == 0:
        return "clean"
    if plan.choose == "auto":
        return "certified" if loss.certified else "pgd"
    return plan.choose
