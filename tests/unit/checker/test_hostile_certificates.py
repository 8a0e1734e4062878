"""Certificates that were made to mislead: each is refused, at once and in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from certiprune import checker
from certiprune.checker import Certificate, Forms, Graph, Refused, Tree
from certiprune.checker.__main__ import Wanted, main, number, read_images, verdict
from certiprune.checker.certificate import ball, leaf_signs
from certiprune.checker.graph import Affine
from helpers.claims import UNIT

Write = Callable[..., Path]


def shifted(*bias: float) -> Graph:
    """The identity, with a bias."""
    b = np.array(bias)
    return Graph((Affine(0, sp.csr_matrix(np.eye(len(b))), b, abs(b)),), (len(b), len(b)), 1, "")


GRAPH = shifted(10.0, 0.0)
CLAIM = Certificate(0, 0, Fraction(1, 2), UNIT, "", np.array([0.5, 0.5]), (), {})
NONE = np.zeros(0, dtype=int)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(header: dict[str, Any] | None = None, **arrays: np.ndarray) -> Path:
        """A file of the true claim, with some of it replaced."""
        file = tmp_path / "0.npz"
        checker.save(CLAIM, file)
        with np.load(file) as whole:
            kept = dict(whole)
        first = json.loads(str(kept["header"])) | (header or {})
        np.savez(file, **(kept | {"header": np.array(json.dumps(first))} | arrays))
        return file

    return write


def test_the_claim_itself_holds(write: Write) -> None:
    held, line = verdict(write(), GRAPH, Wanted())
    assert held is not None and held.index == 0
    assert "holds: image 0 has label 0 within 0.5" in line


@pytest.mark.parametrize(
    "header",
    [
        {"eps": "1e-99999999"},
        {"eps": "1" * 2000},
        {"eps": 0.5},
        {"eps": True},
        {"eps": "\u0661/2"},
        {"domain": ["0", "1e99999999"]},
        {"domain": [0, 1]},
        {"label": 0.9},
        {"label": False},
        {"index": "0"},
    ],
)
def test_headers_are_taken_literally(header: dict[str, Any], write: Write) -> None:
    held, line = verdict(write(header), GRAPH, Wanted())
    assert held is None and "DOES NOT HOLD" in line


@pytest.mark.parametrize("name", ["\u00b2.1.neuron", "first", "one.2", "tree", "tree.1"])
def test_names_that_say_nothing_are_refused(name: str, write: Write) -> None:
    held, line = verdict(write(**{name: NONE}), GRAPH, Wanted())
    assert held is None and "DOES NOT HOLD" in line


def test_passes_have_any_numbers(write: Write) -> None:
    arrays = {f"{p}.0.{part}": NONE for p in (7, 10**12) for part in ("neuron", "upper")}
    assert len(checker.load(write(**arrays)).passes) == 2


def test_one_class_is_no_claim() -> None:
    claim = replace(CLAIM, image=np.array([0.5]))
    with pytest.raises(Refused, match="no second class"):
        checker.check(claim, shifted(1.0))


@pytest.mark.parametrize(
    "hints",
    [
        {"passes": ({99: Forms(np.array(1), np.array(1), {})},)},
        {"passes": ({-1: Forms(NONE, NONE, {})},)},
        {"trees": {2: Tree(NONE, NONE, np.array([-1]), np.zeros((1000, 0)))}},
        {"trees": {-1: Tree(NONE, NONE, np.array([-1]), np.zeros((1, 0)))}},
    ],
)
def test_hints_about_what_there_is_not_are_refused(hints: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="that there is not"):
        checker.check(replace(CLAIM, **hints), GRAPH)


def test_only_trees_that_were_needed_are_counted() -> None:
    tree = Tree(NONE, NONE, np.array([-1]), np.array(0.0))
    assert checker.check(replace(CLAIM, trees={1: tree}), GRAPH).leaves == 0


@pytest.mark.parametrize(
    "split", [np.array(-1), np.array([[-1]]), np.array([True, False]), np.array([-1.0]), np.array([np.nan])]
)
def test_nodes_that_are_no_list_of_columns_are_refused(split: np.ndarray) -> None:
    with pytest.raises(Refused, match="damaged"):
        leaf_signs(split, 3)


def test_a_tree_of_many_leaves_and_few_parameters_is_not_grown() -> None:
    split = np.concatenate([np.arange(60_000), np.full(60_001, -1)])
    tree = Tree(np.zeros(60_000, dtype=int), np.arange(60_000), split, np.zeros((1, 1)))
    graph = shifted(0.0, 0.0)
    relus = replace(graph, nodes=(*graph.nodes, checker.graph.Relu(1)), sizes=(2, 60_000, 60_000))
    with pytest.raises(Refused, match="60001 leaves"):
        checker.certificate.leaf_margins(relus, [], 0, 1, tree)


def test_numbers_without_a_float_are_bounded() -> None:
    most = Fraction(10) ** 400
    low, high = ball(replace(CLAIM, eps=most, domain=(-most, most)), 2)
    assert (low == -np.inf).all() and (high == np.inf).all()
    with pytest.raises(Refused, match="not proved"):
        checker.check(replace(CLAIM, eps=most, domain=(-most, most)), GRAPH)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.10000000000000000001", "0.10000000000000000001"),
        ("-0.5", "-0.5"),
        ("100000000000000000.5", "100000000000000000.5"),
        ("1" + "0" * 400, "1" + "0" * 400),
    ],
)
def test_a_radius_is_not_rounded_where_it_is_said(text: str, said: str) -> None:
    assert number(Fraction(text)) == said


@pytest.mark.parametrize("labels", [np.array(0), np.array([0, 1]), np.array([[0]])])
def test_images_have_one_label_each(labels: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.zeros((1, 2)), y=labels)
    with pytest.raises(Refused, match="one label"):
        read_images(tmp_path / "images.npz")


def test_a_radius_that_is_no_number_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(tmp_path), "--model", "model.onnx", "--eps", "1/0"])
    assert stop.value.code == 2
    assert "'1/0' is no number" in capsys.readouterr().err
