"""Counterexamples to VNN-LIB properties: float32 points of the box, replayed on onnxruntime, and written."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from certiprune.core.box import Box, round_down, round_up
from certiprune.core.margin import Margin
from certiprune.verify.problem import Problem


def snap(box: Box, x: Tensor) -> Tensor:
    """``x`` [n, *shape] as the nearest float32 points that lie in the n boxes.

    Where an interval holds no float32 number at all (``0.1 <= X_0 <= 0.1``), the float32 number nearest to it
    stands for it: that is what a model with float32 inputs is given for such a number.
    """
    low, high = round_up(box.lower, torch.float32), round_down(box.upper, torch.float32)
    inside = torch.minimum(torch.maximum(x.to(torch.float32), low), high)
    return torch.where(low <= high, inside, box.centre.to(torch.float32))


def check_witness(session: Any, problems: Sequence[Problem], x: Tensor) -> bool:
    """Whether ``x`` [*shape] violates one of the problems, as onnxruntime computes the outputs.

    The point must be in the box as ``snap`` means it, and a disjunct must hold for the float32 outputs,
    without any further rounding.

    Args:
        session: an onnxruntime session of the model (``net.onnx_run.session``).
        problems: what ``vnnlib.read`` gives.
        x: the input, in float32.
    """
    from certiprune.net.onnx_run import run_onnx

    point = x.detach().to("cpu", torch.float32).unsqueeze(0)
    asked = [p[k : k + 1] for p in problems for k in range(len(p))]
    near = [problem for problem in asked if torch.equal(snap(problem.box, point), point)]
    if not near:
        return False
    outputs = run_onnx(session, point)[0]
    return any(violated(problem.margin, outputs) for problem in near)


def violated(margin: Margin, outputs: Tensor) -> bool:
    """Whether all rows of a clause of the first property are at most 0 at ``outputs`` [outputs], exactly."""
    if not bool(torch.isfinite(outputs).all()):
        return False
    y = [Fraction(value) for value in outputs.tolist()]
    matrix, offset = margin.matrix[0].tolist(), margin.offset[0].tolist()
    holds = {
        clause
        for clause, row, constant in zip(margin.clause.tolist(), matrix, offset, strict=True)
        if sum((Fraction(a) * b for a, b in zip(row, y, strict=True) if a), Fraction(constant)) > 0
    }
    return len(holds) < margin.clauses


def write_witness(x: Tensor, y: Tensor) -> str:
    """The answer ``sat`` with its witness in VNN-COMP's form: inputs in row-major order, then outputs.

    Each number is written with all the digits of its float32 value, so that it reads back as the same float32
    number and lies on the same side of every bound.
    """
    pairs = [f"(X_{k} {_digits(v)})" for k, v in enumerate(_float32(x))]
    pairs += [f"(Y_{k} {_digits(v)})" for k, v in enumerate(_float32(y))]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def _float32(values: Tensor) -> list[float]:
    return values.detach().to("cpu", torch.float32).flatten().tolist()


def _digits(value: float) -> str:
    return repr(value)
