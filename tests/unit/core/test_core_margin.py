"""Properties: rows, clauses, and what counts as a violation."""

from __future__ import annotations

import pytest
import torch

from certiprune.core.errors import InputError
from certiprune.core.margin import Margin

F64 = torch.float64


def test_a_label_beats_each_of_the_others() -> None:
    margin = Margin.classified_as(torch.tensor([2, 0]), 3).to(F64)
    outputs = torch.tensor([[1.0, 5.0, 3.0], [4.0, 1.0, 4.0]], dtype=F64)
    assert margin.values(outputs).tolist() == [[2.0, -2.0], [3.0, 0.0]]
    assert margin.worst(outputs).tolist() == [-2.0, 0.0]
    assert (margin.rows, margin.clauses, len(margin)) == (2, 2, 2)


def test_a_tie_is_a_violation() -> None:
    margin = Margin.classified_as(torch.tensor([0]), 2)
    assert float(margin.worst(torch.tensor([[1.0, 1.0]]))) == 0.0


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(InputError, match="between 0 and 2"):
        Margin.classified_as(torch.tensor([0, label]), 3)


def test_a_clause_holds_where_one_of_its_rows_does() -> None:
    margin = Margin(torch.eye(3).unsqueeze(0), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0, 0, 1]))
    outputs = torch.tensor([[-1.0, 2.0, 3.0]])
    assert margin.clause_values(margin.values(outputs)).tolist() == [[2.0, 4.0]]
    assert margin.worst(outputs).tolist() == [2.0]


def test_no_questions_and_no_clauses_are_properties_too() -> None:
    assert Margin.classified_as(torch.zeros(0, dtype=torch.int64), 3).worst(torch.zeros(0, 3)).shape == (0,)
    alone = Margin.classified_as(torch.zeros(2, dtype=torch.int64), 1)
    assert alone.clauses == 0
    assert alone.worst(torch.zeros(2, 1)).tolist() == [torch.inf, torch.inf]


def test_indexing_keeps_the_questions_apart() -> None:
    margin = Margin.classified_as(torch.tensor([0, 1, 2]), 3)
    picked = margin[torch.tensor([2, 0])]
    assert torch.equal(picked.matrix, margin.matrix[[2, 0]])
    assert len(margin[slice(1, 2)]) == 1


def test_an_output_that_is_no_number_satisfies_nothing() -> None:
    margin = Margin.classified_as(torch.tensor([0]), 2)
    assert not bool(margin.worst(torch.tensor([[float("nan"), 0.0]])) > 0)
