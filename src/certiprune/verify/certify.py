"""The search for a certificate that the independent program (``checker``) accepts.

All that is believed is computed by that program's own functions: bounds of neurons, margins, leaves. What is searched
for, with the verifier's means, are hints: which neurons' ends are worth a linear form, slopes, a tree, multipliers.

    intervals -> forms with CROWN's slopes for every unstable neuron -> optimised slopes of the open classes, and of the
    ends of neurons that these need most -> branch and bound, its closed subproblems as the leaves of trees
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from certiprune.bounds.intermediate import Around, Engine, OutOfTime, optimised
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.reduced import reduce
from certiprune.bounds.rows import Rows, neuron_rows
from certiprune.bounds.window import plan
from certiprune.checker import Certificate, Forms, Graph, Refused, Tree
from certiprune.checker.bounds import Interval, intervals
from certiprune.checker.certificate import ball, form_ends, leaf_margins, plain_margin
from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.core.memory import allowance
from certiprune.net.network import Network
from certiprune.verify.bab import Search
from certiprune.verify.effort import Cascade
from certiprune.verify.forms import reducible
from certiprune.verify.outcome import Reason
from certiprune.verify.problem import Budget
from certiprune.verify.relaxation import LayeredRelaxation, ReducedRelaxation, Relaxation
from certiprune.verify.root import choose

Array = np.ndarray
Replay = Callable[[Tensor], Tensor]
Values = list[Interval]


class NoCertificate(Exception):
    """None was found: the budget ran out, or the claim is false."""


@torch.no_grad()
def certify(
    network: Network,
    graph: Graph,
    claim: Certificate,
    *,
    budget: Budget | None = None,
    replay: Replay | None = None,
    how: Cascade | None = None,
) -> Certificate:
    """``claim`` with hints that prove it.

    Args:
        network: what ``net.onnx_in`` reads from the file of ``graph``, in float64 and not compacted, so that its ReLUs
            and neurons are those of ``graph``.
        graph: what the checker reads from that file.
        claim: image, label, eps and domain; its hints are not looked at.
        budget: what the search may cost.
        replay: the original model; the network when None.
        how: how hard each stage tries.

    Returns:
        A certificate that ``checker.check`` accepts for ``graph``.

    Raises:
        NoCertificate: with the reason.
        Refused: the claim does not fit the network.
    """
    return _Prover(network, graph, claim, budget or Budget(), replay, how or Cascade()).run()


class _Prover:
    """One claim on its way to a certificate."""

    def __init__(
        self,
        network: Network,
        graph: Graph,
        claim: Certificate,
        budget: Budget,
        replay: Replay | None,
        how: Cascade,
    ):
        self.network, self.graph, self.claim, self.budget, self.how = network, graph, claim, budget, how
        if not 0 <= claim.label < network.outputs or network.outputs < 2:
            raise Refused(f"the label {claim.label} is none of {network.outputs} classes, or the only one")
        self.numbers = {v: number for number, v in enumerate(network.relus)}
        self.replay = replay or (lambda x: network(x.double()))
        self.until = time.perf_counter() + budget.seconds
        self.memory = allowance(budget.memory)
        self.engine = Engine.of(network, memory=self.memory // 4)
        low, high = ball(claim, graph.sizes[0])
        self.box = Box(*(torch.from_numpy(t).reshape(1, *network.input_shape) for t in (low, high)))
        self.values = intervals(graph, low, high)
        centre = self.box.centre.flatten().numpy()
        self.centre = intervals(graph, centre, centre)
        self.others = [k for k in range(network.outputs) if k != claim.label]
        self.passes: list[dict[int, Forms]] = []
        self.trees: dict[int, Tree] = {}

    def run(self) -> Certificate:
        """The certificate: each step looks only at the classes that the steps before have left open."""
        if self._open():
            self._refine(self._likely, self._rest)
            others = self._open()
            if others:
                weight = self._alpha(others)
                others = self._open()
            if others:
                others = self._strengthen(weight, others)
            if others:
                self._search(others)
        return replace(self.claim, passes=tuple(self.passes), trees=self.trees)

    def _open(self) -> list[int]:
        """The classes that the bounds, and the trees found so far, do not rule out."""
        self._in_time()
        label, found = self.claim.label, []
        for other in self.others:
            if plain_margin(self.graph, self.values, label, other) > 0:
                self.trees.pop(other, None)
            elif other not in self.trees or not self._holds(other, self.trees[other]).all():
                found.append(other)
        return found

    def _holds(self, other: int, tree: Tree) -> Array:
        """Which of the tree's leaves the checker proves."""
        return leaf_margins(self.graph, self.values, self.claim.label, other, tree) > 0

    def _in_time(self) -> None:
        if time.perf_counter() > self.until:
            raise NoCertificate(Reason.TIME)

    def _refine(self, *proposals: Callable[[int, Array, Array, Values], Forms]) -> None:
        """One more pass over the network: each ReLU with the forms of each proposal, one after the other."""
        found: dict[int, Forms] = {}

        def tighten(number: int, low: Array, high: Array, values: Values) -> Interval:
            source = self.graph.source(number)
            low, high = np.maximum(low, self.values[source][0]), np.minimum(high, self.values[source][1])
            kept = []
            # What enters the first ReLU is affine, and its interval exact.
            for propose in proposals if number else ():
                self._in_time()
                forms = propose(number, low, high, values)
                ends = form_ends(self.graph, values, number, low, high, forms)
                moved = np.where(forms.upper, (ends[1] < high)[forms.neuron], (ends[0] > low)[forms.neuron])
                kept.append(_rows(forms, moved))
                low, high = ends
            if any(len(forms.neuron) for forms in kept):
                found[number] = _joined(kept)
            return low, high

        self.values = intervals(self.graph, *self.values[0], tighten)
        self.passes.append(found)

    def _likely(self, number: int, low: Array, high: Array, _: Values) -> Forms:
        """The end of each unstable neuron that the box's centre is nearer to, and both ends of those that are on."""
        unstable, off = (low < 0) & (high > 0), self._off(number)
        return _ends(unstable & ~off, unstable)

    def _rest(self, number: int, low: Array, high: Array, _: Values) -> Forms:
        """The lower end of neurons that are off at the centre, and still unstable."""
        lower = (low < 0) & (high > 0) & self._off(number)
        return _ends(lower, np.zeros_like(lower))

    def _off(self, number: int) -> Array:
        return self.centre[self.graph.source(number)][1] <= 0

    def _pre(self, values: Values, count: int) -> PreActivation:
        """Bounds of what enters the first ``count`` ReLUs."""
        ends = []
        for end in (0, 1):
            found = {}
            for number, v in enumerate(self.network.relus[:count]):
                t = torch.from_numpy(values[self.graph.source(number)][end])
                found[v] = t.reshape(1, *self.network.shapes[v])
            ends.append(found)
        return PreActivation(*ends)

    def _margins(self, others: list[int]) -> Tensor:
        """The forms score(label) - score(other), [len(others), outputs]."""
        rows = torch.zeros(len(others), self.network.outputs, dtype=torch.float64)
        rows[:, self.claim.label] = 1
        rows[torch.arange(len(others)), others] = -1
        return rows

    def _alpha(self, others: list[int]) -> dict[int, Tensor]:
        """Optimised slopes for the classes; the sizes of the coefficients behind each neuron, summed over them."""
        network = self.network
        if self.how.alpha_steps == 0 or not network.relus:
            return {}
        way = plan(network, network.output)
        pre = self._pre(self.values, len(network.relus))
        around = Around.of(self.engine, self.box, pre, way)
        coeff = self._margins(others)
        rows = Rows(way, torch.zeros(len(others), dtype=torch.int64), coeff, coeff.new_zeros(len(others)))
        slopes, behind = optimised(rows, around, self.how.alpha_steps, self.how.rates)
        relu, neuron = self._columns(pre)
        theta = torch.cat([t.flatten(1)[:, neuron[relu == self.numbers[v]]] for v, t in slopes.items()], 1)
        whole = np.array([-1], dtype=np.int32)
        for other, own in zip(others, theta.numpy(), strict=True):
            self.trees[other] = Tree(relu, neuron, whole, own[None].astype(np.float16))
        return {v: c.abs().sum(0, keepdim=True) for v, c in behind.items()}

    def _columns(self, pre: PreActivation) -> tuple[Array, Array]:
        """The unstable neurons: their ReLUs' numbers, and their own."""
        parts = [pre.unstable(v).flatten().nonzero()[:, 0] for v in self.network.relus]
        relu = np.concatenate([np.full(len(t), k, dtype=np.int32) for k, t in enumerate(parts)])
        return relu, torch.cat(parts).numpy().astype(np.int32)

    def _strengthen(self, weight: Mapping[int, Tensor], others: list[int]) -> list[int]:
        """Optimised slopes for the ends of neurons that the classes need most, then for these classes again.

        Returns:
            the classes that are still open.
        """
        how = self.how
        if how.tighten_steps == 0:
            return others
        pre = self._pre(self.values, len(self.network.relus))
        ends = choose(self.engine, pre, weight, how.tighten_walks, how.tighten_steps)
        if not ends:
            return others

        def propose(number: int, low: Array, high: Array, values: Values) -> Forms:
            v = self.network.relus[number]
            if v not in ends:
                return _ends(np.zeros_like(low, dtype=bool), np.zeros_like(low, dtype=bool))
            unstable = (low < 0) & (high > 0)
            wanted = _ends(*(t.flatten().numpy() & unstable for t in (ends[v].lower, ends[v].upper)))
            return self._sloped(number, wanted, values)

        self._refine(propose)
        others = self._open()
        if others:
            self._alpha(others)
            others = self._open()
        return others

    def _sloped(self, number: int, forms: Forms, values: Values) -> Forms:
        """The forms with optimised slopes."""
        network, source = self.network, self.network.node(self.network.relus[number]).inputs[0]
        way = plan(network, source, windowed=True)
        pre = self._pre(values, number)
        around = Around.of(self.engine, self.box, pre, way)
        if not around.quick_lines or not len(forms.neuron):
            return forms
        neuron, sign = torch.from_numpy(forms.neuron).long(), 1 - 2 * torch.from_numpy(forms.upper).double()
        found: dict[int, list[Tensor]] = {v: [] for v in around.quick_lines}
        size = self.engine.chunk(way)
        for at in range(0, len(neuron), size):
            self._in_time()
            part = slice(at, at + size)
            rows = neuron_rows(way, network, torch.zeros_like(neuron[part]), neuron[part], sign[part])
            slopes, _ = optimised(rows, around, self.how.tighten_steps, self.how.rates)
            for v, t in slopes.items():
                found[v].append(rows.whole(t, v, network).flatten(1))
        own = {}
        for v, parts in found.items():
            free = pre.unstable(v).flatten().nonzero()[:, 0]
            chosen = torch.cat(parts)[:, free].nan_to_num(0.0).half().numpy()
            own[self.numbers[v]] = (free.numpy().astype(np.int32), chosen)
        return Forms(forms.neuron, forms.upper, own)

    def _search(self, others: list[int]) -> None:
        """Branch and bound against the open classes; the subproblems that it closes are the leaves of trees."""
        pre = self._pre(self.values, len(self.network.relus))
        closed: list[list[tuple[Tensor, Tensor]]] = [[] for _ in others]

        def journal(task: Tensor, sign: Tensor, theta: Tensor) -> None:
            for t in task.unique().tolist():
                closed[t].append((sign[task == t].to(torch.int8), theta[task == t]))

        relaxation = self._relaxation(pre, others)
        coeff = self._margins(others).unsqueeze(0)
        margin = Margin(coeff, coeff.new_zeros(coeff.shape[:2]), torch.arange(len(others)))
        left = Budget(max(0.0, self.until - time.perf_counter()), self.budget.nodes, self.budget.memory)
        count = torch.zeros(len(others), dtype=torch.int64)
        (decision,) = Search(
            relaxation,
            count,
            torch.arange(len(others)),
            margin,
            left,
            torch.zeros(1, dtype=torch.float64),
            self.memory // 2,
            lambda x, _: margin[count[: len(x)]].worst(self.replay(x).double()),
            self.how.search,
            journal,
        )
        if decision.point is not None:
            raise NoCertificate("falsified")
        if not decision.proved:
            raise NoCertificate(decision.reason)
        for task, (other, leaves) in enumerate(zip(others, closed, strict=True)):
            sign, theta = (torch.cat(parts) for parts in zip(*leaves, strict=True))
            self.trees[other] = self._tree(other, relaxation, task, sign, theta)

    def _relaxation(self, pre: PreActivation, others: list[int]) -> Relaxation:
        many = torch.zeros(len(others), dtype=torch.int64)
        coeff = self._margins(others)
        tasks = self.engine, self.box[many], coeff, coeff.new_zeros(len(others)), pre[many]
        if not reducible(self.engine, pre):
            return LayeredRelaxation.of(*tasks)
        try:
            return ReducedRelaxation.of(*tasks, reduce(self.engine, self.box, pre, deadline=self.until))
        except OutOfTime as error:
            raise NoCertificate(Reason.TIME) from error

    def _tree(self, other: int, relaxation: Relaxation, task: int, sign: Tensor, theta: Tensor) -> Tree:
        """The leaves of one task as a tree that the checker accepts."""
        index = relaxation.index.neuron
        if not index:
            # Nothing to split: the verifier's rounding allowance was enough, and the checker's is not.
            raise NoCertificate(Reason.NUMERIC)
        relu = np.concatenate(
            [np.full(t.shape[1], self.numbers[v], dtype=np.int32) for v, t in index.items()]
        )
        neuron = torch.cat([t[task] for t in index.values()], 0).numpy().astype(np.int32)
        split, order = tree_of(sign.numpy())
        own = theta[torch.from_numpy(order), : len(relu)].numpy()
        for dtype in (np.float16, np.float32):
            with np.errstate(over="ignore"):
                tree = Tree(relu, neuron, split, own.astype(dtype))
            if self._holds(other, tree).all():
                return tree
        raise NoCertificate(Reason.NUMERIC)


def tree_of(signs: Array) -> tuple[Array, Array]:
    """From the signs [leaves, columns] of a whole tree's leaves, in any order: its ``split``, and the leaves' order."""
    split: list[int] = []
    order: list[int] = []
    open_ = [(np.arange(len(signs)), np.zeros(signs.shape[1], dtype=bool))]
    while open_:
        leaves, done = open_.pop()
        if len(leaves) == 1 and not (signs[leaves[0]] != 0)[~done].any():
            split.append(-1)
            order.append(int(leaves[0]))
            continue
        common = (signs[leaves] != 0).all(0) & ~done
        column = int(common.argmax())
        assert common[column], "the leaves do not make a tree"
        split.append(column)
        below = done.copy()
        below[column] = True
        for sign in (-1, 1):
            open_.append((leaves[signs[leaves, column] == sign], below))
    return np.array(split, dtype=np.int32), np.array(order, dtype=np.int64)


def _ends(lower: Array, upper: Array) -> Forms:
    """Forms without slopes of their own for the lower and the upper ends of these neurons (two masks)."""
    low, high = np.nonzero(lower)[0], np.nonzero(upper)[0]
    neuron = np.concatenate([low, high]).astype(np.int32)
    return Forms(neuron, np.repeat([False, True], [len(low), len(high)]), {})


def _rows(forms: Forms, keep: Array) -> Forms:
    return Forms(
        forms.neuron[keep], forms.upper[keep], {j: (s, t[keep]) for j, (s, t) in forms.slopes.items()}
    )


def _joined(parts: list[Forms]) -> Forms:
    """One batch of forms of several that choose slopes of the same neurons, or of none."""
    parts = [forms for forms in parts if len(forms.neuron)]
    slopes = {}
    for j, (seen, _) in parts[0].slopes.items():
        slopes[j] = seen, np.concatenate([forms.slopes[j][1] for forms in parts])
    return Forms(np.concatenate([f.neuron for f in parts]), np.concatenate([f.upper for f in parts]), slopes)
