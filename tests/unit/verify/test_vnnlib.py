"""VNN-LIB files become the right boxes and clauses, and a wrong file is refused with its line."""

from __future__ import annotations

import gzip
import itertools
import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from certiprune.core.errors import InputError
from certiprune.verify import vnnlib, vnnlib_logic
from certiprune.verify.problem import Problem

TWO = "(vnnlib-version <2.0>)\n(declare-network f\n (declare-input X real [1,2])\n (declare-output Y real [1,3])\n)\n"
SECOND = "(declare-network g (declare-input A real [1,2]) (declare-output B real [1,3]))\n"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 0.3))\n"
BOX_TWO = "(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 0.3)))\n"


def declared(inputs: int = 2, outputs: int = 3) -> str:
    names = [f"X_{k}" for k in range(inputs)] + [f"Y_{k}" for k in range(outputs)]
    return " ".join(f"(declare-const {name} Real)" for name in names) + "\n"


def read(folder: Path, text: str, *, inputs: int = 2, outputs: int = 3) -> list[Problem]:
    file = folder / "p.vnnlib"
    file.write_text(text)
    return vnnlib.read(file, inputs=inputs, outputs=outputs, shape=(inputs,))


def clauses(problem: Problem) -> list[list[tuple[list[float], float]]]:
    """For each clause its rows, each a list of coefficients and an offset."""
    margin = problem.margin
    rows = list(zip(margin.matrix[0].tolist(), margin.offset[0].tolist(), strict=True))
    of = margin.clause.tolist()
    return [[row for row, c in zip(rows, of, strict=True) if c == k] for k in range(margin.clauses)]


def test_disjuncts_of_one_box_become_the_clauses_of_one_problem(tmp_path: Path) -> None:
    (problem,) = read(
        tmp_path,
        declared() + BOX + "(assert (or (and (<= Y_1 Y_0) (>= (+ Y_2 (* 2 Y_1)) 0.5)) (and (>= 3 (- Y_0)))))",
    )
    assert len(problem) == 1
    assert problem.box.lower.dtype == problem.margin.matrix.dtype == torch.float64
    assert problem.box.lower.tolist() == [[-1.0, 0.0]] and problem.box.upper.tolist() == [[1.0, 0.3]]
    assert problem.centre.tolist() == [[0.0, 0.15]]
    assert clauses(problem) == [[([-1, 1, 0], 0.0), ([0, -2, -1], 0.5)], [([-1, 0, 0], -3.0)]]


def test_top_level_assertions_are_one_conjunction(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, declared() + BOX + "(assert (<= Y_0 Y_1))\n(assert (= Y_2 1.5))")
    assert clauses(problem) == [[([1, -1, 0], 0.0), ([0, 0, 1], -1.5), ([0, 0, -1], 1.5)]]


def test_different_boxes_become_different_problems(tmp_path: Path) -> None:
    boxes = (
        "(assert (or (and (>= X_0 0) (<= X_0 1)) (and (>= X_0 2) (<= X_0 3)) (and (<= X_0 1) (>= X_0 0))))"
    )
    text = declared() + "(assert (and (= X_1 0.1)))" + boxes + "(assert (or (<= Y_0 0) (<= Y_1 0)))"
    first, second = read(tmp_path, text)
    assert first.box.lower.tolist() == [[0.0, 0.1]] and second.box.upper.tolist() == [[3.0, 0.1]]
    assert len(clauses(first)) == 4 and len(clauses(second)) == 2


def test_a_common_box_is_tightened_inside_a_disjunct(tmp_path: Path) -> None:
    text = declared() + BOX + "(assert (or (and (<= X_0 0.5) (<= Y_0 0)) (<= Y_1 0)))"
    first, second = read(tmp_path, text)
    assert first.box.upper.tolist() == [[0.5, 0.3]] and second.box.upper.tolist() == [[1.0, 0.3]]


def test_inputs_are_in_row_major_order(tmp_path: Path) -> None:
    file = tmp_path / "p.vnnlib"
    file.write_text(
        declared(6, 1) + "".join(f"(assert (= X_{k} {k}))" for k in range(6)) + "(assert (<= Y_0 0))"
    )
    (problem,) = vnnlib.read(file, inputs=6, outputs=1, shape=(1, 2, 3))
    assert problem.box.lower.shape == (1, 1, 2, 3)
    assert problem.box.lower[0, 0, 1, 2] == 5.0


def test_numbers_are_read_as_python_reads_them(tmp_path: Path) -> None:
    text = (
        declared()
        + "(assert (<= X_0 0.679857769123456789))(assert (>= X_0 (- 1e-3)))"
        + "(assert (= X_1 -0.1))"
    )
    (problem,) = read(tmp_path, text + "(assert (>= Y_0 3.991125645861615))")
    assert problem.box.upper[0, 0].item() == float("0.679857769123456789")
    assert problem.box.lower[0].tolist() == [-0.001, -0.1]
    assert problem.margin.offset.tolist() == [[3.991125645861615]]


def test_no_condition_on_the_outputs_is_violated_everywhere(tmp_path: Path) -> None:
    (problem,) = read(tmp_path, declared() + BOX)
    assert problem.margin.worst(torch.tensor([[5.0, -5.0, 0.0]])).item() < 0


def test_empty_boxes_are_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = declared() + BOX + "(assert (or (and (>= X_0 2) (<= Y_0 0)) (<= Y_1 0)))"
    with caplog.at_level(logging.WARNING):
        (problem,) = read(tmp_path, text)
    assert clauses(problem) == [[([0, 1, 0], 0.0)]]
    assert "X_0 is at least 2.0 and at most 1.0" in caplog.text
    assert read(tmp_path, text + "(assert (>= X_1 1))") == []
    assert read(tmp_path, declared() + BOX + "(assert (<= 1 0))") == []


def test_layout_comments_and_other_commands_do_not_matter(tmp_path: Path) -> None:
    text = (
        "; (assert (\n(set-logic QF_LRA)\n"
        + declared()
        + BOX
        + "(assert\r\n\t(<= Y_0 ; here (\n Y_1)\n)(check-sat)"
    )
    (problem,) = read(tmp_path, text)
    assert clauses(problem) == [[([1, -1, 0], 0.0)]]


def test_a_long_file_is_read_to_its_end_however_it_begins(tmp_path: Path) -> None:
    # The first 64 KiB alone would say that every output is a violation.
    text = "(; a comment\n" + declared()[1:] + BOX + " " * (1 << 17) + "(assert (<= Y_0 Y_1))"
    (problem,) = read(tmp_path, text)
    assert clauses(problem) == [[([1, -1, 0], 0.0)]]


def test_gzip_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "p.vnnlib"
    file.write_bytes(gzip.compress((declared() + BOX + "(assert (<= Y_0 0))").encode()))
    assert len(vnnlib.read(file, inputs=2, outputs=3, shape=(2,))) == 1


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("(assert (<= Y_0 X_0))", 3, "mixes inputs and outputs"),
        ("\n(assert (<= Y_0 (+ Y_1 X_0)))", 4, "mixes inputs and outputs"),
        ("(assert (<= (* Y_0 Y_1) 0))", 3, "product of two variables"),
        ("(assert (< Y_0 0))", 3, "relation <"),
        ("(assert (or (<= Y_0 0)\n(> Y_0 0)))", 4, "relation >"),
        ("(assert (<= (+ X_0 X_1) 1))", 3, "bound on one input"),
        ("(assert (<= (* 2 X_0) 1))", 3, "bound on one input"),
        ("(assert (<= X_0 X_1))", 3, "bound on one input"),
        ("(assert (<= Y_0 Z))", 3, "Z is neither a declared variable nor a finite number"),
        ("(assert (<= Y_0 Y_3))", 3, "Y_3 is not declared"),
        ("(assert (<= Y_0 nan))", 3, "nan is neither"),
        ("(assert (<= Y_0 1e999))", 3, "1e999 is neither"),
        ("(assert (<= Y_0 1_0))", 3, "1_0 is neither"),
        ("(assert (<= Y_0 (/ 1 2)))", 3, "operator /"),
        ("(assert (not (<= Y_0 1)))", 3, "operator not"),
        ("(assert (and))", 3, "(and) without arguments"),
        ("(assert (<= Y_0 (+)))", 3, "(+) without arguments"),
        ("(assert (<= Y_0))", 3, "found ')' in place of a variable"),
        ("(assert (<= Y_0 0 1))", 3, "found '1' in place of ')'"),
        ("(assert true)", 3, "found 'true' in place of a formula"),
        ("(assert (<= Y_0 0)\n(assert (<= Y_1 0))", 4, "found '(' in place of ')'"),
        ("(assert (<= Y_0 0)", 3, "a parenthesis is not closed"),
        ("(assert (or (<= Y_0 0)\n\n", 3, "a parenthesis is not closed"),
        ("(assert (<= Y_0 0)))", 3, "closing parenthesis without"),
        ("(set-info (a)", 3, "the file ends"),
        ("assert", 3, "found 'assert' in place of '('"),
        ("(declare-fun Y_0 () Real)", 3, "declare-fun"),
        ("(declare-const Y_0 Real)", 3, "Y_0 is declared twice"),
        ("(declare-const Y_3 Real)", 3, "the model has 3 outputs"),
        ("(declare-const X_2 Real)", 3, "the model has 2 inputs"),
        ("(declare-const Z_0 Real)", 3, "Z_0 is neither an input"),
        ("(declare-const X_00 Real)", 3, "X_00 is neither an input"),
        ("(declare-const X_1 Int)", 3, "X_1 is Int"),
        ("(assert " + "(and " * 5000 + "(<= Y_0 0)" + ")" * 5001, 3, "nested more than"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, declared() + BOX + text)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path / 'p.vnnlib'}, line {line}: ") and message in said, said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (declared() + "(assert (<= X_0 1))", "X_0 (and 1 others) has no lower bound"),
        (declared() + BOX.replace("(assert (<= X_1 0.3))", ""), "X_1 has no upper bound"),
        (declared(1) + BOX, "X_1 is not declared"),
        (declared(2, 2) + BOX, "declares 2 outputs, but the model has 3"),
        ("", "declares 0 inputs"),
        (declared() + BOX + "(assert (or (<= Y_0 0) (<= Y_1 0)))" * 17, "131072 disjuncts"),
    ],
)
def test_a_file_that_lacks_or_asks_too_much_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"p\.vnnlib") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)


def test_disjuncts_are_counted_before_they_are_made() -> None:
    # Their four thousand million pairs would not fit into memory.
    many = [vnnlib_logic.Disjunct()] * 2**16
    with pytest.raises(vnnlib_logic.RefusedError, match="disjuncts"):
        vnnlib_logic.all_of([many, many])


@pytest.mark.parametrize(
    ("data", "message"),
    [(None, "no such property file"), (b"\x1f\x8b\x08broken", "gzip"), (b"\xff\xfe\x00", "no text file")],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "p").write_bytes(data)
    with pytest.raises(InputError, match=message):
        vnnlib.read(tmp_path / "p", inputs=2, outputs=3, shape=(2,))


def test_an_image_sized_file_is_read(tmp_path: Path) -> None:
    text = declared(3072, 10).replace(") (", ")\n(")
    text += "".join(f"(assert (<= X_{k} 0.{k:04}))\n(assert (>= X_{k} 0.0))\n\n" for k in range(3072))
    text += "(assert (or" + "".join(f"\n (and (>= Y_{k} Y_0))" for k in range(1, 10)) + "))"
    (tmp_path / "p").write_text(text)
    (found,) = vnnlib.read(tmp_path / "p", inputs=3072, outputs=10, shape=(3072,))
    upper = torch.tensor([float(f"0.{k:04}") for k in range(3072)], dtype=torch.float64)
    assert not found.box.lower.any() and found.box.upper.flatten().equal(upper)
    assert len(clauses(found)) == 9


def test_version_two_gives_the_same_problem(tmp_path: Path) -> None:
    one = "(assert (or (and (<= Y_1 Y_0) (>= (+ Y_2 (* 2.0 Y_1)) 0.5)) (>= 3.0 (- Y_0 Y_1 1.5)) (= Y_2 0.1)))"
    two = "(assert (or (and (<= Y[0,1] Y[0,0]) (>= (+ Y[0,2] (* 2.0 Y[0,1])) 0.5))"
    two += " (>= 3.0 (- Y[0,0] Y[0,1] 1.5)) (== Y[0,2] 0.1)))"
    (old,), (new,) = read(tmp_path, declared() + BOX + one), read(tmp_path, TWO + BOX_TWO + two)
    assert clauses(old) == clauses(new)
    assert old.box.lower.equal(new.box.lower) and old.box.upper.equal(new.box.upper)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWO + BOX_TWO + "(assert (< Y[0,0] 1.0))", "line 7: the relation <"),
        (TWO + BOX_TWO + "(assert (!= Y[0,0] 1.0))", "line 7: the relation !="),
        (TWO + BOX_TWO + "(assert (<= X[0,0] Y[0,0]))", "line 7: a comparison that mixes"),
        (TWO + BOX_TWO + "\n(assert (<= (* Y[0,1] Y[0,0]) 1.0))", "line 8: a product of two variables"),
        (TWO + BOX_TWO + "(assert (<= Y[0,3] 1.0))", "line 7: Index out of bounds"),
        (TWO + BOX_TWO + "(assert (<= Y[0,0] 1.0)", "syntax error"),
        (TWO.replace("[1,2]", "[1,3]") + BOX_TWO, "input X is [1, 3], but the model has 2 inputs"),
        (TWO.replace("real", "int8") + "(assert (<= X[0,0] 1))", "must be real or float32"),
        (TWO + "(assert (<= X[0,1] 1.0))", "no lower bound"),
        (
            TWO.replace(" (declare-output", " (declare-input Z real [1,2])\n (declare-output") + BOX_TWO,
            "has 2 inputs; it must have one",
        ),
        (
            TWO + SECOND + BOX_TWO,
            "2 networks",
        ),
    ],
)
def test_what_version_two_asks_beyond_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=r"p\.vnnlib") as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@dataclass(frozen=True)
class Formula:
    """A formula as text, and what it says of the numbers X_0, X_1, Y_0, Y_1."""

    text: str
    holds: Callable[[Sequence[float]], bool]


RELATIONS = {"<=": operator.le, ">=": operator.ge}


@st.composite
def atoms(draw: st.DrawFn) -> Formula:
    k, a, b = draw(st.integers(0, 1)), draw(st.integers(-2, 2)), draw(st.integers(0, 1))
    value, sign = draw(st.integers(-2, 2)), draw(st.sampled_from(["<=", ">="]))
    holds = RELATIONS[sign]
    if draw(st.booleans()):
        return Formula(f"({sign} X_{k} {value})", lambda v: holds(v[k], value))
    term = f"(+ (* {a} Y_{k}) (- Y_{b}) 1)"
    return Formula(f"({sign} {term} {value})", lambda v: holds(a * v[2 + k] - v[2 + b] + 1, value))


@st.composite
def formulas(draw: st.DrawFn, depth: int = 2) -> Formula:
    if depth == 0 or draw(st.booleans()):
        return draw(atoms())
    name, quantifier = draw(st.sampled_from([("and", all), ("or", any)]))
    parts = draw(st.lists(formulas(depth - 1), min_size=1, max_size=3))
    text = f"({name} {' '.join(part.text for part in parts)})"
    return Formula(text, lambda v: quantifier(part.holds(v) for part in parts))


@given(st.lists(formulas(), min_size=1, max_size=3))
@settings(derandomize=True, max_examples=60)
def test_a_point_violates_the_problems_where_the_file_holds(
    tmp_path_factory: pytest.TempPathFactory, assertions: list[Formula]
) -> None:
    box = "".join(f"(assert (<= X_{k} 2))(assert (>= X_{k} -2))" for k in range(2))
    text = declared(2, 2) + box + "".join(f"(assert {part.text})\n" for part in assertions)
    problems = read(tmp_path_factory.mktemp("law"), text, outputs=2)
    for values in itertools.product((-2.0, 0.0, 1.0), (-1.0, 2.0), (-1.0, 0.0, 1.5), (0.0, 1.0)):
        x, y = torch.tensor([values], dtype=torch.float64).split(2, dim=1)
        inside = [p for p in problems if bool(p.box.contains(x))]
        found = any(float(p.margin.worst(y)) <= 0 for p in inside)
        assert found == all(part.holds(values) for part in assertions)
