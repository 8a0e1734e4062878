"""VNN-LIB files as problems for the verifier.

A file describes a counterexample: some input in a box whose outputs satisfy linear conditions. What is proved
is the negation. The file is brought into a disjunction of (box, rows ``row . y + offset <= 0``). The disjuncts
of one box make one ``Problem``, each of them a clause of its ``Margin``: it holds where one of its rows is
above 0.
"""

from __future__ import annotations

import functools
import gzip
import logging
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch

from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.margin import Margin
from certiprune.verify.problem import Problem
from certiprune.verify.vnnlib_logic import Bound, Row
from certiprune.verify.witness import check_witness, snap, write_witness

__all__ = ["check_witness", "read", "snap", "write_witness"]

_log = logging.getLogger(__name__)
_GZIP = b"\x1f\x8b"
_MOST = 128 << 20
_Ends = tuple[tuple[float, ...], tuple[float, ...]]


def read(path: str | Path, *, inputs: int, outputs: int, shape: Sequence[int]) -> list[Problem]:
    """The problems of a VNN-LIB file, of version 1.0 or 2.0, plain or compressed with gzip.

    Args:
        path: the file.
        inputs: how many inputs the model has; X_i is number i in row-major order.
        outputs: how many outputs the model has.
        shape: the model's input shape without the batch dimension.

    Returns:
        One problem of n = 1 for each different box, in float64. The file is ``unsat`` if every one of them is
        certified, and ``sat`` if one is falsified. Disjuncts with an empty box are left out, which is logged
        as a warning, so that an empty list means ``unsat``.

    Raises:
        InputError: the file cannot be read, is damaged, does not fit the model, or holds what cannot be
            verified; the message names file, line and what is wrong.
    """
    if math.prod(shape) != inputs:
        raise InputError(f"a model of input shape {tuple(shape)} has not {inputs} inputs")
    text = _text(Path(path))
    if "(declare-network" in text or "(vnnlib-version" in text:
        from certiprune.verify import vnnlib_two as version
    else:
        from certiprune.verify import vnnlib_one as version  # type: ignore[no-redef]
    common, choices = version.parse(text, str(path), inputs=inputs, outputs=outputs)
    lower, upper = _tightened([-math.inf] * inputs, [math.inf] * inputs, common.bounds)
    ends = functools.cache(lambda bounds: _ends(*_tightened(lower, upper, bounds), str(path)))
    clauses: dict[_Ends, list[tuple[Row, ...]]] = {}
    for choice in choices:
        box = ends(choice.bounds)
        if box is not None:
            clauses.setdefault(box, []).append(common.rows + choice.rows)
    return [_problem(box, found, outputs, tuple(shape)) for box, found in clauses.items()]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        # A small file can unpack to any size: no more is read than is looked at.
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(_MOST + 1)
        if len(data) > _MOST:
            raise InputError(f"{path}: holds more than {_MOST >> 20} MiB of text; no property needs as much")
        return data.decode("utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such property file") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is a damaged gzip file ({error})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text file, so no VNN-LIB file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _tightened(
    lower: list[float], upper: list[float], bounds: Sequence[Bound]
) -> tuple[list[float], list[float]]:
    lower, upper = lower.copy(), upper.copy()
    for index, is_upper, value in bounds:
        if is_upper:
            upper[index] = min(upper[index], value)
        else:
            lower[index] = max(lower[index], value)
    return lower, upper


def _ends(lower: list[float], upper: list[float], path: str) -> _Ends | None:
    """The box, or None where it is empty."""
    for side, values in (("lower", lower), ("upper", upper)):
        missing = [f"X_{k}" for k, value in enumerate(values) if math.isinf(value)]
        if missing:
            more = f" (and {len(missing) - 1} others)" if len(missing) > 1 else ""
            raise InputError(f"{path}: {missing[0]}{more} has no {side} bound; every input needs two bounds")
    for k, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if low > high:
            _log.warning(
                "%s: X_%d is at least %r and at most %r: no such input, so that case is unsat",
                path,
                k,
                low,
                high,
            )
            return None
    return tuple(lower), tuple(upper)


def _problem(ends: _Ends, clauses: list[tuple[Row, ...]], outputs: int, shape: tuple[int, ...]) -> Problem:
    # A clause without conditions is violated everywhere: a row that is never above 0 says so.
    rows = [(k, row) for k, clause in enumerate(clauses) for row in clause or (Row({}, -1.0),)]
    matrix = torch.zeros(1, len(rows), outputs, dtype=torch.float64)
    for r, (_, row) in enumerate(rows):
        matrix[0, r, list(row.coefficients)] = torch.tensor(
            list(row.coefficients.values()), dtype=torch.float64
        )
    offset = torch.tensor([[row.offset for _, row in rows]], dtype=torch.float64)
    lower, upper = (torch.tensor(end, dtype=torch.float64).reshape(1, *shape) for end in ends)
    box = Box(lower, upper)
    return Problem(box, Margin(matrix, offset, torch.tensor([k for k, _ in rows])), box.centre)
