"""The root relaxation of a group of questions, prepared so that subproblems are bounded in one batch.

A subproblem is a question (which box), a form over the outputs (which row), and a sign for each unstable neuron. Its
parameters are one row of numbers: slopes of free neurons, multipliers of split ones (``bounds/optimise.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Engine
from certiprune.bounds.optimise import Ascended, Index, Parameters, Rates, Trace, Walker, ascend
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines, lines
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import Push, dual_value, magnitudes
from certiprune.bounds.window import Plan, plan
from certiprune.core.box import Box


@dataclass(frozen=True)
class Subproblems:
    """``m`` subproblems.

    Attributes:
        item: [m] the question (a row of the root relaxation).
        coeff: [m, outputs] float64, the form whose bound must become positive.
        const: [m] float64.
        theta: [m, k] float32 parameters to start from.
        sign: [m, k] float32: -1 split off, 0 free, +1 split on.
        goal: None, or [m, k] float32: bound ``goal @ z`` over the entering values z of the columns' neurons where
            the form is not positive, instead of the form; ``theta`` then has one column more, the form's multiplier.
    """

    item: Tensor
    coeff: Tensor
    const: Tensor
    theta: Tensor
    sign: Tensor
    goal: Tensor | None = None

    def __len__(self) -> int:
        return len(self.item)

    def __getitem__(self, keep: Tensor | slice) -> Subproblems:
        goal = None if self.goal is None else self.goal[keep]
        return Subproblems(
            self.item[keep], self.coeff[keep], self.const[keep], self.theta[keep], self.sign[keep], goal
        )


@dataclass(frozen=True)
class Relaxation:
    """``n`` questions with their root bounds; columns ``k`` are unstable neurons, ReLU by ReLU, padded to equal length.

    Attributes:
        engine: the network.
        box: n boxes, float64.
        pre: their pre-activation bounds, float64.
        index: the neuron of each column, [n, k_v] for each ReLU v.
        unstable: [n, k] 1.0 where a column stands for an unstable neuron, 0.0 where it only pads.
    """

    engine: Engine
    box: Box
    pre: PreActivation
    way: Plan
    index: Index
    unstable: Tensor
    exact_lines: dict[int, Lines]
    quick_lines: dict[int, Lines]
    quick_box: Box
    sizes: dict[int, Tensor]

    @staticmethod
    def of(engine: Engine, box: Box, pre: PreActivation) -> Relaxation:
        """Prepare the boxes' root relaxation from sound pre-activation bounds."""
        network = engine.exact
        way = plan(network, network.output)
        exact = {v: t for v, t in lines(pre).items() if v in way.windows}
        quick = {v: Lines(t.low.float(), t.up.float(), t.gap.float()) for v, t in exact.items()}
        columns, neuron, masks, at = {}, {}, [], 0
        for v in exact:
            mask = pre.unstable(v).flatten(1)
            width = int(mask.sum(1).max())
            # Unstable neurons first, in order; then stable ones, which never carry a parameter.
            order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :width]
            columns[v], neuron[v] = slice(at, at + width), order.contiguous()
            masks.append(mask.gather(1, order).float())
            at += width
        sizes = magnitudes(network, box, lines(pre))
        return Relaxation(
            engine,
            box,
            pre,
            way,
            Index(columns, neuron),
            torch.cat(masks, 1),
            exact,
            quick,
            box.to(torch.float32),
            sizes,
        )

    @property
    def width(self) -> int:
        return self.unstable.shape[1]

    def start(self, item: Tensor) -> Tensor:
        """CROWN's parameters [m, k] for the questions ``item`` [m]; a padding column keeps its neuron's slope."""
        return torch.cat(
            [self.quick_lines[v].low.flatten(1).gather(1, neuron) for v, neuron in self.index.neuron.items()],
            1,
        )[item]

    def batch(self) -> int:
        """Subproblems that fit in the engine's memory at once."""
        return max(1, self.engine.memory // (self.way.numel(self.engine.exact) * 48 + self.width * 60))

    def walker(self, sub: Subproblems) -> Walker:
        """The subproblems' forms with their splits written into the lines (float32)."""
        seen = {}
        for v, root in self.quick_lines.items():
            low, up, gap = (t[sub.item] for t in (root.low, root.up, root.gap))
            sign = sub.sign[:, self.index.columns[v]]
            neuron = self.index.neuron[v][sub.item]
            split, on = sign.abs(), sign.clamp(min=0)
            flat_up, flat_gap = up.view(len(sub), -1), gap.view(len(sub), -1)
            flat_up.scatter_(1, neuron, torch.lerp(flat_up.gather(1, neuron), on, split))
            flat_gap.scatter_(1, neuron, flat_gap.gather(1, neuron) * (1 - split))
            seen[v] = Lines(low, up, gap)
        rows = Rows(self.way, sub.item, sub.coeff.float(), sub.const.float())
        index = Index(self.index.columns, {v: t[sub.item] for v, t in self.index.neuron.items()})
        return Walker(self.engine.quick, self.quick_box, rows, seen, index)

    def free(self, sub: Subproblems) -> Tensor:
        """[m, k] 1.0 where a column is an unstable neuron that is not split."""
        return self.unstable[sub.item] * (1 - sub.sign.abs())

    def ascend(self, sub: Subproblems, *, steps: int, rates: Rates, goal: float) -> Ascended:
        """Raise the subproblems' bounds until they exceed ``goal``."""
        parameters = Parameters(sub.theta, sub.sign, self.free(sub), sub.goal)
        return ascend(self.walker(sub), parameters, steps=steps, rates=rates, goal=goal)

    def quick_value(self, sub: Subproblems) -> Trace:
        """The subproblems' bounds as they stand, in float32."""
        walker = self.walker(sub)
        return walker.walk(walker.set(Parameters(sub.theta, sub.sign, self.free(sub), sub.goal)))

    def prove(self, sub: Subproblems) -> Tensor:
        """Rigorous lower bounds [m] of the forms on the subproblems' regions, in float64, by the trusted function."""
        parts = [self._prove(sub[k : k + self.batch()]) for k in range(0, len(sub), self.batch())]
        return torch.cat(parts) if parts else sub.const.clone()

    def _prove(self, sub: Subproblems) -> Tensor:
        m = len(sub)
        free = self.free(sub)
        seen, pushes = {}, {}
        for v, root in self.exact_lines.items():
            columns, neuron = self.index.columns[v], self.index.neuron[v][sub.item]
            sign, theta = sub.sign[:, columns].double(), sub.theta[:, columns].double()
            split, on = sign.abs(), sign.clamp(min=0)
            low, up, gap = (t[sub.item].flatten(1) for t in (root.low, root.up, root.gap))
            slope = torch.where(free[:, columns] > 0, theta.clamp(0, 1), low.gather(1, neuron))
            low = low.scatter(1, neuron, torch.where(split > 0, on, slope))
            up = up.scatter(1, neuron, torch.where(split > 0, on, up.gather(1, neuron)))
            gap = gap.scatter(1, neuron, gap.gather(1, neuron) * (1 - split))
            shape = (m, *root.low.shape[1:])
            seen[v] = Lines(low.reshape(shape), up.reshape(shape), gap.reshape(shape))
            amount = -sign * theta.clamp(min=0)
            pushes[v] = Push(neuron, amount if sub.goal is None else amount + sub.goal[:, columns].double())
        coeff, const = sub.coeff, sub.const
        if sub.goal is not None:
            weight = sub.theta[:, -1].double().clamp(min=0)
            coeff, const = coeff * weight.unsqueeze(1), const * weight
        rows = Rows(self.way, sub.item, coeff, const)
        return dual_value(self.engine.exact, self.box, rows, seen, seen=True, pushes=pushes, sizes=self.sizes)


def root_subproblems(relaxation: Relaxation, item: Tensor, coeff: Tensor, const: Tensor) -> Subproblems:
    """The unsplit subproblems of forms ``coeff`` [m, outputs] about questions ``item`` [m]."""
    theta = relaxation.start(item)
    return Subproblems(item, coeff, const, theta, torch.zeros_like(theta))
