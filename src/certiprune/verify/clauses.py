"""The forms of branch and bound's tasks: each is one clause of one question, its rows brought to unit size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from certiprune.bounds.mix import Mix
from certiprune.core.margin import Margin
from certiprune.verify.forms import unit


@dataclass(frozen=True)
class Several:
    """``t`` clauses of up to ``r`` rows each, some of several.

    Attributes:
        mix: the rows, float64.
        weight: [t, r] float32, the weights of the rows to start from.
    """

    mix: Mix
    weight: Tensor

    @cached_property
    def quick(self) -> Mix:
        """The rows in float32, to search with."""
        return self.mix.to(torch.float32)


@dataclass(frozen=True)
class Clauses:
    """``t`` clauses of up to ``r`` rows.

    Attributes:
        coeff, const: [t, outputs] and [t], float64: each clause's most promising row.
        several: None where every clause has one row, else all rows.
        size: [t] what a bound of a mean of the rows is to be multiplied with to be one of the clause as it was given.
    """

    coeff: Tensor
    const: Tensor
    several: Several | None
    size: Tensor

    @staticmethod
    def of(margin: Margin, question: Tensor, clause: Tensor, lower: Tensor) -> Clauses:
        """The clauses ``clause`` [t] of the questions ``question`` [t], where ``lower`` [n, rows] bounds all rows.

        A mean of the rows m_i / u_i, each divided by its unit u_i, is at most the largest of them; so where it is
        above a number v > 0 some m_i is above u_i v, and so above v times the smallest u_i.
        """
        task = torch.arange(len(question)).unsqueeze(1)
        own = margin.clause == clause.unsqueeze(1)
        ranked = lower[question].clamp(min=torch.finfo(torch.float64).min)
        order = ranked.masked_fill(~own, -torch.inf).argsort(dim=1, descending=True, stable=True)
        count = own.sum(1, keepdim=True)
        most = int(count.max()) if len(count) else 1
        # Shorter clauses repeat their most promising row.
        place = torch.arange(most).expand(len(task), -1)
        row = order.gather(1, torch.where(place < count, place, 0))
        matrix, offset = margin.matrix[question.unsqueeze(1), row], margin.offset[question.unsqueeze(1), row]
        size = unit(matrix, offset)
        matrix, offset = matrix / size.unsqueeze(2), offset / size
        several = None if most == 1 else Several(Mix(matrix, offset), _start(place < count))
        return Clauses(matrix[:, 0], offset[:, 0], several, size.amin(1))


def _start(own: Tensor) -> Tensor:
    """Half the weight on the most promising row, the other half on all rows alike."""
    first = torch.zeros_like(own, dtype=torch.float32)
    first[:, 0] = 0.5
    return first + 0.5 * own / own.sum(1, keepdim=True)
