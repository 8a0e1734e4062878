"""Wrong use ends with status 2 and one line on standard error, and never with a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GOOD: dict[str, Any] = {"x": np.zeros((3, 1, 8, 8), np.float32), "y": np.array([0, 1, 2])}


def test_wrong_options_of_verify(certiprune: Callable[..., Any], model: Path, images: Path) -> None:
    table: list[tuple[tuple[object, ...], str]] = [
        ((), "Missing"),
        (("nothere.onnx", "--images", images, "--eps", "0.1"), "no such model file"),
        ((model, "--images", "nothere.npz", "--eps", "0.1"), "no such file of images"),
        ((model, "--images", images), "give --eps"),
        ((model, "--images", images, "--eps", "x"), "no number"),
        ((model, "--images", images, "--eps", "2"), "input units"),
        ((model, "--images", images, "--eps", "nan"), "must lie in [0, 1]"),
        ((model, "--images", images, "--eps", "-0.1"), "must lie in [0, 1]"),
        ((model, "--images", images, "--eps", "1/0"), "no number"),
        ((model, "--images", images, "--eps", "0.1", "--timeout", "0"), "--timeout"),
        ((model, "--images", images, "--eps", "0.1", "--timeout", "nan"), "--timeout"),
        ((model, "--images", images, "--eps", "0.1", "--timeout", "x"), "--timeout"),
        ((model, "--images", images, "--eps", "0.1", "--nodes", "0"), "node limit"),
        ((model, "--images", images, "--eps", "0.1", "--start", "10"), "--start 10 --end 10"),
        ((model, "--images", images, "--eps", "0.1", "--start", "-1"), "--start -1"),
        ((model, "--images", images, "--eps", "0.1", "--end", "11"), "--end 11"),
        ((model, "--images", images, "--eps", "0.1", "--start", "5", "--end", "5"), "--end 5"),
        ((model, "--images", images, "--eps", "0.1", "--device", "tpu"), "no device called 'tpu'"),
        ((model, "--images", images, "--eps", "0.1", "--device", "meta"), "not supported"),
        ((model, "--images", images, "--eps", "0.1", "--threads", "0"), "--threads 0"),
        ((model, "--images", images, "--eps", "0.1", "--csv", "nofolder/x.csv"), "nofolder/x.csv"),
        ((model, "--images", images, "--epsilon", "0.1"), "No such option"),
        ((images, "--images", images, "--eps", "0.1"), "is no model file"),
    ]
    for arguments, message in table:
        said = certiprune("verify", *arguments)
        assert (said.status, said.out) == (2, ""), arguments
        assert message in said.err and len(said.err.splitlines()) == 1, said.err


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": GOOD["x"]}, "holds x; it must hold x (images) and y (labels)"),
        ({**GOOD, "x": GOOD["x"] + 2}, "outside [0, 1]"),
        ({**GOOD, "x": GOOD["x"] - 0.1}, "image 0 has values outside"),
        ({**GOOD, "x": np.full_like(GOOD["x"], np.nan)}, "not a number"),
        ({**GOOD, "x": np.zeros((3, 1, 8, 8), np.uint8)}, "x is uint8"),
        ({**GOOD, "x": np.zeros((3, 3, 8, 8), np.float32)}, "the model takes [n, 1, 8, 8]"),
        ({**GOOD, "x": np.zeros((3, 64), np.float32)}, "the model takes [n, 1, 8, 8]"),
        ({**GOOD, "x": np.zeros((0, 1, 8, 8), np.float32), "y": np.zeros(0, int)}, "at least one image"),
        ({**GOOD, "x": np.float32(0.5)}, "at least one image"),
        ({**GOOD, "y": np.array([0, 1])}, "a label per image"),
        ({**GOOD, "y": np.array([0.0, 1.0, 2.0])}, "must be int64"),
        ({**GOOD, "y": np.array([0, 1, 10])}, "label 10 of image 2"),
        ({**GOOD, "y": np.array([0, -1, 2])}, "label -1 of image 1"),
        ({**GOOD, "y": np.array(["a", "b", "c"])}, "must be int64"),
        ({**GOOD, "eps": np.array([0.1, 0.1])}, "one number or [3]"),
        ({**GOOD, "eps": np.array([0.1, 2.0, 0.1])}, "epsilon 2.0 (number 1)"),
        ({**GOOD, "eps": np.array([0.1, np.nan, 0.1])}, "epsilon nan (number 1)"),
        ({**GOOD, "eps": np.array("2/255")}, "eps is <U5"),
        ({**GOOD, "x": np.array([None, None, None])}, "no .npz file of plain arrays"),
    ],
)
def test_wrong_images(
    certiprune: Callable[..., Any], model: Path, tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    file = tmp_path / "x.npz"
    np.savez(file, **arrays)
    eps = () if "eps" in arrays else ("--eps", "0.1")
    said = certiprune("verify", model, "--images", file, *eps)
    assert said.status == 2
    assert message in said.err and len(said.err.splitlines()) == 1, said.err


def test_files_that_are_something_else(certiprune: Callable[..., Any], images: Path, tmp_path: Path) -> None:
    for name in ("x.onnx", "x.safetensors", "x.npz", "x.yaml"):
        (tmp_path / name).write_bytes(b"\x00not what the name says\xff" * 9)
    table = [
        ("verify", tmp_path / "x.onnx", "--images", images, "--eps", "0.1"),
        ("verify", tmp_path / "x.safetensors", "--images", images, "--eps", "0.1"),
        ("verify", tmp_path, "--images", images, "--eps", "0.1"),
        ("verify", tmp_path / "x.safetensors", "--images", tmp_path / "x.npz", "--eps", "0.1"),
        ("prune", tmp_path / "x.safetensors", "--amount", "0.5", "--out", tmp_path / "y.safetensors"),
        ("export", tmp_path / "x.safetensors", tmp_path / "y.onnx"),
        ("run", tmp_path / "x.yaml", "--out", tmp_path / "run"),
        ("report", tmp_path),
    ]
    for arguments in table:
        said = certiprune(*arguments)
        assert said.status == 2, arguments
        assert len(said.err.splitlines()) == 1, said.err


def test_wrong_use_of_the_other_commands(certiprune: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    table: list[tuple[tuple[object, ...], str]] = [
        (("verfy",), "verify"),
        (("run",), "Missing"),
        (("run", "nothere.yaml"), "no such experiment file"),
        (("run", "demo", "--threads", "-1", "--out", tmp_path / "r"), "-1 threads are too few"),
        (("train", "demos"), "did you mean demo"),
        (("prune", model, "--amount", "1.5", "--out", out), "amount"),
        (("prune", model, "--amount", "0.5", "--method", "magnitud", "--out", out), "magnitude"),
        (("prune", model, "--amount", "0.5", "--scope", "x", "--out", out), "scope"),
        (("prune", model, "--amount", "0.5", "--out", model), "is the model itself"),
        (("prune", model, "--amount", "0.5", "--out", model.parent), "is the model itself"),
        (("prune", model, "--amount", "0.5", "--option", "batches", "--out", out), "write NAME=VALUE"),
        (("prune", model, "--amount", "0.5", "--option", "a=[", "--out", out), "has no option 'a'"),
        (("prune", model, "--amount", "0.5", "--option", "seed=1", "--out", out), "has no option 'seed'"),
        (("prune", model, "--amount", "0.5", "--option", "model=1", "--out", out), "has no option 'model'"),
        (
            ("prune", model, "--amount", "0.5", "--method", "snip", "--option", "batches=[", "--out", out),
            "must be a whole number, at least 1, not '['",
        ),
        (("prune", "x.onnx", "--amount", "0.5", "--out", out), "cannot be pruned"),
        (("export", model, tmp_path / "x.txt"), "must end in .onnx"),
        (("export", "nothere.safetensors", tmp_path / "x.onnx"), "no such model file"),
        (("report", tmp_path / "nothere"), "no such folder"),
        (("datasets", "digits"), "--npz digits.npz"),
        (("datasets", "digit", "--npz", tmp_path / "x.npz"), "did you mean digits"),
        (("datasets", "digits", "--npz", tmp_path / "x.npz", "--split", "all"), "no split 'all'"),
        (("datasets", "digits", "--npz", tmp_path / "x.npz", "--count", "0"), "--count 0"),
    ]
    for arguments, message in table:
        said = certiprune(*arguments)
        assert (said.status, said.out) == (2, ""), arguments
        assert message in said.err and len(said.err.splitlines()) == 1, said.err
    assert not out.exists()


def test_a_file_in_the_place_of_the_folder(certiprune: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    for folder in (tmp_path / "run", tmp_path / "run" / "below"):
        said = certiprune("run", "demo", "--out", folder)
        assert said.status == 2
        assert "cannot use the folder" in said.err and len(said.err.splitlines()) == 1
    said = certiprune("datasets", "digits", "--npz", tmp_path / "run" / "x.npz")
    assert said.status == 2
    assert len(said.err.splitlines()) == 1
