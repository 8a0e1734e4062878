"""What every branch and bound does besides branching and bounding: whose turn it is, what it cost, when it ends.

A search works on many questions in one pool of open subproblems. A question is proved when none of its subproblems is
open, each having been closed by a rigorous bound; a replayed point that violates its property decides it at once; a
budget that runs out, or a subproblem that can neither be closed nor split, makes it unknown with the reason.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.verify.outcome import Reason, Stage
from certiprune.verify.problem import Budget
from certiprune.verify.witness import snap

# A bound that was proved only where the property fails says "positive" and nothing about by how much.
POSITIVE = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class Decision:
    """What a search found for one question."""

    item: int
    proved: bool
    point: Tensor | None
    reason: Reason
    stage: Stage
    lower: float
    nodes: int
    seconds: float


class AbstractSearch(ABC):
    """One run over a group of questions; iterate to get each question's decision as soon as it is made.

    Args:
        margin: the questions' properties (float64).
        budget: for each question.
        spent: [questions] seconds that each has used already.
        memory: bytes that open subproblems may take.
        replay: from points [m, *shape] and questions [m] to the property's worst values on the original model.
    """

    def __init__(
        self,
        margin: Margin,
        budget: Budget,
        spent: Tensor,
        memory: int,
        replay: Callable[[Tensor, Tensor], Tensor],
    ):
        self.margin, self.budget, self.memory, self.replay = margin, budget, memory, replay
        self.count = len(margin)
        self.seconds = spent.clone()
        self.nodes = torch.zeros(self.count, dtype=torch.int64)
        self.closed = torch.full((self.count,), torch.inf, dtype=torch.float64)
        self.numeric = torch.zeros(self.count, dtype=torch.bool)
        self.used_leaf = torch.zeros(self.count, dtype=torch.bool)
        self.live = torch.zeros(self.count, dtype=torch.bool)
        self.points: dict[int, Tensor] = {}
        self.clock = time.perf_counter()

    def __iter__(self) -> Iterator[Decision]:
        while True:
            yield from self._finished()
            if not bool(self.live.any()):
                return
            self._round()

    @abstractmethod
    def _round(self) -> None:
        """Work on one batch of open subproblems."""

    @abstractmethod
    def _open(self) -> tuple[Tensor, Tensor]:
        """How many subproblems each question has open, [questions] int64, and the smallest bound of these."""

    @abstractmethod
    def _bytes(self) -> int:
        """What the open subproblems take."""

    @abstractmethod
    def _drop(self, question: int) -> None:
        """Forget the question's subproblems."""

    def _finished(self) -> Iterator[Decision]:
        """Questions that are decided or out of budget, each reported once."""
        still, worst = self._open()
        crowded = self._bytes() > self.memory
        for item in self.live.nonzero()[:, 0].tolist():
            reason, point = Reason.NONE, self.points.get(item)
            proved = point is None and int(still[item]) == 0 and not bool(self.numeric[item])
            if point is None and not proved:
                if int(still[item]) == 0:
                    reason = Reason.NUMERIC
                elif float(self.seconds[item]) >= self.budget.seconds:
                    reason = Reason.TIME
                elif self.budget.nodes is not None and int(self.nodes[item]) + 2 > self.budget.nodes:
                    reason = Reason.NODES
                elif crowded and item == int(torch.where(self.live, still, -1).argmax()):
                    reason = Reason.MEMORY
                else:
                    continue
            self.live[item] = False
            self._drop(item)
            leaf = bool(self.used_leaf[item]) and (proved or point is not None)
            yield Decision(
                item,
                proved,
                point,
                reason,
                Stage.LEAF if leaf else Stage.BRANCHING,
                float(min(self.closed[item], worst[item].double())),
                int(self.nodes[item]),
                float(self.seconds[item]),
            )
            crowded = self._bytes() > self.memory

    def _turn(self) -> Tensor:
        """[questions] what decides whose turn it is: the smallest number comes first."""
        # With a node limit turns go by nodes, so that what is looked at does not depend on the clock.
        return self.seconds if self.budget.nodes is None else self.nodes

    def _room(self, limit: int) -> int:
        """How many subproblems may be split now, each into two, of ``limit`` that there is time for."""
        if self.budget.nodes is None:
            return limit
        # A node limit holds exactly: it may make the last batch smaller. Every live question has room for a split.
        return min(limit, int((self.budget.nodes - self.nodes[self.live]).min()) // 2)

    def _falsify(self, box: Box, point: Tensor, question: int) -> None:
        """Keep ``point`` [*shape], moved into the one box, if it violates the question's property when replayed."""
        if question in self.points:
            return
        x = snap(box, point.unsqueeze(0))
        if bool(self.replay(x, torch.tensor([question]))[0] <= 0):
            self.points[question] = x[0]

    def _charge(self, question: Tensor) -> None:
        """Share the time since the last call between the questions whose subproblems were in the batch."""
        now = time.perf_counter()
        spent, self.clock = now - self.clock, now
        who = question if len(question) else self.live.nonzero()[:, 0]
        if len(who):
            share = torch.bincount(who, minlength=self.count).to(self.seconds.dtype)
            self.seconds += share * (spent / len(who))
