"""The pool of open subproblems: nothing gets lost, and turns are fair."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor

from certiprune.verify.frontier import Frontier, Nodes, Scenes


def nodes(task: list[int], bound: list[float], width: int = 2) -> Nodes:
    """Nodes of ``task`` with ``bound``; ``column`` tells them apart."""
    m = len(task)
    given: dict[str, Tensor] = {
        "task": torch.tensor(task, dtype=torch.int64),
        "bound": torch.tensor(bound, dtype=torch.float32),
        "theta": torch.zeros(m, width, dtype=torch.float16),
        "sign": torch.zeros(m, width, dtype=torch.int8),
    }
    rest = {f.name: torch.arange(m) for f in fields(Nodes) if f.name not in given}
    return Nodes(**given, **rest)


def test_every_node_comes_out_once() -> None:
    frontier = Frontier(3, Nodes.none(2))
    bounds = torch.rand(50, generator=torch.Generator().manual_seed(0)).tolist()
    frontier.put(nodes([k % 3 for k in range(30)], bounds[:30]))
    frontier.put(nodes([k % 3 for k in range(20)], bounds[30:]))
    assert len(frontier) == 50
    assert frontier.open().tolist() == [17, 17, 16]
    taken: list[float] = []
    while len(frontier):
        batch = frontier.take(7, torch.zeros(3))
        assert 0 < len(batch) <= 7
        taken += batch.bound.tolist()
    assert sorted(taken) == sorted(torch.tensor(bounds).tolist())
    assert len(frontier.take(7, torch.zeros(3))) == 0


def test_the_question_that_has_used_least_comes_first_and_its_worst_bound_first() -> None:
    frontier = Frontier(3, Nodes.none(2))
    frontier.put(nodes([0, 1, 1, 2, 1], [-9.0, -1.0, -3.0, -8.0, -2.0]))
    taken = frontier.take(4, torch.tensor([2.0, 1.0, 3.0]))
    assert taken.task.tolist() == [1, 1, 1, 0]
    assert taken.bound.tolist() == [-3.0, -2.0, -1.0, -9.0]
    assert frontier.open().tolist() == [0, 0, 1]


def test_worst_bounds_and_dropping() -> None:
    frontier = Frontier(3, Nodes.none(2))
    frontier.put(nodes([0, 1, 1], [-1.0, -5.0, -2.0]))
    assert frontier.worst().tolist() == [-1.0, -5.0, torch.inf]
    full = frontier.bytes
    frontier.drop(torch.tensor([False, True, False]))
    assert frontier.open().tolist() == [1, 0, 0]
    assert 0 < frontier.bytes < full
    frontier.drop(torch.tensor([True, True, True]))
    assert len(frontier) == 0 and frontier.bytes == 0


def test_bounds_that_are_no_numbers_stay_open() -> None:
    frontier = Frontier(1, Nodes.none(2))
    frontier.put(nodes([0, 0], [float("nan"), -1.0]))
    assert frontier.open().tolist() == [2]
    assert len(frontier.take(5, torch.zeros(1))) == 2


def test_a_frontier_without_columns() -> None:
    frontier = Frontier(1, Nodes.none(0))
    frontier.put(nodes([0], [-1.0], width=0))
    assert frontier.take(1, torch.zeros(1)).theta.shape == (1, 0)


def test_scenes_keep_what_is_used_and_renumber_it() -> None:
    scenes = Scenes(torch.arange(4.0).unsqueeze(1), torch.arange(4.0).unsqueeze(1) + 10)
    assert scenes.add(torch.tensor([[4.0]]), torch.tensor([[14.0]])).tolist() == [4]
    new = scenes.keep(torch.tensor([0, 2, 4]))
    assert len(scenes) == 3
    assert scenes.lower[new[torch.tensor([0, 2, 4])]].flatten().tolist() == [0.0, 2.0, 4.0]
    assert scenes.upper[new[torch.tensor([4])]].flatten().tolist() == [14.0]
