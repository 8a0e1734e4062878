"""The property to prove: linear rows over the network's outputs that must be positive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Margin:
    """``n`` properties of ``r`` rows each: every clause must hold at every point of the input box.

    Row ``k`` of property ``i`` is the number ``matrix[i, k] @ f(x) + offset[i, k]``. Rows with the same ``clause``
    number form a clause, and a clause holds where at least one of its rows is above 0 (a tie is a violation). Plain
    classification robustness has one row to a clause.

    Attributes:
        matrix: [n, r, outputs].
        offset: [n, r].
        clause: [r] int64, the clause of each row, counted from 0.
    """

    matrix: Tensor
    offset: Tensor
    clause: Tensor

    @staticmethod
    def classified_as(label: Tensor, classes: int) -> Margin:
        """Class ``label`` [n] beats each of the other ``classes - 1`` classes.

        Raises:
            InputError: a label is not one of the classes.
        """
        if label.numel() and not bool(((label >= 0) & (label < classes)).all()):
            raise InputError(f"labels must lie between 0 and {classes - 1}")
        eye = torch.eye(classes, device=label.device)
        rows = eye[label].unsqueeze(1) - eye.unsqueeze(0)
        others = torch.arange(classes, device=label.device).unsqueeze(0) != label.unsqueeze(1)
        matrix = rows[others].reshape(len(label), classes - 1, classes)
        offset = torch.zeros(matrix.shape[:2], device=label.device)
        return Margin(matrix, offset, torch.arange(classes - 1, device=label.device))

    def __len__(self) -> int:
        return self.matrix.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Margin:
        return Margin(self.matrix[index], self.offset[index], self.clause)

    @property
    def rows(self) -> int:
        return self.matrix.shape[1]

    @property
    def clauses(self) -> int:
        return int(self.clause.max()) + 1 if self.rows else 0

    def to(self, *args: object, **kwargs: object) -> Margin:
        moved = self.matrix.to(*args, **kwargs), self.offset.to(*args, **kwargs)  # type: ignore[call-overload]
        return Margin(*moved, self.clause.to(moved[0].device))

    def values(self, outputs: Tensor) -> Tensor:
        """The rows' values [n, r] at outputs [n, outputs]."""
        return torch.einsum("nro,no->nr", self.matrix.to(outputs.dtype), outputs) + self.offset.to(
            outputs.dtype
        )

    def clause_values(self, values: Tensor) -> Tensor:
        """The largest value of each clause, [n, clauses], from the rows' values [n, r]."""
        out = values.new_full((values.shape[0], self.clauses), -torch.inf)
        return out.scatter_reduce(1, self.clause.expand(values.shape[0], -1), values, "amax")

    def worst(self, outputs: Tensor) -> Tensor:
        """The smallest clause value [n] at outputs [n, outputs]: the property is violated where it is not above 0.

        A property without clauses always holds; its value is infinite.
        """
        values = self.clause_values(self.values(outputs))
        return values.amin(1) if self.clauses else values.new_full((len(values),), torch.inf)
