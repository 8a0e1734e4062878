"""The checker's reader: what it reads is what onnxruntime computes, and what it does not know it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from certiprune.checker import Graph, Unsupported, read_model
from certiprune.checker.bounds import intervals

Node = onnx.NodeProto
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def write(
    folder: Path,
    nodes: list[Node],
    constants: dict[str, np.ndarray],
    shape: tuple[Any, ...] = (1, 2, 5, 6),
    opset: int = 17,
    **extra: Any,
) -> Path:
    """A model from "x" of ``shape`` to "y"."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(t, name) for name, t in constants.items()],
    )
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("other", 1)]
    file = folder / "model.onnx"
    file.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8, **extra).SerializeToString()
    )
    return file


def outputs(graph: Graph, x: np.ndarray) -> np.ndarray:
    low, high = intervals(graph, x.astype(float).ravel(), x.astype(float).ravel())[graph.output]
    assert (high - low).max() < 1e-9
    return (low + high) / 2


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Node:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


CASES: dict[str, Callable[[], tuple[list[Node], dict[str, np.ndarray]]]] = {
    "uneven pads and strides": lambda: (
        [node("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1])],
        {"w": normal(3, 2, 3, 2), "b": normal(3)},
    ),
    "groups": lambda: ([node("Conv", "x w", group=2, pads=[1, 1, 1, 1])], {"w": normal(4, 1, 3, 3)}),
    "batch norm": lambda: (
        [node("BatchNormalization", "x g b m v", epsilon=1e-3)],
        {"g": normal(2), "b": normal(2), "m": normal(2), "v": np.abs(normal(2))},
    ),
    "flatten and gemm": lambda: (
        [node("Flatten", "x", "f"), node("Gemm", "f w b", alpha=0.5, beta=2.0)],
        {"w": normal(60, 4), "b": normal(1, 4)},
    ),
    "gemm, transposed": lambda: (
        [node("Flatten", "x", "f"), node("Gemm", "f w", transB=1)],
        {"w": normal(4, 60)},
    ),
    "matmul and a bias": lambda: (
        [node("Reshape", "x s", "f"), node("MatMul", "f w", "p"), node("Add", "b p")],
        {"w": normal(60, 4), "b": normal(4), "s": np.array([0, -1])},
    ),
    "normalisation": lambda: (
        [node("Sub", "x m", "c"), node("Div", "c s", "d"), node("Mul", "d s", "e"), node("Sub", "m e")],
        {"m": normal(1, 2, 1, 1), "s": 1 + np.abs(normal(2, 1, 1))},
    ),
    "sums around a relu": lambda: (
        [node("Relu", "x", "r"), node("Add", "x r", "a"), node("Sub", "a r", "s"), node("Add", "s s")],
        {},
    ),
    "moving about": lambda: (
        [
            node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
            node("Gather", "t i", "g", axis=2),
            node("Pad", "g p", "q"),
            node("Squeeze", "q a", "u"),
            node("Unsqueeze", "u a", "v"),
            node("Identity", "v", "w"),
            node("Dropout", "w", "d"),
            node("Flatten", "d", axis=-1),
        ],
        {"i": np.array([0, -1, 2, 2]), "p": np.array([0, 1, 0, 0, 0, 0, 2, 1]), "a": np.array([0])},
    ),
    "constants worked out": lambda: (
        [
            node("Shape", "x", "n"),
            node("Gather", "n i", "first"),
            node("Concat", "first rest", "target", axis=0),
            helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2.0))),
            node("Mul", "two k", "scale"),
            node("Reshape", "x target", "r"),
            node("Mul", "r scale"),
        ],
        {"i": np.array([0]), "rest": np.array([-1]), "k": normal(60)},
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_it_reads_what_onnxruntime_computes(
    case: Callable[[], tuple[list[Node], dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    file = write(tmp_path, *case())
    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    graph = read_model(file)
    for _ in range(3):
        x = normal(1, 2, 5, 6)
        (y,) = session.run(None, {"x": x})
        assert np.allclose(outputs(graph, x), y.ravel(), rtol=1e-4, atol=1e-5)


def test_the_batch_may_have_a_name_or_any_size(tmp_path: Path) -> None:
    for batch in ("batch", 1, 7):
        graph = read_model(write(tmp_path, [node("Relu", "x")], {}, (batch, 3)))
        assert graph.sizes == (3, 3)
        assert graph.relus == [1] and graph.source(0) == 0


REFUSED: dict[str, tuple[list[Node], dict[str, np.ndarray], dict[str, Any]]] = {
    "operator": ([node("Sigmoid", "x")], {}, {}),
    "domain other": ([node("Relu", "x", domain="other")], {}, {}),
    "operator set": ([node("Relu", "x")], {}, {"opset": 6}),
    "padding with zeros": (
        [node("Pad", "x p", mode="reflect")],
        {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])},
        {},
    ),
    "allows sizes of 0": ([node("Reshape", "x s", allowzero=1)], {"s": np.array([1, -1])}, {}),
    "plain two-dimensional": ([node("Conv", "x w", dilations=[2, 2])], {"w": normal(1, 2, 2, 2)}, {}),
    "not finite": ([node("Add", "x b")], {"b": np.array(np.nan, dtype=np.float32)}, {}),
    "two values": ([node("Relu", "x", "r"), node("Mul", "x r")], {}, {}),
    "RandomNormal": ([node("RandomNormal", "", "n", shape=[1, 2, 5, 6]), node("Add", "x n")], {}, {}),
    "BatchNormalization of": (
        [node("BatchNormalization", "x g g x g")],
        {"g": normal(2)},
        {},
    ),
    "makes the value larger": ([node("Add", "x b")], {"b": normal(3, 2, 5, 6)}, {}),
    "must be known": ([node("Relu", "x")], {}, {"shape": (1, "height", 4)}),
    "does not depend": ([node("Relu", "x", "r"), node("Identity", "b")], {"b": normal(3)}, {}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_it_refuses_what_it_does_not_know(words: str, tmp_path: Path) -> None:
    nodes, constants, more = REFUSED[words]
    with pytest.raises(Unsupported, match=words):
        read_model(write(tmp_path, nodes, constants, **more))


def test_it_refuses_functions_of_the_file(tmp_path: Path) -> None:
    function = helper.make_function(
        "other", "Relu", ["x"], ["y"], [node("Neg", "x")], [helper.make_opsetid("", 17)]
    )
    file = write(tmp_path, [node("Relu", "x")], {}, functions=[function])
    with pytest.raises(Unsupported, match="functions"):
        read_model(file)


def test_two_inputs_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path, [node("Relu", "x")], {})
    model = onnx.load(str(file))
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, (1, 3)))
    file.write_bytes(model.SerializeToString())
    with pytest.raises(Unsupported, match="one input"):
        read_model(file)


@pytest.mark.parametrize("content", [None, b"", b"no model", b"\x08\x07\x12\x00"])
def test_a_file_that_is_no_model_is_refused(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Unsupported):
        read_model(file)
