"""Branch and bound over the input: boxes of few inputs are cut in two until every part is proved.

A subproblem is a cell, a part of a question's box. A clause is closed on a cell when one of its rows is proved positive
there, or a weighted mean of its rows (``mixture.py``); a cell is closed when all clauses are. What was closed on a cell
need not be looked at in its parts. A cell is enclosed by a zonotope (``bounds/zonotope.py``), which bounds what enters
each ReLU, and the open rows are bounded by CROWN over that; only where this fails the unstable neurons are bounded by
CROWN too, and the rows again with a few slope iterations. Every bound that closes a clause is the trusted one.

The cut. The zonotope writes a row as a sum of generators: those of the inputs, and one for each unstable neuron. The
radius of the row is what keeps it from being positive, and each generator's part of it is charged to the inputs: an
input's own generator to itself, a neuron's to the inputs in the proportion in which they make up the width of what
enters it,
    score_i = |R_i| + sum_j |R_j| share_ji,        share_ji = sum_g |G_gj| share_gi / sum_g |G_gj|,   share_ii = 1.
The input with the largest score, summed over the open clauses' means, is halved. The row's coefficients alone (the
first term; Wang et al. 2018, ReluVal and Neurify) say little while most neurons are unstable.

Counterexamples are looked for in the corners of each open cell where the zonotope makes an open row smallest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Around, Engine, form_bounds, preactivations
from certiprune.bounds.interval import gamma
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.rows import Rows
from certiprune.bounds.window import plan
from certiprune.bounds.zonotope import Enclosure, enclose
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.verify.frontier import Batch, Frontier
from certiprune.verify.mixture import mixtures
from certiprune.verify.problem import Budget
from certiprune.verify.search import AbstractSearch

# Seconds that one round should take.
_ROUND = 0.3


@dataclass(frozen=True)
class InputSettings:
    """How the search over inputs works; nothing here can make an answer wrong.

    Attributes:
        inputs: it is used for boxes with at most so many inputs of positive width; 0 for never.
        unstable: and with at least so many unstable neurons; fewer ReLUs are quicker to split than inputs.
        batch: cells taken at once.
        near: numbers of the generators of one value of the cells that are enclosed at once: more no longer fits the
            processor's caches.
        steps: slope iterations for the rows of cells that the zonotope leaves open.
    """

    inputs: int = 8
    unstable: int = 24
    batch: int = 1024
    near: int = 1 << 19
    steps: int = 4


@dataclass
class Cells(Batch):
    """``m`` open cells.

    Attributes:
        task: [m] int64, the question.
        bound: [m] float32, the smallest bound of an open clause.
        lower, upper: [m, k] float64, the ends of the inputs that are split.
        open: [m, clauses] boolean, the clauses that are not closed.
        axis: [m] int64, the input to cut next; -1 where no input can be cut in floating point.
        unstable: [m] int64, how many neurons are.
    """

    task: Tensor
    bound: Tensor
    lower: Tensor
    upper: Tensor
    open: Tensor
    axis: Tensor
    unstable: Tensor

    def halves(self) -> Cells:
        """Both parts of every cell; they share the end where the cell is cut."""
        axis = self.axis.unsqueeze(1)
        cut = middle(self.lower, self.upper).gather(1, axis)
        left = replace(self, upper=self.upper.scatter(1, axis, cut))
        right = replace(self, lower=self.lower.scatter(1, axis, cut))
        return Cells.join([left, right])


def middle(lower: Tensor, upper: Tensor) -> Tensor:
    """A number between the ends, where there is one."""
    return lower / 2 + upper / 2


def wide_inputs(box: Box) -> Tensor:
    """The flat numbers [k] of the inputs that have a positive width in some box."""
    return (box.upper > box.lower).flatten(1).any(0).nonzero()[:, 0]


class InputSearch(AbstractSearch):
    """One run over a group of questions.

    Args:
        engine: the network.
        box: the questions' boxes, float64.
        pre: sound pre-activation bounds of these.
        open_clauses: [questions, clauses] boolean, what is to be proved.
        margin, budget, spent, memory, replay: as for every search.
        settings: how to search.
    """

    def __init__(
        self,
        engine: Engine,
        box: Box,
        pre: PreActivation,
        open_clauses: Tensor,
        margin: Margin,
        budget: Budget,
        spent: Tensor,
        memory: int,
        replay: Callable[[Tensor, Tensor], Tensor],
        settings: InputSettings,
    ):
        super().__init__(margin, budget, spent, memory, replay)
        self.engine, self.box, self.pre, self.settings = engine, box, pre, settings
        self.inputs = wide_inputs(box)
        self.way = plan(engine.exact, engine.exact.output)
        # How far each box reaches: a cell whose scores say nothing is cut where it is widest by this measure.
        self.lower, self.upper = (t.flatten(1)[:, self.inputs] for t in (box.lower, box.upper))
        self.live[:] = True
        task = torch.arange(len(box))
        roots = Cells(
            task,
            torch.full((len(box),), -torch.inf),
            self.lower,
            self.upper,
            open_clauses,
            torch.full_like(task, -1),
            pre.counts(),
        )
        self.frontier = Frontier(len(box), roots[:0])
        self._evaluate(roots)

    def _open(self) -> tuple[Tensor, Tensor]:
        return self.frontier.open(), self.frontier.worst()

    def _bytes(self) -> int:
        return self.frontier.bytes

    def _drop(self, question: int) -> None:
        self.frontier.drop(torch.arange(self.count) == question)

    def _round(self) -> None:
        """Cut one batch of cells and bound their halves."""
        limit = self.settings.batch // 2
        if self.budget.nodes is None:
            # A round must not overrun the budget by much, whatever a cell of this network costs.
            limit = max(1, min(limit, int(_ROUND / self.pace)))
        taken = self.frontier.take(self._room(limit), self._turn())
        whole = taken.axis < 0
        self.numeric[taken.task[whole]] = True
        halves = taken[~whole].halves()
        self.nodes.index_add_(0, halves.task, torch.ones_like(halves.task))
        self._evaluate(halves)

    def _evaluate(self, cells: Cells) -> None:
        """Bound cells; close, attack, or put them back with the input to cut next."""
        # Cells with about the same number of unstable neurons together, as all of a chunk get the same generators.
        order = cells.unstable.argsort(stable=True, descending=True)
        start, at = time.perf_counter(), 0
        while at < len(order):
            size = self._fitting(int(cells.unstable[order[at]]))
            self._evaluate_chunk(cells[order[at : at + size]])
            at += size
        # Seconds for one cell and its sibling.
        self.pace = 2 * (time.perf_counter() - start) / max(1, len(cells))
        self._charge(cells.task)

    def _fitting(self, unstable: int) -> int:
        """How many cells of so many unstable neurons to take at once: within the memory and the caches."""
        widest = max(math.prod(shape) for shape in self.engine.exact.shapes)
        numbers = widest * (unstable + len(self.inputs))
        return max(1, min(self.engine.memory // (numbers * 40), self.settings.near // numbers))

    def _evaluate_chunk(self, cells: Cells) -> None:
        box, margin = self._boxes(cells), self.margin
        enclosure = enclose(self.engine.exact, box, self.inputs, self.pre[cells.task])
        single = torch.eye(margin.rows, dtype=torch.float64).expand(len(cells), -1, -1)
        low, high = enclosure.output.ends
        largest = torch.maximum(-low, high)
        value = self._prove(cells, box, enclosure.pre, largest, single, margin.clause, 0)
        cells, value, left = self._close(cells, margin.clause_values(value))
        if len(cells) == 0:
            return
        centre, generators, share = self._rows(cells.task, enclosure, left)
        self._attack(cells, generators[..., : len(self.inputs)])
        # What the zonotope leaves open is worth CROWN's walks for each unstable neuron.
        pre = preactivations(self.engine, box[left], known=enclosure.pre[left])
        weight = mixtures(centre, generators, margin.clause)
        every = torch.arange(margin.clauses)
        again = self._prove(cells, box[left], pre, largest[left], weight, every, self.settings.steps)
        cells, value, left = self._close(cells, torch.fmax(value, again))
        score = (weight[left] @ generators[left]).abs() @ share[left]
        axis = self._axis(cells, (score * cells.open.unsqueeze(2)).sum(1))
        bound = value.masked_fill(~cells.open, torch.inf).amin(1).float()
        self.frontier.put(replace(cells, bound=bound, axis=axis, unstable=pre.counts()[left]))

    def _close(self, cells: Cells, value: Tensor) -> tuple[Cells, Tensor, Tensor]:
        """Close what the bounds [m, clauses] prove; returns the cells that are left, their bounds and numbers."""
        closed = cells.open & (value > 0)
        least = torch.where(closed, value, torch.inf).amin(1)
        self.closed.scatter_reduce_(0, cells.task, least, "amin")
        still = cells.open & ~closed
        left = still.any(1).nonzero()[:, 0]
        return replace(cells, open=still)[left], value[left], left

    def _boxes(self, cells: Cells) -> Box:
        """The cells with the inputs that are not split."""
        ends = []
        for whole, own in ((self.box.lower, cells.lower), (self.box.upper, cells.upper)):
            flat = whole[cells.task].flatten(1).index_copy(1, self.inputs, own)
            ends.append(flat.reshape(len(cells), *whole.shape[1:]))
        return Box(*ends)

    def _prove(
        self,
        cells: Cells,
        box: Box,
        pre: PreActivation,
        largest: Tensor,
        weight: Tensor,
        clause: Tensor,
        steps: int,
    ) -> Tensor:
        """Rigorous lower bounds [m, k] of weighted means of rows; minus infinity for those of closed clauses.

        ``weight`` [m, k, rows] makes the means, ``clause`` [k] says which clause each is for, ``steps`` how many slope
        iterations it is worth; ``largest`` [m, outputs] is how large the outputs can be.
        """
        margin = self.margin
        unit = 4 * gamma(margin.rows, torch.float64)
        around = Around.of(self.engine, box, pre, self.way)
        value = torch.full(weight.shape[:2], -torch.inf, dtype=torch.float64)
        for part in cells.open[:, clause].nonzero().split(self.engine.chunk(self.way)):
            item, k = part.unbind(1)
            question, mean = cells.task[item], weight[item, k].unsqueeze(1)
            coeff = (mean @ margin.matrix[question]).squeeze(1)
            const = (mean.squeeze(1) * margin.offset[question]).sum(1)
            rows = Rows(self.way, item, coeff, const)
            bound = form_bounds(rows, around, steps, None, final=True)
            # The mean's coefficients are rounded, and so is the sum of the weights.
            size = (margin.matrix[question].abs() @ largest[item].unsqueeze(2)).squeeze(2)
            size = (mean.squeeze(1) * (size + margin.offset[question].abs())).sum(1)
            bound = bound - unit * (size + bound.abs())
            # NaN is no bound, and worse than all others.
            value[item, k] = bound.nan_to_num(-torch.inf, torch.inf, -torch.inf)
        return value

    def _rows(self, task: Tensor, enclosure: Enclosure, left: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The rows in the cells ``left``: centres [m, rows], generators [m, rows, g] and their shares [m, g, k].

        All for the search only; 0 where they overflowed.
        """
        matrix, output = self.margin.matrix[task], enclosure.output
        centre = (matrix @ output.centre[left].unsqueeze(2)).squeeze(2) + self.margin.offset[task]
        generators = matrix @ output.generators[left].transpose(1, 2)
        share = enclosure.share[left, : generators.shape[2]]
        first, second, third = (t.nan_to_num(0.0, 0.0, 0.0) for t in (centre, generators, share))
        return first, second, third

    def _axis(self, cells: Cells, score: Tensor) -> Tensor:
        """The input with the largest score of those that can be cut."""
        cut = middle(cells.lower, cells.upper)
        whole = (cut <= cells.lower) | (cut >= cells.upper)
        reach = self.upper[cells.task] - self.lower[cells.task]
        # Where nothing is said by the scores, by size.
        size = (cells.upper - cells.lower) / reach.clamp(min=torch.finfo(torch.float64).tiny)
        score = torch.where(score.amax(1, keepdim=True) > 0, score, size).masked_fill(whole, -1.0)
        top, axis = score.max(1)
        return axis.masked_fill(top < 0, -1)

    def _attack(self, cells: Cells, direction: Tensor) -> None:
        """Try the corners of the cells where the rows of open clauses are smallest, going by their ``direction``."""
        item, row = cells.open[:, self.margin.clause].nonzero().unbind(1)
        own = cells[item]
        point = torch.where(direction[item, row] > 0, own.lower, own.upper)
        x = self.box.lower[own.task].flatten(1).index_copy(1, self.inputs, point)
        x = x.reshape(len(own), *self.box.lower.shape[1:]).float()
        worst = self.margin[own.task].worst(self.engine.quick(x).double())
        for question in own.task[worst <= 1e-5].unique().tolist():
            k = int(worst.masked_fill(own.task != question, torch.inf).argmin())
            self._falsify(self.box[question : question + 1], x[k], question)
