"""The cascade: the cheapest decision first, on batches of questions; each stage sees only what is still open.

    clean -> interval -> CROWN -> short attack -> alpha-CROWN -> branch and bound with exact leaves

CERTIFIED is said in one place, ``_Group.certify``, for a question none of whose clauses is open: each clause was proved
for the whole box by the trusted bound, or by a tree of subproblems that is closed (``bab.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from certiprune.attack import pgd, property_margin
from certiprune.bounds.intermediate import Engine, OutOfTime, preactivations
from certiprune.bounds.interval import gamma, interval
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import reduce
from certiprune.core.memory import allowance
from certiprune.core.rng import generator
from certiprune.net.network import Network
from certiprune.verify.bab import Search
from certiprune.verify.clauses import Clauses
from certiprune.verify.effort import Cascade
from certiprune.verify.forms import reducible
from certiprune.verify.input_split import InputSearch, wide_inputs
from certiprune.verify.memory import out_of_memory, smaller
from certiprune.verify.outcome import Outcome, Reason, Stage, Verdict
from certiprune.verify.problem import Budget, Problem
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation, Relaxation
from certiprune.verify.root import bound_rows, tighten_neurons
from certiprune.verify.search import POSITIVE, AbstractSearch
from certiprune.verify.witness import snap, violated

Replay = Callable[[Tensor], Tensor]


class _Group:
    """One batch of questions on its way through the cascade."""

    def __init__(self, engine: Engine, problem: Problem, budget: Budget, replay: Replay | None, how: Cascade):
        self.engine, self.problem, self.budget, self.how = engine, problem, budget, how
        self.original = replay
        n = len(problem)
        self.seconds = torch.zeros(n, dtype=torch.float64)
        self.lower = torch.full((n, problem.margin.rows), -torch.inf, dtype=torch.float64)
        self.live = torch.ones(n, dtype=torch.bool)
        self.predicted = torch.zeros(n, dtype=torch.int64)
        self.stage = Stage.CLEAN
        self.clock = time.perf_counter()
        self.outcomes: list[Outcome] = []

    def run(self) -> Iterator[Outcome]:
        """Every question's outcome, as soon as it is decided."""
        pre: PreActivation | None = None
        starved = False
        try:
            for stage, step in (
                (Stage.CLEAN, self.clean),
                (Stage.INTERVAL, self.interval),
                (Stage.CROWN, self.crown),
                (Stage.ATTACK, self.attack),
                (Stage.ALPHA, self.alpha),
            ):
                if not bool(self.live.any()):
                    break
                self.stage = stage
                pre = step(pre)
                self._charge()
                yield from self._emit()
            if bool(self.live.any()):
                assert pre is not None
                self.stage = Stage.BRANCHING
                yield from self.branch(pre)
        except OutOfTime:
            self._charge()
            self._give_up(Reason.TIME)
        except Exception as error:
            if not out_of_memory(error):
                raise
            # Another try has to wait until the error is gone, which holds on to all that was being computed.
            starved = True
        yield from self._emit()
        if starved:
            del pre
            yield from self._again()

    def _again(self) -> Iterator[Outcome]:
        """The open questions once more after memory ran out, in smaller parts, until there is no smaller one."""
        live = self.live.nonzero()[:, 0]
        now = time.perf_counter()
        self.seconds[live] += (now - self.clock) / max(1, len(live))
        self.clock = now
        parts = smaller(self.engine.memory, live)
        if not parts:
            self._give_up(Reason.MEMORY)
            yield from self._emit()
        for memory, part in parts:
            engine = replace(self.engine, memory=memory)
            group = _Group(engine, self.problem[part], self.budget, self.original, self.how)
            group.seconds, group.lower = self.seconds[part], self.lower[part]
            for outcome in group.run():
                yield replace(outcome, index=int(part[outcome.index]))

    def clean(self, _: PreActivation | None) -> PreActivation | None:
        """Questions that the unperturbed input violates."""
        x = self.problem.centre
        outputs = self.engine.exact(x)
        self.predicted = outputs.argmax(1)
        inside = self.problem.box.contains(x)
        point = snap(self.problem.box, x)
        if self.original is not None:
            self.predicted = self.original(point).argmax(1).to(self.predicted.device)
        worst = self.replay(point, torch.arange(len(x)))
        for k in ((worst <= 0) & inside).nonzero()[:, 0].tolist():
            self._decide(k, Verdict.MISCLASSIFIED, point=point[k])
        return None

    def interval(self, _: PreActivation | None) -> PreActivation:
        """Interval bounds of the whole network."""
        pre, (low, high) = interval(self.engine.exact, self.problem.box)
        matrix = self.problem.margin.matrix
        value = torch.einsum("nro,no->nr", matrix.clamp(min=0), low)
        value = value + torch.einsum("nro,no->nr", matrix.clamp(max=0), high) + self.problem.margin.offset
        size = torch.einsum("nro,no->nr", matrix.abs(), torch.maximum(low.abs(), high.abs()))
        size = size + self.problem.margin.offset.abs()
        # Two sums of products, added: twice as many terms; and a product that underflows loses less than POSITIVE.
        slack = 2 * gamma(2 * matrix.shape[-1], matrix.dtype) * size + matrix.shape[-1] * POSITIVE
        self.lower = torch.fmax(self.lower, value - slack)
        self.certify()
        return pre

    def crown(self, pre: PreActivation | None) -> PreActivation:
        """CROWN with bounds for every neuron that the interval bounds leave unstable."""
        assert pre is not None
        live = self.live.nonzero()[:, 0]
        box, known = self.problem.box[live], pre[live]
        pre = pre.put(live, preactivations(self.engine, box, known=known, deadline=self._deadline()))
        self._rows(pre, 0)
        return pre

    def alpha(self, pre: PreActivation | None) -> PreActivation:
        """Optimised slopes: for the open clauses, then for the neurons that these need most, then for both."""
        assert pre is not None
        how, weight = self.how, self._rows(pre, self.how.alpha_steps)
        live = self.live.nonzero()[:, 0]
        if how.tighten_steps == 0 or len(live) == 0:
            return pre
        now, deadline = time.perf_counter(), self._deadline()
        # The search gets half of the time that is left; with a node limit nothing depends on the clock.
        until = (now + deadline) / 2 if self.budget.nodes is None else math.inf
        box, needed = self.problem.box[live], {v: t[live] for v, t in weight.items()}
        better = tighten_neurons(self.engine, box, pre[live], needed, how, deadline=deadline, until=until)
        if better is not None:
            pre = pre.put(live, better)
            self._rows(pre, how.alpha_steps)
        return pre

    def _rows(self, pre: PreActivation, steps: int) -> Mapping[int, Tensor]:
        """Bound the rows of the clauses that are still open; how much these rows need each neuron's bounds."""
        margin = self.problem.margin
        wanted = self._open_clauses()[:, margin.clause] & self.live.unsqueeze(1)
        box, rates, deadline = self.problem.box, self.how.rates, self._deadline()
        found = bound_rows(self.engine, box, margin, pre, wanted, steps=steps, rates=rates, deadline=deadline)
        self.lower[found.item, found.row] = torch.fmax(self.lower[found.item, found.row], found.value)
        self.certify()
        return found.weight

    def attack(self, pre: PreActivation | None) -> PreActivation | None:
        """A short attack on the margins."""
        live = self.live.nonzero()[:, 0]
        margin = self.problem.margin[live].to(torch.float32)
        found = pgd(
            property_margin(self.engine.quick, margin),
            self.problem.box[live].to(torch.float32),
            steps=self.how.attack_steps,
            step_size=0.25,
            restarts=self.how.attack_restarts,
            generator=generator(0, "attack"),
            start=self.problem.centre[live].float(),
            stop_at=0.0,
        )
        suspects = (found.values <= 1e-5).nonzero()[:, 0]
        if len(suspects):
            item = live[suspects]
            points = snap(self.problem.box[item], found.points[suspects])
            for k, value, point in zip(
                item.tolist(), self.replay(points, item).tolist(), points, strict=True
            ):
                if value <= 0:
                    self._decide(k, Verdict.FALSIFIED, point=point)
        return pre

    def branch(self, pre: PreActivation) -> Iterator[Outcome]:
        """Branch and bound on what is left: over few inputs, or over ReLUs (reduced forms one question at a time)."""
        live = self.live.nonzero()[:, 0]
        if self._few_inputs(pre[live]):
            yield from self._follow(self._input_search(pre), live)
            return
        together = []
        for k in live.tolist():
            if reducible(self.engine, pre[slice(k, k + 1)]):
                yield from self._search(torch.tensor([k]), pre, reduced=True)
            else:
                together.append(k)
        if together:
            yield from self._search(torch.tensor(together), pre, reduced=False)

    def _search(self, live: Tensor, pre: PreActivation, *, reduced: bool) -> Iterator[Outcome]:
        """Branch and bound on the questions ``live``; with ``reduced``, on one, in its reduced form."""
        start = time.perf_counter()
        margin = self.problem.margin[live]
        question, clause = self._open_clauses()[live].nonzero().unbind(1)
        where = live[question]
        clauses = Clauses.of(margin, question, clause, self.lower[live])
        tasks = self.engine, self.problem.box[where], clauses.coeff, clauses.const, pre[where]
        relaxation: Relaxation
        if reduced:
            left = float(self.budget.seconds - self.seconds[live])
            try:
                form = reduce(self.engine, self.problem.box[live], pre[live], deadline=start + left)
            except OutOfTime:
                self.seconds[live] += time.perf_counter() - start
                self._decide(int(live), Verdict.UNKNOWN, reason=Reason.TIME)
                yield from self._emit()
                return
            relaxation = ReducedRelaxation.of(*tasks, form, clauses.several)
        else:
            relaxation = LayeredRelaxation.of(*tasks, clauses.several)
        self.seconds[live] += (time.perf_counter() - start) / len(live)
        search = Search(
            relaxation,
            question,
            clause,
            margin,
            self.budget,
            self.seconds[live],
            allowance(self.budget.memory) // 2,
            lambda x, k: self.replay(x, live[k]),
            self.how.search,
        )
        infinite = torch.full((len(live),), torch.inf, dtype=torch.float64)
        scale = infinite.scatter_reduce(0, question, clauses.size, "amin")
        yield from self._follow(search, live, scale)

    def _few_inputs(self, pre: PreActivation) -> bool:
        """Whether splitting inputs is the quicker way for what is left."""
        how = self.how.inputs
        few = len(wide_inputs(self.problem.box[self.live])) <= how.inputs
        return few and bool(pre.lower) and int(pre.counts().max()) >= how.unstable

    def _input_search(self, pre: PreActivation) -> InputSearch:
        """The search over the inputs of what is left."""
        live = self.live.nonzero()[:, 0]
        return InputSearch(
            self.engine,
            self.problem.box[live],
            pre[live],
            self._open_clauses()[live],
            self.problem.margin[live],
            self.budget,
            self.seconds[live],
            allowance(self.budget.memory) // 2,
            lambda x, k: self.replay(x, live[k]),
            self.how.inputs,
        )

    def _follow(self, search: AbstractSearch, live: Tensor, scale: Tensor | None = None) -> Iterator[Outcome]:
        """Make outcomes of a search's decisions; its bounds, times the questions' ``scale``, are the rows' own."""
        for found in search:
            k = int(live[found.item])
            self.seconds[k] = found.seconds
            self.stage = found.stage
            if found.point is not None:
                self._decide(k, Verdict.FALSIFIED, point=found.point, nodes=found.nodes)
            elif found.proved:
                searched = self._open_clauses()[k, self.problem.margin.clause]
                least = 1.0 if scale is None else float(scale[found.item])
                self.lower[k] = torch.where(searched, max(found.lower * least, POSITIVE), self.lower[k])
                self.certify(only=k, nodes=found.nodes)
            else:
                # The open subproblems' bounds are float32 and prove nothing: what the root proved is all there is.
                self._decide(k, Verdict.UNKNOWN, reason=found.reason, nodes=found.nodes)
            yield from self._emit()

    def replay(self, x: Tensor, item: Tensor) -> Tensor:
        """The property's worst value [m] at points ``x`` [m, *shape], on the original model in its own precision."""
        model = self.original if self.original is not None else self.engine.exact
        points = x if self.original is not None else x.double()
        with torch.no_grad():
            outputs = model(points).double().to(self.problem.margin.matrix.device)
        margin = self.problem.margin[item]
        worst = margin.worst(outputs)
        # These sums are rounded, too: a violation must be one in exact arithmetic on the outputs.
        for k in (worst <= 0).nonzero()[:, 0].tolist():
            if not violated(margin[k : k + 1], outputs[k]):
                worst[k] = POSITIVE
        return worst

    def certify(self, only: int | None = None, nodes: int = 0) -> None:
        """Say CERTIFIED of every question (or of one) none of whose clauses is open."""
        done = self.live & ~self._open_clauses().any(1)
        for k in done.nonzero()[:, 0].tolist() if only is None else [only]:
            if not bool(done[k]):
                raise AssertionError("a question with open clauses cannot be certified")
            self._decide(k, Verdict.CERTIFIED, nodes=nodes)

    def _open_clauses(self) -> Tensor:
        return ~(self._clause_lower() > 0)

    def _clause_lower(self) -> Tensor:
        return self.problem.margin.clause_values(self.lower)

    def _decide(
        self,
        k: int,
        verdict: Verdict,
        *,
        reason: Reason = Reason.NONE,
        point: Tensor | None = None,
        nodes: int = 0,
    ) -> None:
        self._charge()
        self.live[k] = False
        proved = float(self._clause_lower()[k].amin()) if self.problem.margin.rows else torch.inf
        self.outcomes.append(
            Outcome(
                index=k,
                label=-1,
                predicted=int(self.predicted[k]),
                verdict=verdict,
                reason=reason,
                stage=self.stage,
                lower=proved,
                nodes=nodes,
                seconds=float(self.seconds[k]),
                counterexample=point,
            )
        )

    def _give_up(self, reason: Reason) -> None:
        for k in self.live.nonzero()[:, 0].tolist():
            self._decide(k, Verdict.UNKNOWN, reason=reason)

    def _emit(self) -> Iterator[Outcome]:
        ready, self.outcomes = self.outcomes, []
        yield from ready

    def _charge(self) -> None:
        """Share the time since the last call between the questions that are open."""
        now = time.perf_counter()
        spent, self.clock = now - self.clock, now
        if self.stage not in (Stage.BRANCHING, Stage.LEAF):
            self.seconds[self.live] += spent / max(1, int(self.live.sum()))

    def _deadline(self) -> float:
        """When the questions that are open have used up their time."""
        # What the stage has taken so far counts, too.
        self._charge()
        left = (self.budget.seconds - self.seconds[self.live]).clamp(min=0)
        return time.perf_counter() + float(left.sum())


def decide(
    network: Network,
    problem: Problem,
    *,
    budget: Budget | None = None,
    replay: Replay | None = None,
    how: Cascade | None = None,
) -> Iterator[Outcome]:
    """Answer every question of ``problem``; outcomes come as they are decided, with the question's number as index.

    Args:
        network: in float64.
        problem: the questions.
        budget: what each may cost.
        replay: the original model, from points [m, *shape] float32 to outputs; counterexamples must violate the
            property there. The float64 network when None.
        how: how hard each stage tries.
    """
    budget, how = budget or Budget(), how or Cascade()
    engine = Engine.of(network, problem.box.lower.device, memory=allowance(budget.memory) // 4)
    with torch.no_grad():
        for at in range(0, len(problem), how.group):
            part = problem[slice(at, at + how.group)]
            for outcome in _Group(engine, part, budget, replay, how).run():
                yield replace(outcome, index=outcome.index + at)
