"""ONNX files that are not what they seem, or are damaged: refused in words, before anything is proved of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from certiprune.core.errors import ModelError
from certiprune.net import onnx_in

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def save(path: Path, nodes, *, functions=(), domains=(), change=lambda model: None) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 4))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))],
        [numpy_helper.from_array(WEIGHT, "W")],
    )
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = 8
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def node(kind, inputs, outputs=("y",), **attributes):
    return helper.make_node(kind, list(inputs), list(outputs), **attributes)


def test_a_function_of_the_files_own_is_not_taken_for_the_operator_of_its_name(tmp_path):
    # Its outputs differ from a ReLU's only above 3.9, where no probe lies.
    capped = [
        node("Constant", [], ["top"], value_float=3.9),
        node("Min", ["X", "top"], ["least"]),
        node("Relu", ["least"], ["Y"]),
    ]
    function = helper.make_function("my", "Relu", ["X"], ["Y"], capped, [helper.make_opsetid("", 13)])
    nodes = [node("MatMul", "xW", ["a"]), node("Relu", ["a"], domain="my")]
    path = save(tmp_path / "m.onnx", nodes, functions=[function], domains=["my"])
    with pytest.raises(ModelError, match=r"not supported: y \(my\.Relu\)"):
        onnx_in.read(path)


def test_random_numbers_are_no_constants(tmp_path):
    nodes = [
        node("MatMul", "xW", ["a"]),
        node("RandomNormalLike", ["W"], ["n"], scale=1e-7),
        node("Add", ["a", "n"]),
    ]
    with pytest.raises(ModelError, match="RandomNormalLike"):
        onnx_in.read(save(tmp_path / "m.onnx", nodes))


@pytest.mark.parametrize(
    "strange",
    [
        node("Add", ["x"]),
        node("MatMul", ["x"]),
        node("Concat", ["x", "x"]),
        node("MaxPool", ["x"]),
        node("MatMul", ["x", "W"], []),
    ],
)
def test_a_malformed_node_is_named(tmp_path, strange):
    with pytest.raises(ModelError, match=strange.op_type):
        onnx_in.read(save(tmp_path / "m.onnx", [strange]))


@pytest.mark.parametrize(
    "constant",
    [
        node("Constant", [], ["c"]),
        node("Constant", [], ["c"], value_string="text"),
        node(
            "Constant",
            [],
            ["c"],
            sparse_value=helper.make_sparse_tensor(
                numpy_helper.from_array(np.ones(1, np.float32), "v"),
                numpy_helper.from_array(np.zeros(1, np.int64), "i"),
                [3],
            ),
        ),
    ],
)
def test_a_constant_that_is_no_array_of_numbers_is_refused(tmp_path, constant):
    nodes = [constant, node("MatMul", "xW", ["a"]), node("Add", ["a", "c"])]
    with pytest.raises(ModelError, match="malformed"):
        onnx_in.read(save(tmp_path / "m.onnx", nodes))


@pytest.mark.parametrize("field, value", [("raw_data", b"123"), ("data_type", 0)])
def test_damaged_weights_are_named(tmp_path, field, value):
    def damage(model: onnx.ModelProto) -> None:
        setattr(model.graph.initializer[0], field, value)

    path = save(tmp_path / "m.onnx", [node("MatMul", "xW")], change=damage)
    with pytest.raises(ModelError, match="weight W is damaged"):
        onnx_in.read(path)
