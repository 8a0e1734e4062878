"""VNN-LIB 2.0 through the official ``vnnlib`` package, which parses and checks the types."""

from __future__ import annotations

import json
import math
from typing import Any

from certiprune.core.errors import InputError
from certiprune.verify.vnnlib_logic import (
    Disjunct,
    Linear,
    RefusedError,
    all_of,
    any_of,
    compare,
    conjunction,
    product,
)

_RELATIONS = {
    "LessEqual": "<=",
    "GreaterEqual": ">=",
    "Equal": "=",
    "LessThan": "<",
    "GreaterThan": ">",
    "NotEqual": "!=",
}
_REALS = ("Real", "F32", "F64")


def parse(text: str, path: str, *, inputs: int, outputs: int) -> tuple[Disjunct, list[Disjunct]]:
    """The conjunction of the file's assertions, in the form of ``vnnlib_logic.conjunction``.

    Raises:
        InputError: the text is no VNN-LIB 2.0, or holds what cannot be verified: several networks, inputs or
            outputs, hidden values, whole numbers, strict or mixed comparisons.
    """
    import vnnlib

    try:
        query = vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as error:
        raise InputError(f"{path}{_message(str(error))}") from error
    _check_network(query.networks, path, inputs, outputs)
    assertions = [_located(assertion.expr, path) for assertion in query.assertions]
    try:
        return conjunction(assertions)
    except RefusedError as error:
        raise InputError(f"{path}: {error}") from error


def _check_network(networks: Any, path: str, inputs: int, outputs: int) -> None:
    if len(networks) != 1:
        raise InputError(
            f"{path}: is about {len(networks)} networks; a property of one network can be verified"
        )
    network = networks[0]
    if network.hidden:
        raise InputError(
            f"{path}: names the hidden value {network.hidden[0].name}; only inputs and outputs can be"
        )
    for what, definitions, size in (("input", network.inputs, inputs), ("output", network.outputs, outputs)):
        if len(definitions) != 1:
            raise InputError(f"{path}: the network has {len(definitions)} {what}s; it must have one")
        declared = definitions[0]
        if declared.dtype.name not in _REALS:
            raise InputError(
                f"{path}: {what} {declared.name} is {declared.dtype.name}; it must be real or float32"
            )
        if math.prod(declared.shape) != size:
            raise InputError(
                f"{path}: {what} {declared.name} is {list(declared.shape)}, but the model has {size} {what}s"
            )


def _located(expression: Any, path: str) -> list[Disjunct]:
    try:
        return _formula(expression)
    except RefusedError as error:
        raise InputError(f"{path}, line {_line(expression)}: {error}") from error


def _formula(expression: Any) -> list[Disjunct]:
    kind = type(expression).__name__
    if kind in ("And", "Or"):
        parts = [_formula(part) for part in expression.args]
        return all_of(parts) if kind == "And" else any_of(parts)
    return compare(_RELATIONS.get(kind, kind), _linear(expression.lhs), _linear(expression.rhs))


def _linear(expression: Any) -> Linear:
    kind = type(expression).__name__
    if kind == "Var":
        place = {_flat(expression.indices, expression.shape): 1.0}
        return Linear(place, {}, 0.0) if expression.kind.name == "Input" else Linear({}, place, 0.0)
    if kind in ("Float", "Int"):
        value = float(expression.lexeme)
        if not math.isfinite(value):
            raise RefusedError(f"{expression.lexeme} is no finite number")
        return Linear({}, {}, value)
    if kind == "Negate":
        return _linear(expression.expr).scaled(-1.0)
    if kind == "Multiply":
        return product([_linear(part) for part in expression.args])
    if kind == "Plus":
        terms = [_linear(part) for part in expression.args]
    elif kind == "Minus":
        terms = [_linear(expression.head), *(_linear(part).scaled(-1.0) for part in expression.rest)]
    else:
        raise RefusedError(f"the term {expression} cannot be verified")
    total = terms[0]
    for term in terms[1:]:
        total = total.plus(term)
    return total


def _flat(indices: list[int], shape: list[int]) -> int:
    """The row-major index of an element."""
    flat = 0
    for index, size in zip(indices, shape, strict=True):
        flat = flat * size + index
    return flat


def _line(expression: Any) -> int:
    """The line of the first variable or number in an expression; inner nodes do not know theirs."""
    while not hasattr(expression, "line"):
        expression = expression.children()[0]
    return int(expression.line)


def _message(text: str) -> str:
    """What the package says, on one line: syntax errors are text, errors of types JSON."""
    try:
        first = json.loads(text)["errors"][0]
        return f", line {first['line']}: {first['message']}: {first['offendingSymbol']}. {first['hint']}"
    except (ValueError, KeyError, IndexError, TypeError):
        return f": {' '.join(text.split())}"
