"""Branch and bound over the signs of unstable ReLUs, for many questions in one frontier.

Each clause of each open question is a task. A task is proved when none of its subproblems is open: every leaf of its
tree was closed by the trusted bound (or the exact linear program) in float64. A question is certified when all of its
tasks are proved, and nowhere else. A point that violates a property, replayed, falsifies its question at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from certiprune.bounds.optimise import Rates
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.verify.branching.choose import choose
from certiprune.verify.frontier import Frontier, Nodes
from certiprune.verify.leaf import decide_leaf
from certiprune.verify.outcome import Reason, Stage
from certiprune.verify.problem import Budget
from certiprune.verify.relaxation import Relaxation, Subproblems


@dataclass(frozen=True)
class Settings:
    """How the search works; nothing here can make an answer wrong.

    Attributes:
        batch: subproblems bounded at once.
        steps: ascent iterations for each subproblem.
        candidates: neurons tried for real at each split.
        goal: a float32 bound above this goes to the trusted function.
    """

    batch: int = 256
    steps: int = 8
    candidates: int = 3
    goal: float = 1e-4
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True)
class Tasks:
    """``t`` forms to prove: the question, the clause, and the form that stands for it.

    Attributes:
        item: [t] the question's row in the relaxation.
        clause: [t] the clause of the question.
        coeff: [t, outputs] float64 the form.
        const: [t] float64.
    """

    item: Tensor
    clause: Tensor
    coeff: Tensor
    const: Tensor


@dataclass(frozen=True)
class Decision:
    """What the search found for one question."""

    item: int
    proved: bool
    point: Tensor | None
    reason: Reason
    stage: Stage
    lower: float
    nodes: int
    seconds: float


class Search:
    """One run over a group of questions; iterate to get each decision as soon as it is made.

    Args:
        relaxation: the group's root relaxation.
        margin: the questions' properties (float64).
        tasks: the clauses that are still open.
        start: one subproblem per task, with parameters to start from.
        budget: for each question; ``spent`` is what each has used already.
        replay: from points [m, *shape] and questions [m] to the property's worst values on the original model.
        settings: how to search.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        margin: Margin,
        tasks: Tasks,
        start: Subproblems,
        budget: Budget,
        spent: Tensor,
        memory: int,
        replay: Callable[[Tensor, Tensor], Tensor],
        settings: Settings,
    ):
        self.relaxation, self.margin, self.tasks, self.settings = relaxation, margin, tasks, settings
        self.budget, self.memory, self.replay = budget, memory, replay
        count = len(relaxation.box)
        self.count = count
        self.seconds = spent.clone()
        self.nodes = torch.zeros(count, dtype=torch.int64)
        self.closed = torch.full((count,), torch.inf, dtype=torch.float64)
        self.numeric = torch.zeros(count, dtype=torch.bool)
        self.used_leaf = torch.zeros(count, dtype=torch.bool)
        self.points: dict[int, Tensor] = {}
        self.frontier = Frontier(len(tasks.item), relaxation.width)
        self.live = torch.zeros(count, dtype=torch.bool)
        self.live[tasks.item] = True
        self.clock = time.perf_counter()
        self._evaluate(torch.arange(len(tasks.item)), start, torch.full((len(tasks.item),), -torch.inf))

    def __iter__(self) -> Iterator[Decision]:
        while True:
            yield from self._finished()
            if not bool(self.live.any()):
                return
            self._round()

    def _finished(self) -> Iterator[Decision]:
        """Questions that are decided or out of budget, each reported once."""
        open_tasks = self.frontier.open()
        still = torch.zeros(self.count, dtype=torch.int64).index_add(0, self.tasks.item, open_tasks)
        worst = torch.full((self.count,), torch.inf).scatter_reduce(
            0, self.tasks.item, self.frontier.worst(), "amin"
        )
        crowded = self.frontier.bytes > self.memory
        for item in self.live.nonzero()[:, 0].tolist():
            reason, point = Reason.NONE, self.points.get(item)
            proved = point is None and int(still[item]) == 0 and not bool(self.numeric[item])
            if point is None and not proved:
                if int(still[item]) == 0:
                    reason = Reason.NUMERIC
                elif float(self.seconds[item]) >= self.budget.seconds:
                    reason = Reason.TIME
                elif self.budget.nodes is not None and int(self.nodes[item]) >= self.budget.nodes:
                    reason = Reason.NODES
                elif crowded and item == int(torch.where(self.live, still, -1).argmax()):
                    reason = Reason.MEMORY
                else:
                    continue
            self.live[item] = False
            self.frontier.drop(self.tasks.item == item)
            lower = float(min(self.closed[item], worst[item].double()))
            stage = (
                Stage.LEAF
                if bool(self.used_leaf[item]) and (proved or point is not None)
                else Stage.BRANCHING
            )
            yield Decision(
                item, proved, point, reason, stage, lower, int(self.nodes[item]), float(self.seconds[item])
            )
            if reason is Reason.MEMORY:
                crowded = self.frontier.bytes > self.memory

    def _round(self) -> None:
        """Split one batch of nodes and bound the children."""
        # With a node limit turns go by nodes, so that what is looked at does not depend on the clock.
        turn = (self.seconds if self.budget.nodes is None else self.nodes)[self.tasks.item]
        size = min(self.settings.batch, self.relaxation.batch())
        limit = size // 2
        if self.budget.nodes is not None:
            # A node limit holds exactly: it may make the last batch smaller.
            room = (self.budget.nodes - self.nodes[self.live]).clamp(min=1)
            limit = max(1, min(limit, int(room.min()) // 2))
        taken = self.frontier.take(limit, turn)
        fixed = taken.column < 0
        for k in fixed.nonzero()[:, 0].tolist():
            self._leaf(taken[torch.tensor([k])])
        taken = taken[~fixed]
        if len(taken) == 0:
            self._charge(torch.zeros(0, dtype=torch.int64))
            return
        children = taken[torch.arange(len(taken)).repeat_interleave(2)]
        sign = torch.tensor([1.0, -1.0]).repeat(len(taken)).unsqueeze(1)
        column = children.column.unsqueeze(1)
        signs = children.sign.float().scatter(1, column, sign)
        theta = children.theta.float().scatter(1, column, 0.0)
        t = children.task
        sub = Subproblems(self.tasks.item[t], self.tasks.coeff[t], self.tasks.const[t], theta, signs)
        self.nodes.index_add_(0, sub.item, torch.ones_like(sub.item))
        self._evaluate(t, sub, children.bound)

    def _evaluate(self, task: Tensor, sub: Subproblems, inherited: Tensor) -> None:
        """Bound subproblems; close, attack, or put them back with the neuron to split next."""
        size = self.relaxation.batch()
        for at in range(0, len(sub), size):
            self._evaluate_part(task[at : at + size], sub[at : at + size], inherited[at : at + size])
        self._charge(sub.item)

    def _evaluate_part(self, task: Tensor, sub: Subproblems, inherited: Tensor) -> None:
        s, relaxation = self.settings, self.relaxation
        end = relaxation.ascend(sub, steps=s.steps, rates=s.rates, goal=s.goal)
        left = ~end.reached
        if bool(end.reached.any()):
            left[end.reached] = ~self._close(sub[end.reached], end.theta[end.reached])
        if not bool(left.any()):
            return
        rest = Subproblems(sub.item[left], sub.coeff[left], sub.const[left], end.theta[left], sub.sign[left])
        trace = end.trace
        if trace is None or bool((end.reached & left).any()):
            trace = relaxation.quick_value(rest)
        self._attack(trace.minimiser, rest.item)
        column = choose(relaxation, rest, trace, rest.theta, s.candidates)
        bound = torch.maximum(inherited[left], end.value[left])
        self.frontier.put(
            Nodes(task[left], bound, rest.theta.clamp(max=6e4).half(), rest.sign.to(torch.int8), column)
        )

    def _close(self, sub: Subproblems, theta: Tensor) -> Tensor:
        """Which subproblems the trusted function proves."""
        value = self.relaxation.prove(Subproblems(sub.item, sub.coeff, sub.const, theta, sub.sign))
        proved = value > 0
        self.closed.scatter_reduce_(0, sub.item[proved], value[proved], "amin")
        return proved

    def _attack(self, points: Tensor, item: Tensor) -> None:
        """Try minimisers of the relaxation on the network, and replay what violates the property there."""
        outputs = self.relaxation.engine.quick(points)
        worst = self.margin[item].worst(outputs.double())
        for k in (worst <= 1e-5).nonzero()[:, 0].tolist():
            self._falsify(points[k], int(item[k]))

    def _falsify(self, point: Tensor, item: int) -> None:
        if item in self.points:
            return
        box: Box = self.relaxation.quick_box[item : item + 1]
        x = box.clamp(point.unsqueeze(0).float())
        if bool(self.replay(x, torch.tensor([item]))[0] <= 0):
            self.points[item] = x[0]

    def _leaf(self, node: Nodes) -> None:
        """The exact answer where every unstable neuron is fixed."""
        task = int(node.task[0])
        item = int(self.tasks.item[task])
        relaxation = self.relaxation
        on, split = {}, {}
        for v in relaxation.index.neuron:
            columns, neuron = relaxation.index.columns[v], relaxation.index.neuron[v][item]
            lower = relaxation.pre.lower[v][item]
            sign = torch.zeros(lower.numel(), dtype=torch.int64)
            signs = node.sign[0, columns].long() * relaxation.unstable[item, columns].long()
            sign.scatter_add_(0, neuron, signs)
            split[v] = sign.reshape(lower.shape)
            on[v] = (lower >= 0) | (split[v] > 0)
        clause = int(self.tasks.clause[task])
        rows = (self.margin.clause == clause).nonzero()[:, 0]
        answer = decide_leaf(
            relaxation.engine.exact,
            relaxation.box[item : item + 1],
            on,
            split,
            self.margin.matrix[item, rows],
            self.margin.offset[item, rows],
        )
        self.used_leaf[item] = True
        if answer.proved:
            self.closed[item] = min(float(self.closed[item]), max(answer.value, 0.0))
            return
        self._falsify(answer.point, item)
        if item not in self.points:
            self.numeric[item] = True

    def _charge(self, item: Tensor) -> None:
        """Share the time since the last call between the questions whose subproblems were in the batch."""
        now = time.perf_counter()
        spent, self.clock = now - self.clock, now
        who = item if len(item) else self.live.nonzero()[:, 0]
        if len(who):
            share = torch.bincount(who, minlength=self.count).to(self.seconds.dtype)
            self.seconds += share * (spent / len(who))
