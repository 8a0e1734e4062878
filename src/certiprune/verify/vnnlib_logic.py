"""The logic of VNN-LIB assertions: linear comparisons, and their combination into a disjunction.

A formula is held as a list of disjuncts, of which one at least must be true. A disjunct is a conjunction of
bounds on single inputs and of rows ``coefficients . y + offset <= 0`` over the outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

MAX_DISJUNCTS = 2**16
MAX_ATOMS = 2**22


class RefusedError(Exception):
    """A formula cannot be verified; the message says what is wrong, and the reader of the file adds where."""


Number = float | Fraction
"""A number as it was read, or an exact result: arithmetic between what a file says must not round anything away."""


class Linear(NamedTuple):
    """``inputs . x + outputs . y + constant``: coefficients by index."""

    inputs: Mapping[int, Number]
    outputs: Mapping[int, Number]
    constant: Number

    def scaled(self, factor: Number) -> Linear:
        inputs, outputs = _scaled(self.inputs, factor), _scaled(self.outputs, factor)
        return Linear(inputs, outputs, _times(self.constant, factor))

    def plus(self, other: Linear) -> Linear:
        inputs, outputs = _sum(self.inputs, other.inputs), _sum(self.outputs, other.outputs)
        return Linear(inputs, outputs, _plus(self.constant, other.constant))


class Bound(NamedTuple):
    """Input number ``which`` is at most (``upper``) or at least ``value``."""

    which: int
    upper: bool
    value: float


class Row(NamedTuple):
    """``coefficients . y + offset <= 0``."""

    coefficients: dict[int, float]
    offset: float


class Disjunct(NamedTuple):
    """A conjunction of bounds and rows; without any, it is true."""

    bounds: tuple[Bound, ...] = ()
    rows: tuple[Row, ...] = ()


def product(factors: Sequence[Linear]) -> Linear:
    """The product of linear terms.

    Raises:
        RefusedError: more than one of them is not a constant.
    """
    result = Linear({}, {}, 1.0)
    for factor in factors:
        if not (factor.inputs or factor.outputs):
            result = result.scaled(factor.constant)
        elif not (result.inputs or result.outputs):
            result = factor.scaled(result.constant)
        else:
            raise RefusedError("a product of two variables is not linear and cannot be verified")
    return result


def compare(relation: str, left: Linear, right: Linear) -> list[Disjunct]:
    """The formula ``left relation right``, where the relation is ``<=``, ``>=`` or ``=``.

    Raises:
        RefusedError: it is another relation, mixes inputs and outputs, is over inputs and no simple bound, or holds
            numbers that float64 does not.
    """
    if relation not in ("<=", ">=", "="):
        raise RefusedError(f"the relation {relation} cannot be verified; only <=, >= and = can")
    if relation == "=":
        return all_of([compare("<=", left, right), compare(">=", left, right)])
    if relation == ">=":
        left, right = right, left
    if left.inputs or right.inputs:
        if left.outputs or right.outputs:
            raise RefusedError("a comparison that mixes inputs and outputs cannot be verified")
        return [Disjunct(bounds=(_bound(left, right),))]
    row = left.plus(right.scaled(-1.0))
    coefficients = {index: _rounded(value) for index, value in row.outputs.items() if value != 0.0}
    if coefficients:
        return [Disjunct(rows=(Row(coefficients, _rounded(row.constant)),))]
    return [Disjunct()] if row.constant <= 0.0 else []


def conjunction(parts: Iterable[list[Disjunct]]) -> tuple[Disjunct, list[Disjunct]]:
    """What every disjunct of the parts' conjunction has in common, and the disjuncts without it.

    Kept apart, thousands of bounds need not be copied into hundreds of disjuncts.

    Raises:
        RefusedError: it has too many disjuncts.
    """
    bounds: list[Bound] = []
    rows: list[Row] = []
    choices = [Disjunct()]
    for part in parts:
        if len(part) == 1:
            bounds += part[0].bounds
            rows += part[0].rows
        else:
            _limit(len(choices) * len(part), _atoms(choices) * len(part) + _atoms(part) * len(choices))
            choices = [Disjunct(a.bounds + b.bounds, a.rows + b.rows) for a in choices for b in part]
    return Disjunct(tuple(bounds), tuple(rows)), choices


def all_of(parts: Iterable[list[Disjunct]]) -> list[Disjunct]:
    """The disjuncts of the parts' conjunction.

    Raises:
        RefusedError: there are too many.
    """
    common, choices = conjunction(parts)
    _limit(len(choices), _atoms(choices) + _atoms([common]) * len(choices))
    return [Disjunct(common.bounds + c.bounds, common.rows + c.rows) for c in choices]


def any_of(parts: Iterable[list[Disjunct]]) -> list[Disjunct]:
    """The disjuncts of the parts' disjunction.

    Raises:
        RefusedError: there are too many.
    """
    disjuncts = [disjunct for part in parts for disjunct in part]
    _limit(len(disjuncts), _atoms(disjuncts))
    return disjuncts


def _bound(low: Linear, high: Linear) -> Bound:
    """``low <= high`` as a bound on one input, without any arithmetic that could round."""
    for variable, other, upper in ((low, high, True), (high, low, False)):
        if len(variable.inputs) == 1 and not variable.constant and not other.inputs:
            ((index, factor),) = variable.inputs.items()
            if abs(factor) == 1.0:
                return Bound(index, upper == (factor > 0), _rounded(_times(other.constant, factor)))
    raise RefusedError("an assertion over inputs must be a bound on one input, such as (<= X_0 0.5)")


def _rounded(value: Number) -> float:
    """The float64 number nearest to ``value``: the only rounding there is.

    Raises:
        RefusedError: it is too large, or so near to 0 that it would lose its digits.
    """
    try:
        rounded = float(value)
    except OverflowError:
        rounded = float("inf")
    if abs(rounded) > sys.float_info.max or (
        isinstance(value, Fraction) and 0 < abs(value) < sys.float_info.min
    ):
        raise RefusedError("worked out, a number is too large or too small for float64")
    return rounded


def _times(a: Number, b: Number) -> Number:
    if abs(b) == 1:
        return a if b > 0 else -a
    return Fraction(a) * Fraction(b)


def _plus(a: Number, b: Number) -> Number:
    return Fraction(a) + Fraction(b) if a and b else a or b


def _scaled(coefficients: Mapping[int, Number], factor: Number) -> dict[int, Number]:
    return {index: _times(value, factor) for index, value in coefficients.items()}


def _sum(left: Mapping[int, Number], right: Mapping[int, Number]) -> dict[int, Number]:
    return {**left, **{index: _plus(left.get(index, 0.0), value) for index, value in right.items()}}


def _atoms(disjuncts: Sequence[Disjunct]) -> int:
    return sum(len(disjunct.bounds) + len(disjunct.rows) for disjunct in disjuncts)


def _limit(disjuncts: int, atoms: int) -> None:
    if disjuncts > MAX_DISJUNCTS or atoms > MAX_ATOMS:
        raise RefusedError(
            f"multiplied out, the property has {disjuncts} disjuncts of {atoms} conditions together; "
            f"at most {MAX_DISJUNCTS} and {MAX_ATOMS} can be verified: split it into several files"
        )
