"""The open subproblems of branch and bound: a struct of arrays that holds those of many questions at once."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields
from typing import ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor


class Batch:
    """Open subproblems as a struct of arrays: a dataclass of tensors with one item for each subproblem.

    Attributes:
        task: [m] int64, what the subproblem is a part of.
        bound: [m] float32, the best bound known for it or one of its ancestors.
    """

    __dataclass_fields__: ClassVar[dict[str, Field]]
    task: Tensor
    bound: Tensor

    def __len__(self) -> int:
        return len(self.task)

    def __getitem__(self, keep: Tensor | slice) -> Self:
        return type(self)(*(getattr(self, f.name)[keep] for f in fields(self)))

    @classmethod
    def join(cls, parts: list[Self]) -> Self:
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    @property
    def bytes(self) -> int:
        return sum(getattr(self, f.name).nbytes for f in fields(self))


@dataclass
class Nodes(Batch):
    """``m`` open subproblems, each still to be split.

    Attributes:
        task: [m] int64, which form of which question.
        scene: [m] int64, the row of bounds that the subproblem uses (``Scenes``).
        age: [m] int64, how many splits ago these bounds were made.
        bound: [m] float32, the best bound known for the subproblem or one of its ancestors.
        theta: [m, k] float16 parameters, a start for the children; [m, k + r] with the weights of a clause's r rows.
        sign: [m, k] int8 splits.
        column: [m] int64, the neuron to split next; -1 where every neuron is fixed.
    """

    task: Tensor
    scene: Tensor
    age: Tensor
    bound: Tensor
    theta: Tensor
    sign: Tensor
    column: Tensor

    @staticmethod
    def none(width: int, rows: int = 0) -> Nodes:
        """No subproblems, of ``width`` columns and weights of ``rows`` rows."""
        none = torch.zeros(0, dtype=torch.int64)
        theta, sign = torch.zeros(0, width + rows).half(), torch.zeros(0, width, dtype=torch.int8)
        return Nodes(none, none, none, torch.zeros(0), theta, sign, none)


B = TypeVar("B", bound=Batch)


class Scenes:
    """Bounds on the columns' entering values that many subproblems share; rows are added, and dropped when unused."""

    def __init__(self, lower: Tensor, upper: Tensor):
        self.lower, self.upper = lower, upper

    def __len__(self) -> int:
        return len(self.lower)

    @property
    def bytes(self) -> int:
        return self.lower.nbytes + self.upper.nbytes

    def add(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Add rows; returns their numbers."""
        first = len(self)
        self.lower, self.upper = torch.cat([self.lower, lower]), torch.cat([self.upper, upper])
        return torch.arange(first, len(self))

    def keep(self, used: Tensor) -> Tensor:
        """Keep only the rows ``used`` (sorted, unique); returns each row's new number."""
        new = torch.full((len(self),), -1, dtype=torch.int64)
        new[used] = torch.arange(len(used))
        self.lower, self.upper = self.lower[used], self.upper[used]
        return new


class Frontier(Generic[B]):
    """A pool of nodes from which batches are taken, fairly between questions and worst bound first in each.

    The nodes lie in the first rows of arrays that grow; rows that are taken out are filled from the end. So a round
    moves what it takes and puts, and not the whole pool.

    Args:
        tasks: how many tasks there are.
        nodes: the first nodes; they may be none, and say what sort of nodes the pool holds.
    """

    def __init__(self, tasks: int, nodes: B):
        # A copy, because rows are written to.
        self.tasks, self._rows, self._count = tasks, nodes[torch.arange(len(nodes))], len(nodes)

    def __len__(self) -> int:
        return self._count

    @property
    def nodes(self) -> B:
        """All nodes, as views."""
        return self._rows[: self._count]

    @property
    def bytes(self) -> int:
        return self._rows.bytes

    def put(self, nodes: B) -> None:
        """Add subproblems."""
        end = self._count + len(nodes)
        room = len(self._rows)
        if end > room:
            room = max(end, room + room // 2)
        for f in fields(self._rows):
            rows, new = getattr(self._rows, f.name), getattr(nodes, f.name)
            if room > len(rows):
                # One array after the other, so that only one is there twice.
                larger = rows.new_empty(room, *rows.shape[1:])
                larger[: self._count] = rows[: self._count]
                setattr(self._rows, f.name, rows := larger)
            rows[self._count : end] = new
        self._count = end

    def drop(self, tasks: Tensor) -> None:
        """Forget every subproblem of the tasks where ``tasks`` [tasks] is true."""
        gone = tasks[self.nodes.task]
        if bool(gone.any()):
            self._rows = self.nodes[~gone]
            self._count = len(self._rows)

    def open(self) -> Tensor:
        """How many subproblems each task has, [tasks] int64."""
        return torch.bincount(self.nodes.task, minlength=self.tasks)

    def worst(self) -> Tensor:
        """Each task's smallest bound, [tasks]; infinite where nothing is open."""
        out = torch.full((self.tasks,), torch.inf)
        return out.scatter_reduce(0, self.nodes.task, self.nodes.bound, "amin")

    def take(self, count: int, turn: Tensor) -> B:
        """Take out up to ``count`` nodes: tasks in the order of ``turn`` [tasks] (smallest first).

        Of a task the worst bounds come first, so that counterexamples are met early; while the pool is large the best
        ones come first, so that it shrinks.
        """
        nodes = self.nodes
        key = nodes.bound.double()
        if nodes.bytes > _LARGE:
            key = -key
        rank = turn[nodes.task].double()
        order = torch.argsort(key)
        order = order[torch.argsort(rank[order], stable=True)][:count]
        taken = nodes[order]
        left = self._count - len(order)
        stays = torch.ones(self._count - left, dtype=torch.bool)
        stays[order[order >= left] - left] = False
        holes, last = order[order < left], stays.nonzero()[:, 0] + left
        for f in fields(nodes):
            rows = getattr(nodes, f.name)
            rows[holes] = rows[last]
        self._count = left
        return taken


# From so many bytes on the pool has to shrink: what is nearly closed comes first. Every open node has to be closed some
# time, so the order decides how much memory a proof takes and when a counterexample is met, but not how many nodes.
_LARGE = 1 << 26
