"""A reader of VNN-LIB 1.0, the SMT-LIB subset of VNN-COMP's benchmarks, linear in the file's size."""

from __future__ import annotations

import math
import re
from typing import NoReturn

from certiprune.core.errors import InputError
from certiprune.verify.vnnlib_logic import (
    Bound,
    Disjunct,
    Linear,
    RefusedError,
    all_of,
    any_of,
    compare,
    conjunction,
    product,
)

_TOKEN = re.compile(r"[()]|[^\s()]+")
_COMMENT = re.compile(r";[^\n]*")
_VARIABLE = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_IGNORED = ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit")
_RELATIONS = ("<=", ">=", "=", "<", ">")
_MAX_DEPTH = 100
_SPACE = r"(?:\s|;[^\n]*\n)*"
_BEGIN = re.compile(rf"{_SPACE}\({_SPACE}([^\s();]+)")
_BEGINNING = 1 << 16
_KIND = {"X": "inputs", "Y": "outputs"}


def parse(text: str, path: str, *, inputs: int, outputs: int) -> tuple[Disjunct, list[Disjunct]]:
    """The conjunction of the file's assertions, in the form of ``vnnlib_logic.conjunction``.

    Raises:
        InputError: the text is no VNN-LIB 1.0, or holds what cannot be verified; with file and line.
    """
    # Long files that are something else fail at their beginning, before a token is made of each of their words.
    begun = _BEGIN.match(text)
    known = begun is not None and begun[1] in ("assert", "declare-const", *_IGNORED)
    if not known:
        _Parser(text[:_BEGINNING], path, inputs, outputs).read()
    return _Parser(text, path, inputs, outputs).read()


class _Parser:
    """Recursive descent over the tokens; ``at`` is the next one, and an empty token ends the file."""

    def __init__(self, text: str, path: str, inputs: int, outputs: int):
        # Comments go, but not the ends of their lines, which errors count.
        self.text = _COMMENT.sub("", text)
        self.tokens = [*_TOKEN.findall(self.text), ""]
        self.path, self.sizes = path, {"X": inputs, "Y": outputs}
        self.variables: dict[str, Linear] = {}
        self.at = 0

    def read(self) -> tuple[Disjunct, list[Disjunct]]:
        assertions: list[list[Disjunct]] = []
        bounds: list[Bound] = []
        while self.tokens[self.at]:
            bound = self.plain_bound()
            if bound is None:
                self.command(assertions)
            else:
                bounds.append(bound)
        self.check_declared()
        try:
            return conjunction([[Disjunct(tuple(bounds))], *assertions])
        except RefusedError as error:
            raise InputError(f"{self.path}: {error}") from error

    def plain_bound(self) -> Bound | None:
        """The command ``(assert (<= X_0 0.5))`` or its like, else None and nothing read.

        Nearly all of a file about images consists of these; ``command`` reads them just as well, but slower.
        """
        head = self.tokens[self.at : self.at + 8]
        if head[:3] != ["(", "assert", "("] or head[6:] != [")", ")"] or head[3] not in ("<=", ">="):
            return None
        variable, value = self.variables.get(head[4]), _number(head[5])
        if variable is None or not variable.inputs or value is None:
            return None
        self.at += 8
        return Bound(next(iter(variable.inputs)), head[3] == "<=", value)

    def command(self, assertions: list[list[Disjunct]]) -> None:
        """Read one command; what it asserts is added to ``assertions``."""
        start = self.at
        if self.tokens[start] == ")":
            self.fail(start, "a closing parenthesis without an opening one")
        self.take("(")
        command = self.word("a command such as assert")
        if command == "assert":
            assertions.append(self.formula(0))
            self.take(")")
        elif command == "declare-const":
            self.declaration()
        elif command in _IGNORED:
            self.skip(start)
        else:
            self.fail(start, f"the command {command} is not known; declare-const and assert are")

    def declaration(self) -> None:
        start = self.at
        name, sort = self.word("a variable"), self.word("a sort")
        self.take(")")
        match = _VARIABLE.fullmatch(name)
        if match is None:
            self.fail(
                start, f"the variable {name} is neither an input X_0, X_1, ... nor an output Y_0, Y_1, ..."
            )
        kind, index = match[1], int(match[2])
        if sort != "Real":
            self.fail(start, f"{name} is {sort}; it must be Real")
        if index >= self.sizes[kind]:
            self.fail(start, f"{name} is declared, but the model has {self.sizes[kind]} {_KIND[kind]}")
        if name in self.variables:
            self.fail(start, f"{name} is declared twice")
        one = {index: 1.0}
        self.variables[name] = Linear(one, {}, 0.0) if kind == "X" else Linear({}, one, 0.0)

    def check_declared(self) -> None:
        for kind, size in self.sizes.items():
            count = sum(name.startswith(kind) for name in self.variables)
            if count < size:
                raise InputError(f"{self.path}: declares {count} {_KIND[kind]}, but the model has {size}")

    def formula(self, depth: int) -> list[Disjunct]:
        start = self.at
        self.open(depth, "a formula")
        operator = self.word("and, or or a comparison")
        try:
            if operator in ("and", "or"):
                parts: list[list[Disjunct]] = []
                while self.tokens[self.at] != ")":
                    parts.append(self.formula(depth + 1))
                self.at += 1
                if not parts:
                    raise RefusedError(f"({operator}) without arguments")
                return all_of(parts) if operator == "and" else any_of(parts)
            if operator not in _RELATIONS:
                raise RefusedError(f"the operator {operator} is not known; and, or, <=, >= and = are")
            left, right = self.linear(depth), self.linear(depth)
            self.take(")")
            return compare(operator, left, right)
        except RefusedError as error:
            self.fail(start, str(error))

    def linear(self, depth: int) -> Linear:
        start, token = self.at, self.tokens[self.at]
        if token != "(":
            value = self.variables.get(token) or self.number(start, token)
            self.at += 1
            return value
        self.open(depth, "a term")
        operator = self.word("+, - or *")
        if operator not in ("+", "-", "*"):
            self.fail(start, f"the operator {operator} is not known in a term; +, - and * are")
        terms: list[Linear] = []
        while self.tokens[self.at] != ")":
            terms.append(self.linear(depth + 1))
        self.at += 1
        if not terms:
            self.fail(start, f"({operator}) without arguments")
        if operator == "*":
            try:
                return product(terms)
            except RefusedError as error:
                self.fail(start, str(error))
        if operator == "-":
            negated = [term.scaled(-1.0) for term in terms]
            terms = negated if len(terms) == 1 else [terms[0], *negated[1:]]
        total = terms[0]
        for term in terms[1:]:
            total = total.plus(term)
        return total

    def number(self, place: int, token: str) -> Linear:
        if token in ("", ")"):
            self.expected(place, "a variable or a number")
        if _VARIABLE.fullmatch(token):
            self.fail(place, f"the variable {token} is not declared")
        value = _number(token)
        if value is None:
            self.fail(place, f"{token} is neither a declared variable nor a finite number")
        return Linear({}, {}, value)

    def skip(self, start: int) -> None:
        depth = 1
        while depth:
            if not self.tokens[self.at]:
                self.expected(start, "a closing parenthesis for the one that opens here")
            depth += {"(": 1, ")": -1}.get(self.tokens[self.at], 0)
            self.at += 1

    def open(self, depth: int, what: str) -> None:
        if depth > _MAX_DEPTH:
            self.fail(self.at, f"parentheses are nested more than {_MAX_DEPTH} deep")
        self.take("(", what)

    def take(self, token: str, what: str = "") -> None:
        if self.tokens[self.at] != token:
            self.expected(self.at, what or f"'{token}'")
        self.at += 1

    def word(self, what: str) -> str:
        token = self.tokens[self.at]
        if token in ("(", ")", ""):
            self.expected(self.at, what)
        self.at += 1
        return token

    def expected(self, place: int, what: str) -> NoReturn:
        found = self.tokens[place]
        if found and self.tokens[self.at]:
            self.fail(place, f"found '{found}' in place of {what}")
        self.fail(place, f"the file ends in place of {what}: a parenthesis is not closed")

    def fail(self, place: int, what: str) -> NoReturn:
        """Raise an error at token ``place``; only now is its line looked for."""
        starts = [match.start() for match in _TOKEN.finditer(self.text)]
        offset = starts[place] if place < len(starts) else len(self.text.rstrip())
        line = self.text.count("\n", 0, offset) + 1
        raise InputError(f"{self.path}, line {line}: {what}")


def _number(token: str) -> float | None:
    try:
        value = float(token)
    except ValueError:
        return None
    # Python reads 1_000 as a number; SMT-LIB does not.
    return value if math.isfinite(value) and "_" not in token else None
