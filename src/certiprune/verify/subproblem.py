"""Subproblems of branch and bound, many in one batch, and the lines around their neurons.

A task asks whether a form over the outputs is positive on a box. A subproblem of it is a part of the box: a sign for
some of the unstable neurons, and bounds on what enters each of them that hold wherever in that part the form is not
positive (``tighten.py``). Its parameters are one row of numbers: slopes of free neurons, multipliers of split ones
(``bounds/optimise.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.optimise import Parameters
from certiprune.bounds.relax import chord


@dataclass(frozen=True)
class Subproblems:
    """``m`` subproblems; columns ``k`` are the tasks' unstable neurons.

    Attributes:
        task: [m] int64.
        theta: [m, k] float32 parameters to start from; [m, k + r] where tasks are clauses of several rows, with the
            weights of these (``bounds/mix.py``) behind the others.
        sign: [m, k] float32: -1 split off, 0 free, +1 split on.
        lower, upper: [m, k] float32, bounds on what enters each column's neuron.
        goal: None, or [m, k] float32: bound ``goal @ z`` over the entering values z of the columns' neurons where
            the form is not positive, instead of the form; ``theta`` then has a last column, the form's multiplier.
    """

    task: Tensor
    theta: Tensor
    sign: Tensor
    lower: Tensor
    upper: Tensor
    goal: Tensor | None = None

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, keep: Tensor | slice) -> Subproblems:
        return Subproblems(
            self.task[keep],
            self.theta[keep],
            self.sign[keep],
            self.lower[keep],
            self.upper[keep],
            None if self.goal is None else self.goal[keep],
        )

    def using(self, theta: Tensor) -> Subproblems:
        """The same subproblems with other parameters."""
        return replace(self, theta=theta)

    @property
    def weight(self) -> Tensor:
        """The rows' weights [m, r], not negative and of sum 1 (float64)."""
        end = self.theta.shape[1] - (self.goal is not None)
        weight = self.theta[:, self.sign.shape[1] : end].double().clamp(min=0)
        return weight / weight.sum(1, keepdim=True)

    def pushes(self, dtype: torch.dtype) -> Tensor:
        """What splits and goals add to the coefficients of what enters each column's neuron, [m, k]."""
        sign = self.sign.to(dtype)
        amount = -sign * self.theta[:, : sign.shape[1]].to(dtype).clamp(min=0)
        return amount if self.goal is None else amount + self.goal.to(dtype)

    def parameters(self) -> Parameters:
        """The parameters to start from; a stable column holds its slope, which nothing moves."""
        theta = self.theta.clone()
        stable = (1 - self.free) * (1 - self.sign.abs())
        width = self.sign.shape[1]
        theta[:, :width] = torch.lerp(theta[:, :width], (self.lower >= 0).to(theta.dtype), stable)
        end = theta.shape[1] - (self.goal is not None)
        if end > width:
            theta[:, width:end] = self.weight
        return Parameters(theta, self.sign, self.free, self.goal)

    @property
    def free(self) -> Tensor:
        """[m, k] 1.0 where a column's neuron is unstable and not split, else 0.0."""
        open_ends = (self.lower < 0) & (self.upper > 0)
        return open_ends.to(self.theta.dtype) * (1 - self.sign.abs())


@dataclass(frozen=True)
class Columns:
    """The lines of the columns' neurons, all [m, k], as the subproblems see them; ``low = on + free * theta``."""

    low: Tensor
    up: Tensor
    gap: Tensor
    free: Tensor
    on: Tensor

    @staticmethod
    def of(sub: Subproblems, dtype: torch.dtype) -> Columns:
        """Lines from each subproblem's own bounds and splits; the lower slope of a free neuron is its parameter."""
        free = sub.free.to(dtype)
        lower, upper = sub.lower.to(dtype), sub.upper.to(dtype)
        sign = sub.sign.to(dtype)
        # On: split on, or not split and stable on. Everything else that is not free is off.
        on = sign.clamp(min=0) + (1 - sign.abs()) * (lower >= 0).to(dtype)
        theta = sub.theta[:, : sign.shape[1]].to(dtype).clamp(0, 1)
        up = free * chord(lower, upper)
        return Columns(free * theta + on, up + on, -lower.clamp(max=0) * up, free, on)
