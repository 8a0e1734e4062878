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
        theta: [m, k] float16 parameters, a start for the children.
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
    def none(width: int) -> Nodes:
        """No subproblems, of ``width`` columns."""
        none = torch.zeros(0, dtype=torch.int64)
        theta, sign = torch.zeros(0, width, dtype=torch.float16), torch.zeros(0, width, dtype=torch.int8)
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

    ``nodes`` are the first ones; they may be none, and say what sort of nodes the pool holds.
    """

    def __init__(self, tasks: int, nodes: B):
        self.tasks, self.nodes = tasks, nodes
        self._new: list[B] = []

    def __len__(self) -> int:
        return len(self.nodes) + sum(len(p) for p in self._new)

    @property
    def bytes(self) -> int:
        return self.nodes.bytes + sum(p.bytes for p in self._new)

    def put(self, nodes: B) -> None:
        """Add subproblems."""
        if len(nodes):
            self._new.append(nodes)

    def _settle(self) -> None:
        if self._new:
            self.nodes = type(self.nodes).join([self.nodes, *self._new])
            self._new = []

    def drop(self, tasks: Tensor) -> None:
        """Forget every subproblem of the tasks where ``tasks`` [tasks] is true."""
        self._settle()
        gone = tasks[self.nodes.task]
        if bool(gone.any()):
            self.nodes = self.nodes[~gone]

    def open(self) -> Tensor:
        """How many subproblems each task has, [tasks] int64."""
        self._settle()
        return torch.bincount(self.nodes.task, minlength=self.tasks)

    def worst(self) -> Tensor:
        """Each task's smallest bound, [tasks]; infinite where nothing is open."""
        self._settle()
        out = torch.full((self.tasks,), torch.inf)
        return out.scatter_reduce(0, self.nodes.task, self.nodes.bound, "amin")

    def take(self, count: int, turn: Tensor) -> B:
        """Take out up to ``count`` nodes: tasks in the order of ``turn`` [tasks] (smallest first).

        Of a task the worst bounds come first, so that counterexamples are met early; while the pool is large the best
        ones come first, so that it shrinks.
        """
        self._settle()
        key = self.nodes.bound.double()
        if len(self.nodes) > 200_000:
            key = -key
        rank = turn[self.nodes.task].double()
        order = torch.argsort(key)
        order = order[torch.argsort(rank[order], stable=True)][:count]
        taken = self.nodes[order]
        keep = torch.ones(len(self.nodes), dtype=torch.bool)
        keep[order] = False
        self.nodes = self.nodes[keep]
        return taken
