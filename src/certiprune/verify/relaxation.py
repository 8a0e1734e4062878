"""The relaxation of a group of tasks, prepared so that subproblems are bounded in one batch.

A task asks whether a form over the outputs is positive on a box. A subproblem of it is a part of the box: a sign for
some of the unstable neurons, and bounds on what enters each of them that hold wherever in that part the form is not
positive (``tighten.py``). Its parameters are one row of numbers: slopes of free neurons, multipliers of split ones
(``bounds/optimise.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Around, Engine
from certiprune.bounds.optimise import Ascended, Index, Parameters, Rates, Trace, Walker, ascend
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines, chord
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import Push, dual_value
from certiprune.bounds.window import Plan, plan
from certiprune.core.box import Box, round_down, round_up

# Numbers of one part of the subproblems over all values, and how many subproblems a part has at least.
_NEAR, _FEW = 1 << 20, 32


@dataclass(frozen=True)
class Subproblems:
    """``m`` subproblems; columns ``k`` are the tasks' unstable neurons.

    Attributes:
        task: [m] int64.
        theta: [m, k] float32 parameters to start from.
        sign: [m, k] float32: -1 split off, 0 free, +1 split on.
        lower, upper: [m, k] float32, bounds on what enters each column's neuron.
        goal: None, or [m, k] float32: bound ``goal @ z`` over the entering values z of the columns' neurons where
            the form is not positive, instead of the form; ``theta`` then has one column more, the form's multiplier.
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
    def free(self) -> Tensor:
        """[m, k] 1.0 where a column's neuron is unstable and not split, else 0.0."""
        open_ends = (self.lower < 0) & (self.upper > 0)
        return open_ends.to(self.theta.dtype) * (1 - self.sign.abs())


@dataclass(frozen=True)
class Columns:
    """The lines of the columns' neurons, all [m, k], as the subproblems see them."""

    low: Tensor
    up: Tensor
    gap: Tensor
    free: Tensor

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
        return Columns(free * theta + on, up + on, -lower.clamp(max=0) * up, free)


@dataclass(frozen=True)
class Relaxation:
    """``t`` tasks with their root bounds; columns ``k`` are unstable neurons, ReLU by ReLU, padded to equal length.

    Attributes:
        engine: the network.
        box: t boxes, float64.
        coeff, const: [t, outputs] and [t], float64: the tasks' forms.
        pre: pre-activation bounds of the boxes, float64.
        index: the neuron of each column, [t, k_v] for each ReLU v; columns beyond a task's unstable neurons stand for
            stable ones.
    """

    engine: Engine
    box: Box
    coeff: Tensor
    const: Tensor
    pre: PreActivation
    way: Plan
    index: Index
    around: Around
    quick_coeff: Tensor

    @staticmethod
    def of(engine: Engine, box: Box, coeff: Tensor, const: Tensor, pre: PreActivation) -> Relaxation:
        """Prepare the tasks from sound pre-activation bounds of their boxes."""
        network = engine.exact
        way = plan(network, network.output)
        around = Around.of(engine, box, pre, way)
        columns, neuron, at = {}, {}, 0
        for v in around.quick_lines:
            mask = pre.unstable(v).flatten(1)
            width = int(mask.sum(1).max())
            # Unstable neurons first, in order; then stable ones, which never carry a parameter.
            order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
            columns[v], neuron[v] = slice(at, at + width), order.contiguous()
            at += width
        return Relaxation(
            engine,
            box,
            coeff,
            const,
            pre,
            way,
            Index(columns, neuron),
            around,
            coeff.float(),
        )

    def __len__(self) -> int:
        return len(self.box)

    @property
    def width(self) -> int:
        return sum(t.shape[1] for t in self.index.neuron.values())

    def root(self) -> Subproblems:
        """Each task's whole box, unsplit, with CROWN's parameters."""
        task = torch.arange(len(self), device=self.coeff.device)

        def columns(of: dict[int, Tensor]) -> Tensor:
            parts = [of[v].flatten(1).gather(1, neuron) for v, neuron in self.index.neuron.items()]
            return torch.cat(parts, 1) if parts else self.coeff.new_zeros(len(self), 0)

        lower, upper = columns(dict(self.pre.lower)), columns(dict(self.pre.upper))
        theta = columns({v: t.low for v, t in self.around.quick_lines.items()}).float()
        return Subproblems(
            task,
            theta,
            torch.zeros_like(theta),
            round_down(lower, torch.float32),
            round_up(upper, torch.float32),
        )

    def batch(self) -> int:
        """Subproblems that fit in the engine's memory at once."""
        return max(1, self.engine.memory // (self.way.numel(self.engine.exact) * 48 + self.width * 80))

    def part(self) -> int:
        """Subproblems to bound at once: they fit in the memory, and their numbers stay near the processor.

        More at once is no quicker, and the dozen tensors that an ascent holds are most of what a search takes.
        """
        return min(self.batch(), max(_FEW, _NEAR // self.way.numel(self.engine.exact)))

    def walker(self, sub: Subproblems) -> Walker:
        """The subproblems' forms with their own lines (float32)."""
        own = Columns.of(sub, torch.float32)
        seen = {}
        for v, root in self.around.quick_lines.items():
            columns, neuron = self.index.columns[v], self.index.neuron[v][sub.task]
            low, up, gap = (t[sub.task] for t in (root.low, root.up, root.gap))
            m = len(sub)
            low.view(m, -1).scatter_(1, neuron, own.low[:, columns])
            up.view(m, -1).scatter_(1, neuron, own.up[:, columns])
            gap.view(m, -1).scatter_(1, neuron, own.gap[:, columns])
            seen[v] = Lines(low, up, gap)
        rows = Rows(self.way, sub.task, self.quick_coeff[sub.task], self.const[sub.task].float())
        index = Index(self.index.columns, {v: t[sub.task] for v, t in self.index.neuron.items()})
        return Walker(self.engine.quick, self.around.quick_box, rows, seen, index)

    @staticmethod
    def parameters(sub: Subproblems) -> Parameters:
        """The subproblems' parameters; a stable column holds its slope, which nothing moves."""
        theta = sub.theta.clone()
        stable = (1 - sub.free) * (1 - sub.sign.abs())
        width = sub.sign.shape[1]
        theta[:, :width] = torch.lerp(theta[:, :width], (sub.lower >= 0).float(), stable)
        return Parameters(theta, sub.sign, sub.free, sub.goal)

    def ascend(self, sub: Subproblems, *, steps: int, rates: Rates, goal: float) -> Ascended:
        """Raise the subproblems' bounds until they exceed ``goal``."""
        return ascend(self.walker(sub), self.parameters(sub), steps=steps, rates=rates, goal=goal)

    def quick_value(self, sub: Subproblems) -> Trace:
        """The subproblems' bounds as they stand, in float32."""
        walker = self.walker(sub)
        return walker.walk(walker.set(self.parameters(sub)))

    def prove(self, sub: Subproblems, *, sign_only: bool = True) -> Tensor:
        """Rigorous lower bounds [m] (float64), by the trusted function.

        In float32 where that is allowed; with ``sign_only`` again in float64 where rounding hides a positive bound.
        """
        size = max(1, even(len(sub), min(self.part(), max(1, self.batch() // 2))))
        parts = [self._prove(sub[k : k + size], sign_only) for k in range(0, len(sub), size)]
        return torch.cat(parts) if parts else self.const[sub.task]

    def _prove(self, sub: Subproblems, sign_only: bool) -> Tensor:
        if not self.engine.single:
            return self._prove_in(sub, torch.float64)
        value = self._prove_in(sub, torch.float32).double()
        if sign_only:
            doubt = (~(value > 0)).nonzero()[:, 0]
            if len(doubt):
                value[doubt] = self._prove_in(sub[doubt], torch.float64)
        return value

    def _prove_in(self, sub: Subproblems, dtype: torch.dtype) -> Tensor:
        m = len(sub)
        single = dtype == torch.float32
        around = self.around.quick_lines if single else self.around.exact_lines
        own = Columns.of(sub, dtype)
        theta, sign = sub.theta.to(dtype).clamp(min=0), sub.sign.to(dtype)
        amount = -sign * theta[:, : sign.shape[1]]
        if sub.goal is not None:
            amount = amount + sub.goal.to(dtype)
        seen, pushes = {}, {}
        for v, root in around.items():
            columns, neuron = self.index.columns[v], self.index.neuron[v][sub.task]
            shape = (m, *root.low.shape[1:])
            pairs = ((root.low, own.low), (root.up, own.up), (root.gap, own.gap))
            low, up, gap = (
                t[sub.task].flatten(1).scatter_(1, neuron, c[:, columns]).reshape(shape) for t, c in pairs
            )
            seen[v] = Lines(low, up, gap)
            pushes[v] = Push(neuron, amount[:, columns])
        coeff, const = self.coeff[sub.task].to(dtype), self.const[sub.task].to(dtype)
        if sub.goal is not None:
            coeff, const = coeff * theta[:, -1:], const * theta[:, -1]
        rows = Rows(self.way, sub.task, coeff, const)
        network = self.engine.quick if single else self.engine.exact
        box = self.around.quick_box if single else self.box
        sizes = self.around.quick_sizes if single else self.around.sizes
        return dual_value(network, box, rows, seen, seen=True, pushes=pushes, sizes=sizes)


def even(count: int, most: int) -> int:
    """The size of the parts of ``count`` things that are equally large, and of ``most`` things at most."""
    return -(-count // max(1, -(-count // most)))
