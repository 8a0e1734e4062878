"""Models that say odd things: the checker reads what onnxruntime computes, or refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import AttributeProto, ModelProto, SparseTensorProto, TensorProto, helper, numpy_helper

from certiprune.checker import Unsupported, read_model
from certiprune.checker.bounds import intervals

Arrays = dict[str, np.ndarray]
RNG = np.random.default_rng(1)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), output.split(), **attributes)


def model(
    nodes: list[onnx.NodeProto],
    constants: Arrays | None = None,
    shape: tuple[Any, ...] = (1, 2, 5, 6),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> ModelProto:
    """A model from "x" of ``shape`` to "y"."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(t, name) for name, t in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def number(x: float) -> np.ndarray:
    return np.array(x, dtype=np.float32)


def written(proto: ModelProto, folder: Path) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    return file


READ: dict[str, ModelProto] = {
    "squeezing all, seen in a shape": model(
        [node("Squeeze", "x", "s"), node("Shape", "s", "n"), node("Gather", "n k", "first"),
         node("Cast", "first", "f", to=TensorProto.FLOAT), node("Mul", "x f")],
        {"k": np.array(0)}, (1, 3, 1),
    ),
    "squeezing all, seen in an addition": model(
        [node("Squeeze", "x", "s"), node("Add", "s c")], {"c": normal(2, 1)}, (1, 2, 1, 2)
    ),
    "dropout that says it is not training": model(
        [node("Dropout", "x r t")], {"r": number(0.5), "t": np.array(False)}
    ),
    "the shape of a constant": model(
        [node("Shape", "k", "n"), node("Cast", "n", "f", to=TensorProto.FLOAT), node("Mul", "x f")],
        {"k": normal(3)},
    ),
    "a whole division": model(
        [node("Div", "a b", "q"), node("Cast", "q", "f", to=TensorProto.FLOAT), node("Add", "x f")],
        {"a": np.array([-7]), "b": np.array([2])},
    ),
    "a constant in float32": model(
        [node("Constant", "", "q", value_float=0.1), node("Mul", "q q", "s"), node("Add", "x s")]
    ),
    "pads as an attribute": model([node("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 0, 2])], opset=10),
    "a constant that is an input as well": model([node("Add", "x c")], {"c": normal(2, 1, 1)}),
    "weights in float64": model([node("Mul", "x c")], {"c": np.array(0.1)}, kind=TensorProto.DOUBLE),
}  # fmt: skip
READ["a constant that is an input as well"].graph.input.append(
    helper.make_tensor_value_info("c", TensorProto.FLOAT, (2, 1, 1))
)


@pytest.mark.parametrize("proto", READ.values(), ids=READ.keys())
def test_it_reads_what_onnxruntime_computes(proto: ModelProto, tmp_path: Path) -> None:
    graph = read_model(written(proto, tmp_path))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    entry = proto.graph.input[0].type.tensor_type
    x = normal(*(d.dim_value for d in entry.shape.dim))
    (y,) = session.run(None, {"x": x.astype(helper.tensor_dtype_to_np_dtype(entry.elem_type))})
    flat = x.astype(float).ravel()
    low, high = intervals(graph, flat, flat)[graph.output]
    assert np.allclose((low + high) / 2, y.ravel(), rtol=1e-4, atol=1e-5)


def test_the_default_epsilon_is_a_float32(tmp_path: Path) -> None:
    one, none = np.ones(2, np.float32), np.zeros(2, np.float32)
    graph = read_model(
        written(
            model(
                [node("BatchNormalization", "x g b m v")], {"g": one, "b": none, "m": none, "v": none}, (1, 2)
            ),
            tmp_path,
        )
    )
    low, high = intervals(graph, np.ones(2), np.ones(2))[graph.output]
    exact = 1 / np.sqrt(float(np.float32(1e-5)))
    assert (low <= exact).all() and (exact <= high).all() and (high - low < 1e-9).all()


STATISTICS = {k: np.abs(normal(2)) for k in "gbmv"}
REFUSED: dict[str, ModelProto] = {
    "dropout in training": model([node("Dropout", "x r t")], {"r": number(0.5), "t": np.array(True)}),
    "statistics": model([node("BatchNormalization", "x g b m v", "y a c d e")], STATISTICS, opset=9),
    "one for each channel": model(
        [node("BatchNormalization", "x g b m v", spatial=0)], STATISTICS, (1, 2), opset=7
    ),
    "invalid value": model(
        [node("Cast", "c", "i", to=TensorProto.INT32), node("Cast", "i", "f", to=TensorProto.FLOAT),
         node("Add", "x f")],
        {"c": number(1e10)},
    ),
    "fixed batch": model([node("Relu", "x")], shape=(7, 3)),
    "floating point": model([node("Relu", "x")], kind=TensorProto.INT32),
    "larger than the image": model([node("Conv", "x w", strides=[2, 2])], {"w": normal(1, 2, 8, 9)}),
    "plain two-dimensional": model([node("Conv", "x w", kernel_shape=[3, 3])], {"w": normal(1, 2, 2, 2)}),
    "do not fit": model([node("Conv", "x w b")], {"w": normal(3, 2, 5, 6), "b": normal(1)}),
    "broadcast": model(
        [node("Flatten", "x", "f"), node("Gemm", "f w b")], {"w": normal(60, 3), "b": normal(3, 1)}
    ),
    "weight and of what": model(
        [node("Reshape", "x s", "r"), node("Conv", "r w")],
        {"s": np.array([2, 1, 5, 6]), "w": normal(3, 1, 5, 6)},
    ),
    "a reshape to": model([node("Reshape", "x s")], {"s": np.array([1, -2])}),
    "two pads": model([node("Pad", "x p")], {"p": np.array([0, 1])}),
    "single static": model([node("Relu", "x", "w"), node("Add", "x w")], {"w": number(3)}),
    "more|multiple|static": model([node("Relu", "x", "a"), node("Add", "x x", "a"), node("Relu", "a")]),
    "alpha": model([node("Relu", "x", alpha=0.1)]),
    "ONNX's rules": model([node("Add", "x c")], {"c": np.array([1])}),
    "too small or too large": model(
        [node("Mul", "x c")], {"c": np.array(1e300)}, kind=TensorProto.DOUBLE
    ),
    "value_string": model([node("Constant", "", "q", value_string="a"), node("Add", "x q")]),
    "too many values": model([node("Constant", "", "q", value_float=1.0, value_int=3), node("Add", "x q")]),
    "nothing": model([node("Shape", "nothing", "n"), node("Relu", "x")]),
    "one operator set from": model([node("Relu", "x")], opset=99),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_it_refuses_what_has_another_meaning_or_none(words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=words):
        read_model(written(REFUSED[words], tmp_path))


def _twice(proto: ModelProto) -> None:
    proto.graph.initializer.append(numpy_helper.from_array(number(5), "c"))


def _elsewhere(proto: ModelProto) -> None:
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL


def _torn(proto: ModelProto) -> None:
    proto.graph.initializer[0].raw_data = b"1"


def _sparse(proto: ModelProto) -> None:
    del proto.graph.initializer[:]
    sparse = SparseTensorProto(dims=[6])
    sparse.values.CopyFrom(numpy_helper.from_array(normal(1), "c"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([1]), "i"))
    proto.graph.sparse_initializer.append(sparse)


def _two_sets(proto: ModelProto) -> None:
    proto.opset_import.append(helper.make_opsetid("ai.onnx", 9))


def _untyped(proto: ModelProto) -> None:
    proto.graph.node[0].attribute.append(AttributeProto(name="axis"))


@pytest.mark.parametrize("spoil", [_twice, _elsewhere, _torn, _sparse, _two_sets, _untyped])
def test_it_refuses_files_that_say_two_things_or_nothing(
    spoil: Callable[[ModelProto], None], tmp_path: Path
) -> None:
    proto = model([node("Add", "x c")], {"c": number(3)})
    read_model(written(proto, tmp_path))
    spoil(proto)
    with pytest.raises(Unsupported):
        read_model(written(proto, tmp_path))
