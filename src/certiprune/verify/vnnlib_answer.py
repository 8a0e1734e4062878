"""VNN-COMP's answer to the problems of one VNN-LIB file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.net.network import Network
from certiprune.net.onnx_run import run_onnx
from certiprune.verify.cascade import decide
from certiprune.verify.outcome import Reason, Verdict
from certiprune.verify.problem import Budget, Problem
from certiprune.verify.witness import check_witness, snap


@dataclass(frozen=True)
class Answer:
    """``sat``, ``unsat``, ``unknown`` or ``timeout``.

    Attributes:
        word: the answer.
        x: the witness's input [*shape] in float32; None unless ``sat``.
        y: the outputs [outputs] that onnxruntime gives it; None unless ``sat``.
    """

    word: str
    x: Tensor | None = None
    y: Tensor | None = None


def answer(
    network: Network,
    problems: Sequence[Problem],
    *,
    session: Callable[[], Any],
    deadline: float,
    device: torch.device | str = "cpu",
    memory: int | None = None,
) -> Answer:
    """Decide the problems of ``vnnlib.read`` together.

    Every counterexample is replayed on onnxruntime before ``sat`` is said; where none holds there, the answer is
    ``unknown``. Time is shared: what easy problems leave goes to those that ran out of it.

    Args:
        network: in float64.
        problems: one question each; none at all is ``unsat``.
        session: makes the onnxruntime session of the model; called when first needed.
        deadline: the reading of ``time.monotonic`` at which to stop.
        device: where to search.
        memory: bytes that the search may hold; None for 60 % of what is free.
    """
    running: list[Any] = []

    def replay(points: Tensor) -> Tensor:
        if not running:
            running.append(session())
        return run_onnx(running[0], points)

    still, sure = list(problems), True
    where = network.to(torch.float64, device)
    while still:
        seconds = deadline - time.monotonic()
        if seconds <= 0.0:
            return Answer("timeout")
        late: list[Problem] = []
        for same in _groups(still):
            budget = Budget(seconds=seconds / len(still), memory=memory)
            for outcome in decide(where, _stacked(same, device), budget=budget, replay=replay):
                problem = same[outcome.index]
                if outcome.counterexample is not None:
                    x = snap(problem.box, outcome.counterexample.cpu().unsqueeze(0))
                    y = replay(x)[0]
                    if check_witness(running[0], [problem], x[0]):
                        return Answer("sat", x[0], y)
                if outcome.reason is Reason.TIME:
                    late.append(problem)
                elif outcome.verdict is not Verdict.CERTIFIED:
                    sure = False
        if len(late) == len(still):
            return Answer("timeout")
        still = late
    return Answer("unsat" if sure else "unknown")


def _groups(problems: Sequence[Problem]) -> Iterator[list[Problem]]:
    """The problems whose properties have the same clauses, and so can be stacked."""
    groups: dict[tuple[int, ...], list[Problem]] = {}
    for problem in problems:
        groups.setdefault(tuple(problem.margin.clause.tolist()), []).append(problem)
    yield from groups.values()


def _stacked(problems: Sequence[Problem], device: torch.device | str) -> Problem:
    box = Box(torch.cat([p.box.lower for p in problems]), torch.cat([p.box.upper for p in problems]))
    matrix = torch.cat([p.margin.matrix for p in problems])
    margin = Margin(matrix, torch.cat([p.margin.offset for p in problems]), problems[0].margin.clause)
    centre = torch.cat([p.centre for p in problems])
    return Problem(box.to(device), margin.to(device), centre.to(device))
