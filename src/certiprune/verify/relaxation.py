"""The relaxation of a group of tasks, prepared so that subproblems are bounded in one batch.

``LayeredRelaxation`` walks through the whole network, for tasks about many boxes at once; ``ReducedRelaxation``
through the unstable neurons of one box (``bounds/reduced.py``). Both give the same values; the search does not know
which it uses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Around, Engine
from certiprune.bounds.interval import gamma
from certiprune.bounds.mix import Mix
from certiprune.bounds.optimise import AbstractWalker, Ascended, Index, Rates, Trace, Walker, ascend
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import Reduced, reduced_value
from certiprune.bounds.reduced_walker import Own, Quick, ReducedWalker
from certiprune.bounds.relax import Lines
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import Push, dual_value
from certiprune.bounds.window import Plan, plan
from certiprune.core.box import Box, round_down, round_up
from certiprune.verify.clauses import Several
from certiprune.verify.subproblem import Columns, Subproblems

# Numbers of one part of the subproblems over all values, and how many subproblems a part has at least.
_NEAR, _FEW = 1 << 20, 32


@dataclass(frozen=True)
class Relaxation(ABC):
    """``t`` tasks with their root bounds; columns ``k`` are unstable neurons, ReLU by ReLU, padded to equal length.

    Attributes:
        engine: the network.
        box: t boxes, float64.
        coeff, const: [t, outputs] and [t], float64: the tasks' forms.
        pre: pre-activation bounds of the boxes, float64.
        index: the neuron of each column, [t, k_v] for each ReLU v; columns beyond a task's unstable neurons stand for
            stable ones.
        several: where some task is a clause of several rows, all rows of all tasks. A subproblem's form is then a
            mean of its clause's rows, and the means' weights are parameters.
    """

    engine: Engine
    box: Box
    coeff: Tensor
    const: Tensor
    pre: PreActivation
    index: Index
    several: Several | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def numbers(self) -> int:
        """Numbers that one subproblem takes, over all values."""

    @property
    @abstractmethod
    def largest(self) -> Tensor:
        """How large the outputs can be in the tasks' boxes, [t, outputs] or [1, outputs] (float64)."""

    @abstractmethod
    def walker(self, sub: Subproblems) -> AbstractWalker:
        """The subproblems' forms with their own lines (float32)."""

    @abstractmethod
    def seen(self, sub: Subproblems, trace: Trace) -> tuple[Tensor, Tensor]:
        """The coefficients behind each column's neuron, and what enters it, both [m, k], as ``trace`` has them."""

    @abstractmethod
    def _prove(self, sub: Subproblems, sign_only: bool) -> Tensor:
        """Rigorous lower bounds [m] (float64)."""

    def __len__(self) -> int:
        return len(self.box)

    def batch(self) -> int:
        """Subproblems that fit in the engine's memory at once."""
        rows = self.rows * self.coeff.shape[1]
        return max(1, self.engine.memory // (self.numbers * 48 + self.width * 80 + rows * 24))

    def part(self) -> int:
        """Subproblems to bound at once: they fit in the memory, and their numbers stay near the processor.

        More at once is no quicker, and the dozen tensors that an ascent holds are most of what a search takes.
        """
        return min(self.batch(), max(_FEW, _NEAR // self.numbers))

    @property
    def rows(self) -> int:
        """Rows whose weights are parameters of a subproblem: none where every task is one row."""
        return 0 if self.several is None else self.several.mix.rows

    @property
    def width(self) -> int:
        return sum(t.shape[1] for t in self.index.neuron.values())

    def root(self) -> Subproblems:
        """Each task's whole box, unsplit, with CROWN's parameters."""

        def columns(of: dict[int, Tensor]) -> Tensor:
            parts = [of[v].flatten(1).gather(1, neuron) for v, neuron in self.index.neuron.items()]
            return torch.cat(parts, 1) if parts else self.coeff.new_zeros(len(self), 0)

        lower = round_down(columns(dict(self.pre.lower)), torch.float32)
        upper = round_up(columns(dict(self.pre.upper)), torch.float32)
        # CROWN's lower slope; a stable column's is what its line is.
        theta = ((lower >= 0) | ((upper > 0) & (upper > -lower))).float()
        task = torch.arange(len(self), device=theta.device)
        sign = torch.zeros_like(theta)
        if self.several is not None:
            theta = torch.cat([theta, self.several.weight], 1)
        return Subproblems(task, theta, sign, lower, upper)

    def ascend(self, sub: Subproblems, *, steps: int, rates: Rates, goal: float) -> Ascended:
        """Raise the subproblems' bounds until they exceed ``goal``."""
        return ascend(self.walker(sub), sub.parameters(), steps=steps, rates=rates, goal=goal)

    def quick_value(self, sub: Subproblems) -> Trace:
        """The subproblems' bounds as they stand, in float32."""
        walker = self.walker(sub)
        walker.set(sub.parameters())
        return walker.walk()

    def mix(self, sub: Subproblems) -> Mix | None:
        """The rows of the subproblems' clauses, in float32, where their weights are parameters."""
        return None if self.several is None else self.several.quick[sub.task]

    def forms(self, sub: Subproblems, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The subproblems' forms [m, outputs] and constants [m], times their multipliers where they have goals."""
        if self.several is None:
            coeff, const = self.coeff[sub.task], self.const[sub.task]
        else:
            coeff, const = self.several.mix[sub.task].form(sub.weight)
        coeff, const = coeff.to(dtype), const.to(dtype)
        if sub.goal is None:
            return coeff, const
        weight = sub.theta[:, -1].to(dtype).clamp(min=0)
        return coeff * weight.unsqueeze(1), const * weight

    def _rounded(self, several: Several, sub: Subproblems, value: Tensor) -> Tensor:
        """What rounding can do to means of rows, [m]: to their coefficients, and to the sum of the weights."""
        mix = several.mix[sub.task]
        largest = self.largest if len(self.largest) == 1 else self.largest[sub.task]
        each = (mix.matrix.abs() @ largest.unsqueeze(2)).squeeze(2) + mix.offset.abs()
        size = (sub.weight * each).sum(1)
        if sub.goal is not None:
            size = size * sub.theta[:, -1].double().clamp(min=0)
        return 4 * gamma(mix.rows, torch.float64) * (size + value.abs())

    def prove(self, sub: Subproblems, *, sign_only: bool = True) -> Tensor:
        """Rigorous lower bounds [m] (float64), by the trusted functions.

        With ``sign_only`` it does not matter how far below 0 a bound is that is not positive.
        """
        size = max(1, even(len(sub), min(self.part(), max(1, self.batch() // 2))))
        parts = [self._prove(sub[k : k + size], sign_only) for k in range(0, len(sub), size)]
        value = torch.cat(parts) if parts else self.const[sub.task]
        if self.several is None:
            return value
        value = value - self._rounded(self.several, sub, value)
        # Infinity less infinity is no bound.
        return torch.where(value.isfinite(), value, -torch.inf)


@dataclass(frozen=True)
class LayeredRelaxation(Relaxation):
    """Bounds by walks through the whole network: for boxes of any kind, any number of them.

    Attributes:
        way, around, quick_coeff: what the walks need.
    """

    way: Plan
    around: Around
    quick_coeff: Tensor

    @staticmethod
    def of(
        engine: Engine,
        box: Box,
        coeff: Tensor,
        const: Tensor,
        pre: PreActivation,
        several: Several | None = None,
    ) -> LayeredRelaxation:
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
        index = Index(columns, neuron)
        return LayeredRelaxation(
            engine, box, coeff, const, pre, index, way, around, coeff.float(), several=several
        )

    @property
    def numbers(self) -> int:
        return self.way.numel(self.engine.exact)

    @property
    def largest(self) -> Tensor:
        return self.around.sizes[self.engine.exact.output]

    def walker(self, sub: Subproblems) -> Walker:
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
        return Walker(self.engine.quick, self.around.quick_box, rows, seen, index, self.mix(sub))

    def seen(self, sub: Subproblems, trace: Trace) -> tuple[Tensor, Tensor]:
        c, z = [], []
        for v, neuron in self.index.neuron.items():
            index = neuron[sub.task]
            c.append(trace.coeff[v].flatten(1).gather(1, index))
            z.append(trace.entering[v].flatten(1).gather(1, index))
        return (torch.cat(c, 1), torch.cat(z, 1)) if c else (sub.free, sub.free)

    def _prove(self, sub: Subproblems, sign_only: bool) -> Tensor:
        # In float32 where that is allowed; again in float64 where rounding hides a positive bound.
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
        amount = sub.pushes(dtype)
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
        rows = Rows(self.way, sub.task, *self.forms(sub, dtype))
        network = self.engine.quick if single else self.engine.exact
        box = self.around.quick_box if single else self.box
        sizes = self.around.quick_sizes if single else self.around.sizes
        return dual_value(network, box, rows, seen, seen=True, pushes=pushes, sizes=sizes)


@dataclass(frozen=True)
class ReducedRelaxation(Relaxation):
    """Bounds by walks through the reduced form, for tasks about one box; proofs are in float64.

    Attributes:
        reduced: the box's reduced form.
        quick: the same in float32.
        form, start: [t, inputs + unstable] and [t], float32: the tasks' forms over [x, h_1, h_2, ...].
    """

    reduced: Reduced
    quick: Quick
    form: Tensor
    start: Tensor

    @staticmethod
    def of(
        engine: Engine,
        box: Box,
        coeff: Tensor,
        const: Tensor,
        pre: PreActivation,
        reduced: Reduced,
        several: Several | None = None,
    ) -> ReducedRelaxation:
        """Prepare ``t`` tasks about the box that ``reduced`` is about, given ``t`` times in ``box`` and ``pre``."""
        columns = {layer.relu: layer.columns for layer in reduced.layers}
        neuron = {layer.relu: layer.neuron.expand(len(box), -1) for layer in reduced.layers}
        form, start = coeff @ reduced.out.matrix, coeff @ reduced.out.const + const
        quick = Quick.of(engine, reduced)
        index = Index(columns, neuron)
        return ReducedRelaxation(
            engine,
            box,
            coeff,
            const,
            pre,
            index,
            reduced,
            quick,
            form.float(),
            start.float(),
            several=several,
        )

    @property
    def numbers(self) -> int:
        return self.form.shape[1]

    @property
    def largest(self) -> Tensor:
        return (self.reduced.out.size + self.reduced.out.slack).unsqueeze(0)

    def walker(self, sub: Subproblems) -> ReducedWalker:
        own = Columns.of(sub, torch.float32)
        lines = Own(own.on, own.free, own.up, own.gap)
        return ReducedWalker(self.quick, self.form[sub.task], self.start[sub.task], lines, self.mix(sub))

    def seen(self, sub: Subproblems, trace: Trace) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        return trace.coeff[0], trace.entering[0]

    def _prove(self, sub: Subproblems, sign_only: bool) -> Tensor:  # noqa: ARG002
        own = Columns.of(sub, torch.float64)
        forms = self.forms(sub, torch.float64)
        return reduced_value(self.reduced, *forms, own.low, own.up, own.gap, sub.pushes(torch.float64))


def even(count: int, most: int) -> int:
    """The size of the parts of ``count`` things that are equally large, and of ``most`` things at most."""
    return -(-count // max(1, -(-count // most)))
