"""Files that are damaged, hostile or about something else: one line, status 2, and before any work."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from certiprune.cli import images as image_files
from certiprune.verify import vnnlib

ONES = np.ones((4, 2), np.float32)
DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "X_2", "X_3", "Y_0", "Y_1"))
BOX = "".join(f"(assert (>= X_{k} 0))(assert (<= X_{k} 1))\n" for k in range(4))
MULTIPLY = [helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply")]


def tensor(shape: list[Any], kind: int = TensorProto.FLOAT, name: str = "x") -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def write(file: Path, nodes: list[Any], *inputs: Any, weight: np.ndarray = ONES, **how: Any) -> Path:
    graph = helper.make_graph(
        nodes, "g", list(inputs), [tensor([1, 2], name="y")], [numpy_helper.from_array(weight, "w")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(file), **how)
    return file


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of any batch, of 4 inputs and 2 outputs that are always equal."""
    return write(tmp_path_factory.mktemp("good") / "good.onnx", MULTIPLY, tensor(["N", 4]))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("four") / "four.npz"
    np.savez(file, x=np.full((2, 4), 0.5, np.float32), y=np.array([0, 1]))
    return file


def cut(file: Path) -> Path:
    write(file, MULTIPLY, tensor([1, 4]))
    file.write_bytes(file.read_bytes()[:-20])
    return file


def outside(file: Path) -> Path:
    """A model whose weights are in a file that is not there."""
    options = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    write(file, MULTIPLY, tensor([1, 4]), weight=np.ones((4, 512), np.float32), **options)
    (file.parent / "w.bin").unlink()
    return file


def cast(file: Path) -> Path:
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=1),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    return write(file, nodes, tensor([1, 4], TensorProto.INT64))


def added(file: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "z"], ["c"]), helper.make_node("MatMul", ["c", "w"], ["y"])]
    return write(file, nodes, tensor([1, 4]), tensor([1, 4], name="z"))


def soft(file: Path) -> Path:
    nodes = [
        helper.make_node("Softmax", ["x"], ["c"], name="soft"),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    return write(file, nodes, tensor([1, 4]))


def junk(file: Path) -> Path:
    file.write_bytes(np.random.default_rng(0).bytes(3 << 20))
    return file


MODELS: list[tuple[Callable[[Path], Path], str]] = [
    (cut, "not a readable ONNX file"),
    (junk, "not a readable ONNX file"),
    (lambda file: write(file, MULTIPLY, tensor(["N", "D"])), "the input x has the shape [N, D]"),
    (lambda file: write(file, MULTIPLY, tensor([None, None])), "the input x has the shape [?, ?]"),
    (lambda file: write(file, MULTIPLY, tensor([7, 4])), "fixed batch of 7"),
    (outside, "w.bin"),
    (cast, "the input x must be a tensor of float32"),
    (added, "2 inputs and 1 outputs"),
    (soft, "soft (Softmax)"),
    (
        lambda file: write(file, MULTIPLY, tensor([1, 4]), weight=ONES * np.nan),
        "multiply: the weight holds NaN",
    ),
    (
        lambda file: write(file, MULTIPLY, tensor([1, 4]), weight=ONES * np.inf),
        "multiply: the weight holds NaN",
    ),
]


@pytest.mark.parametrize(("make", "message"), MODELS)
def test_models(
    certiprune: Callable[..., Any],
    four: Path,
    tmp_path: Path,
    make: Callable[[Path], Path],
    message: str,
) -> None:
    file, prop = make(tmp_path / "m.onnx"), tmp_path / "p.vnnlib"
    said = certiprune("verify", file, "--images", four, "--eps", "0.1", "--csv", tmp_path / "o.csv")
    assert (said.status, said.out) == (2, "")
    assert message in said.err and len(said.err.splitlines()) == 1, said.err
    assert not (tmp_path / "o.csv").exists() and not (tmp_path / "o.csv.run.json").exists()
    prop.write_text(DECLARED + BOX + "(assert (<= Y_0 Y_1))")
    said = certiprune("vnnlib", file, prop, "--result", tmp_path / "result.txt")
    assert (said.status, said.out, (tmp_path / "result.txt").read_text()) == (2, "error\n", "error\n")
    assert message in said.err and len(said.err.splitlines()) == 1, said.err


PROPERTIES: list[tuple[bytes, str]] = [
    ((DECLARED + BOX + "(assert (or))").encode(), "(or) without arguments"),
    ((DECLARED + BOX + "(assert (<= Y_0 nan))").encode(), "nor a finite number"),
    ((DECLARED + BOX + "(assert (<= X_0 1e999))").encode(), "nor a finite number"),
    (DECLARED.replace("X_3", "X_4").encode(), "X_4 is declared, but the model has 4 inputs"),
    ((DECLARED[:-25] + BOX).encode(), "declares 1 outputs, but the model has 2"),
    (b"", "declares 0 inputs"),
    (b"(a b c) " * 500_000, "line 1: the command a is not known"),
    (b"(" * 3_000_000, "line 1: found '('"),
    (b"\n\nword " * 500_000, "line 3: found 'word'"),
    (np.random.default_rng(0).bytes(3 << 20), "is no text file"),
    (gzip.compress(DECLARED.encode())[:40], "damaged gzip file"),
    (gzip.compress(bytes(5 << 20)), "more than 4 MiB of text"),
    (b" " * (5 << 20), "more than 4 MiB of text"),
]


@pytest.mark.parametrize(("content", "message"), PROPERTIES, ids=range(len(PROPERTIES)))
def test_properties(
    certiprune: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    good: Path,
    tmp_path: Path,
    content: bytes,
    message: str,
) -> None:
    monkeypatch.setattr(vnnlib, "_MOST", 4 << 20)
    prop = tmp_path / "p.vnnlib"
    prop.write_bytes(content)
    said = certiprune("vnnlib", good, prop, "--result", tmp_path / "result.txt")
    assert (said.status, said.out, (tmp_path / "result.txt").read_text()) == (2, "error\n", "error\n")
    assert message in said.err and len(said.err.splitlines()) == 1, said.err


@pytest.mark.parametrize("contradiction", ["(assert (>= X_0 2))", "(assert (and (>= X_0 0.6) (<= X_0 0.5)))"])
def test_in_an_empty_box_nothing_is_found(
    certiprune: Callable[..., Any], good: Path, tmp_path: Path, contradiction: str
) -> None:
    (tmp_path / "p.vnnlib").write_text(DECLARED + BOX + contradiction + "(assert (<= Y_0 Y_1))")
    said = certiprune("vnnlib", good, tmp_path / "p.vnnlib")
    assert (said.status, said.out) == (0, "unsat\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "3"), "no amount of memory"),
        (("--threads", "0"), "--threads 0"),
        (("--device", "x"), "no device called 'x'"),
        (("--timeout", "nan"), "--timeout"),
        (("--result", "nofolder/r.txt"), "nofolder/r.txt must be a file in a folder"),
    ],
)
def test_options_of_vnnlib(
    certiprune: Callable[..., Any], good: Path, tmp_path: Path, options: tuple[str, str], message: str
) -> None:
    (tmp_path / "p.vnnlib").write_text(DECLARED + BOX)
    said = certiprune("vnnlib", good, tmp_path / "p.vnnlib", *options)
    assert (said.status, said.out) == (2, "error\n")
    assert message in said.err and len(said.err.splitlines()) == 1, said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--memory", "4"), "'4' is no amount of memory"),
        (("--memory", "101%"), "more memory than all"),
        (("--jobs", "0"), "--jobs 0"),
        (("--jobs", "x"), "--jobs"),
        (("--jobs", "3", "--threads", "2"), "--threads gives 2"),
        (("--fresh",), "--csv FILE"),
        (("--retry-unknown",), "--csv FILE"),
        (("--csv", "."), "is a folder"),
        (("--csv", "nofolder/o.csv"), "there is no folder nofolder"),
    ],
)
def test_options_of_verify(
    certiprune: Callable[..., Any], good: Path, four: Path, options: tuple[str, ...], message: str
) -> None:
    said = certiprune("verify", good, "--images", four, "--eps", "0.1", *options)
    assert (said.status, said.out) == (2, "")
    assert message in said.err and len(said.err.splitlines()) == 1, said.err


def test_any_batch_is_fine(certiprune: Callable[..., Any], good: Path, four: Path) -> None:
    assert certiprune("verify", good, "--images", four, "--eps", "0.1").status == 0


def test_images_that_unpack_to_more_than_there_is(
    certiprune: Callable[..., Any], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((1 << 18, 4), np.float32), y=np.zeros(1 << 18, int))
    with monkeypatch.context() as patch:
        patch.setattr(image_files, "free", lambda: 1 << 20)
        said = certiprune("verify", good, "--images", tmp_path / "x.npz", "--eps", "0.1")
    assert said.status == 2 and "unpacks to 6 MiB" in said.err and len(said.err.splitlines()) == 1
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 4)}
    )
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        for name in ("x", "y"):
            archive.writestr(f"{name}.npy", header.getvalue())
    said = certiprune("verify", good, "--images", tmp_path / "y.npz", "--eps", "0.1")
    assert said.status == 2 and len(said.err.splitlines()) == 1, said.err
