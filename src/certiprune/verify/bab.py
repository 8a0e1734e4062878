"""Branch and bound over the signs of unstable ReLUs, for many questions in one frontier.

Each clause of each open question is a task. A task is proved when none of its subproblems is open: every leaf of its
tree was closed by the trusted bound or by the exact linear program. A question is certified when all of its
tasks are proved, and nowhere else. A point that violates a property, replayed, falsifies its question at once.

Where ``Settings.refresh_after`` asks for it, a subproblem's costliest neurons are bounded again every few levels, under
its splits and the negated property (``tighten.py``); such bounds hold for its whole subtree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from certiprune.bounds.optimise import Rates
from certiprune.core.margin import Margin
from certiprune.verify.branching.choose import choose, split
from certiprune.verify.branching.scores import split_gain
from certiprune.verify.frontier import Frontier, Nodes, Scenes
from certiprune.verify.leaf import decide_leaf
from certiprune.verify.problem import Budget
from certiprune.verify.relaxation import Relaxation, even
from certiprune.verify.search import POSITIVE, AbstractSearch
from certiprune.verify.subproblem import Subproblems
from certiprune.verify.tighten import tighten


@dataclass(frozen=True)
class Settings:
    """How the search works; nothing here can make an answer wrong.

    Attributes:
        batch: subproblems bounded at once.
        steps: ascent iterations for each subproblem.
        first_steps, first_weight: for the whole box of a clause of several rows, whose weights have to be found from
            nothing: ascent iterations, and the weights' rate. In the tree they move little.
        candidates: neurons tried for real at each split.
        goal: a float32 bound above this goes to the trusted function.
        refresh: splits after which the costliest neurons are bounded again.
        refresh_after: subproblems that a question must have cost before that is done; None for never. It saves half
            to three quarters of the subproblems and costs more than they do on every network measured so far.
        refresh_neurons: how many neurons.
        refresh_layers: ReLUs, counted from the input, whose neurons are left out.
        refresh_steps: ascent iterations for each of these neurons.
        refresh_rates: of this ascent.
    """

    batch: int = 256
    steps: int = 6
    first_steps: int = 20
    first_weight: float = 0.2
    candidates: int = 1
    goal: float = 1e-4
    refresh: int = 4
    refresh_after: int | None = None
    refresh_neurons: int = 8
    refresh_layers: int = 1
    refresh_steps: int = 3
    rates: Rates = field(default_factory=Rates)
    refresh_rates: Rates = field(default_factory=lambda: Rates(beta=0.3))


Journal = Callable[[Tensor, Tensor, Tensor], None]


class Search(AbstractSearch):
    """One run over a group of tasks.

    Args:
        relaxation: the tasks.
        question: [t] int64, the question that each task belongs to.
        clause: [t] int64, the clause that each task stands for.
        margin: the questions' properties (float64).
        budget: for each question.
        spent: [questions] seconds that each has used already.
        memory: bytes that open subproblems may take.
        replay: from points [m, *shape] and questions [m] to the property's worst values on the original model.
        settings: how to search.
        journal: called with the tasks [m], signs and parameters [m, k] of subproblems as they are closed.
    """

    def __init__(
        self,
        relaxation: Relaxation,
        question: Tensor,
        clause: Tensor,
        margin: Margin,
        budget: Budget,
        spent: Tensor,
        memory: int,
        replay: Callable[[Tensor, Tensor], Tensor],
        settings: Settings,
        journal: Journal | None = None,
    ):
        super().__init__(margin, budget, spent, memory, replay)
        self.journal = journal
        self.relaxation, self.question, self.clause = relaxation, question, clause
        self.settings = settings
        self.frontier = Frontier(len(relaxation), Nodes.none(relaxation.width, relaxation.rows))
        self.live[question] = True
        columns = list(relaxation.index.columns.values())
        self.shallow = columns[min(settings.refresh_layers, len(columns) - 1)].start if columns else 0
        root = relaxation.root()
        self.scenes = Scenes(root.lower, root.upper)
        start = torch.full((len(root),), -torch.inf)
        steps, rates = settings.steps, settings.rates
        if relaxation.rows:
            steps, rates = settings.first_steps, replace(rates, weight=settings.first_weight)
        scene = torch.arange(len(root))
        self._evaluate(root, scene, torch.zeros_like(scene), start, steps, rates)

    def _open(self) -> tuple[Tensor, Tensor]:
        still = torch.zeros(self.count, dtype=torch.int64).index_add(0, self.question, self.frontier.open())
        infinite = torch.full((self.count,), torch.inf)
        return still, infinite.scatter_reduce(0, self.question, self.frontier.worst(), "amin")

    def _bytes(self) -> int:
        return self.frontier.bytes + self.scenes.bytes

    def _drop(self, question: int) -> None:
        self.frontier.drop(self.question == question)
        self._forget_scenes()

    def _forget_scenes(self) -> None:
        """Drop the bounds that no open subproblem uses; the first rows stay those of the whole boxes."""
        roots = torch.arange(len(self.relaxation))
        used = torch.cat([roots, self.frontier.nodes.scene]).unique()
        if len(used) < len(self.scenes):
            scene = self.frontier.nodes.scene
            scene.copy_(self.scenes.keep(used)[scene])

    def _round(self) -> None:
        """Take one batch of nodes: bound the deep neurons again of some, split the others and bound the children."""
        size = min(self.settings.batch, self.relaxation.batch())
        taken = self.frontier.take(self._room(max(1, size // 2)), self._turn()[self.question])
        fixed = taken.column < 0
        for k in fixed.nonzero()[:, 0].tolist():
            self._leaf(taken[torch.tensor([k])])
        taken = taken[~fixed]
        if self.settings.refresh_after is not None:
            large = self.nodes[self.question[taken.task]] >= self.settings.refresh_after
            due = large & (taken.age >= self.settings.refresh)
            if bool(due.any()):
                self._refresh(taken[due])
            taken = taken[~due]
        if len(taken) == 0:
            self._charge(self.question[taken.task])
            return
        parents = taken[torch.arange(len(taken)).repeat_interleave(2)]
        sign = torch.tensor([1.0, -1.0]).repeat(len(taken)).unsqueeze(1)
        sub = split(self._subproblems(parents), parents.column, sign)
        self.nodes.index_add_(0, self.question[sub.task], torch.ones_like(sub.task))
        s = self.settings
        self._evaluate(sub, parents.scene, parents.age + 1, parents.bound, s.steps, s.rates)

    def _subproblems(self, nodes: Nodes) -> Subproblems:
        lower, upper = self.scenes.lower[nodes.scene], self.scenes.upper[nodes.scene]
        return Subproblems(nodes.task, nodes.theta.float(), nodes.sign.float(), lower, upper)

    def _refresh(self, nodes: Nodes) -> None:
        """Bound the deep neurons again under the nodes' splits, and the nodes with them."""
        s = self.settings
        sub = self._subproblems(nodes)
        score = split_gain(self.relaxation, sub, self.relaxation.quick_value(sub))
        score[:, : self.shallow] = -1
        top = score.topk(min(s.refresh_neurons, score.shape[1]), dim=1).indices
        chosen = torch.zeros_like(score, dtype=torch.bool).scatter(1, top, True)
        done = tighten(self.relaxation, sub, chosen, steps=s.refresh_steps, rates=s.refresh_rates)
        question = self.question[nodes.task]
        if bool(done.empty.any()):
            self.closed[question[done.empty]] = self.closed[question[done.empty]].clamp(max=POSITIVE)
        keep = (~done.empty).nonzero()[:, 0]
        if len(keep):
            sub, nodes = done.sub[keep], nodes[keep]
            scene = self.scenes.add(sub.lower, sub.upper)
            self._evaluate(sub, scene, torch.zeros_like(scene), nodes.bound, s.steps, s.rates)
        self._charge(question)

    def _evaluate(
        self, sub: Subproblems, scene: Tensor, age: Tensor, inherited: Tensor, steps: int, rates: Rates
    ) -> None:
        """Bound subproblems; close, attack, or put them back with the neuron to split next."""
        size = even(len(sub), self.relaxation.part())
        for at in range(0, len(sub), size):
            part = slice(at, at + size)
            self._evaluate_part(sub[part], scene[part], age[part], inherited[part], steps, rates)
        self._charge(self.question[sub.task])

    def _evaluate_part(
        self, sub: Subproblems, scene: Tensor, age: Tensor, inherited: Tensor, steps: int, rates: Rates
    ) -> None:
        s, relaxation = self.settings, self.relaxation
        end = relaxation.ascend(sub, steps=steps, rates=rates, goal=s.goal)
        left = ~end.reached
        if bool(end.reached.any()):
            left[end.reached] = ~self._close(
                sub[end.reached].using(end.theta[end.reached]), scene[end.reached]
            )
        if not bool(left.any()):
            return
        rest = sub[left].using(end.theta[left])
        trace = end.trace
        if trace is None or bool((end.reached & left).any()):
            trace = relaxation.quick_value(rest)
        self._attack(trace.minimiser, self.question[rest.task])
        column = choose(relaxation, rest, trace, s.candidates)
        bound = torch.maximum(inherited[left], end.value[left])
        self.frontier.put(
            Nodes(
                rest.task,
                scene[left],
                age[left],
                bound,
                rest.theta.clamp(max=6e4).half(),
                rest.sign.to(torch.int8),
                column,
            )
        )

    def _close(self, sub: Subproblems, scene: Tensor) -> Tensor:
        """Which subproblems the trusted function proves."""
        value = self.relaxation.prove(sub)
        proved = value > 0
        if self.journal is not None:
            self.journal(sub.task[proved], sub.sign[proved], sub.theta[proved])
        # Bounds of a scene made by tightening hold only where the property fails.
        shown = torch.where(scene < len(self.relaxation), value, value.clamp(max=POSITIVE))
        self.closed.scatter_reduce_(0, self.question[sub.task[proved]], shown[proved], "amin")
        return proved

    def _attack(self, points: Tensor, question: Tensor) -> None:
        """Try minimisers of the relaxation on the network, and replay what violates the property there."""
        outputs = self.relaxation.engine.quick(points)
        worst = self.margin[question].worst(outputs.double())
        for k in (worst <= 1e-5).nonzero()[:, 0].tolist():
            self._try(points[k], int(question[k]))

    def _try(self, point: Tensor, question: int) -> None:
        """Replay one point [*shape] of the question's box."""
        task = int((self.question == question).nonzero()[0])
        self._falsify(self.relaxation.box[task : task + 1], point, question)

    def _leaf(self, node: Nodes) -> None:
        """The exact answer where every unstable neuron is fixed."""
        task = int(node.task[0])
        question = int(self.question[task])
        relaxation = self.relaxation
        sub = self._subproblems(node)
        on, imposed = {}, {}
        for v, ends in relaxation.pre.lower.items():
            lower = ends[task]
            sign = torch.zeros(lower.numel(), dtype=torch.int64)
            if v in relaxation.index.neuron:
                columns, neuron = relaxation.index.columns[v], relaxation.index.neuron[v][task]
                # What tightening made stable is so only where the property fails: its sign is a constraint, too.
                stable = torch.where(sub.lower[0, columns] >= 0, 1, -1)
                fixed = torch.where(sub.sign[0, columns] == 0, stable, sub.sign[0, columns].long())
                sign.scatter_(0, neuron, fixed)
            imposed[v] = sign.reshape(lower.shape)
            on[v] = torch.where(imposed[v] == 0, lower >= 0, imposed[v] > 0)
        rows = (self.margin.clause == int(self.clause[task])).nonzero()[:, 0]
        answer = decide_leaf(
            relaxation.engine.exact,
            relaxation.box[task : task + 1],
            on,
            imposed,
            self.margin.matrix[question, rows],
            self.margin.offset[question, rows],
        )
        self.used_leaf[question] = True
        if answer.proved:
            self.closed[question] = self.closed[question].clamp(max=POSITIVE)
            if self.journal is not None:
                theta = sub.theta.clone()
                for v, columns in relaxation.index.columns.items():
                    neuron = relaxation.index.neuron[v][task]
                    theta[0, columns] = answer.multipliers[v].flatten()[neuron].to(theta.dtype)
                self.journal(sub.task, sub.sign, theta)
            return
        self._try(answer.point, question)
        if question not in self.points:
            self.numeric[question] = True
