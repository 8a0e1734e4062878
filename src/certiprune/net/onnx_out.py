"""From a ``Network`` to an ONNX file that any runtime takes, checked against onnxruntime before it is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import InputError, LoweringError, ModelError
from certiprune.net.network import Network
from certiprune.net.onnx_run import compare_with_runtime
from certiprune.net.ops import Add, Conv, Dense, Op, Pad, Permute, Relu, Reshape, Scale, Select, Shape
from certiprune.net.tensor_file import replace_file

OPSET = 17
"""The version of ONNX's operators that files are written in, of 2022: tools that read ONNX know it."""

_IR_VERSION = 8  # the file format that came with it


def write(
    network: Network, path: str | Path, *, input_name: str = "input", output_name: str = "output"
) -> Path:
    """Write ``network`` as an ONNX model with weights in float32 and any batch size, and return the path.

    The file appears at once and whole, after onnx's checker has accepted it and onnxruntime has computed what the
    network computes, up to float32 rounding. ``onnx_in.read`` reads it back.

    Args:
        network: from [n, *input_shape] to [n, outputs].
        path: the file; missing folders are made.
        input_name: what the model calls its input.
        output_name: what the model calls its output.

    Raises:
        InputError: the two names are equal, or the file cannot be written.
        ModelError: the network holds an operation that ONNX has no exact form for.
        LoweringError: onnx or onnxruntime refuses the model, or computes something else.
    """
    import onnx

    if input_name == output_name or not (input_name and output_name):
        raise InputError(f"the input and the output need names of their own, not {input_name!r} twice")
    data = content(network, input_name=input_name, output_name=output_name)
    try:
        onnx.checker.check_model(data, full_check=True)
        compare_with_runtime(network, data)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ModelError) as error:
        raise LoweringError(f"{path} is not written: {error}") from error
    file = Path(path)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, data)
    except OSError as error:
        raise InputError(f"cannot write the ONNX file {path}: {error.strerror or error}") from error
    return file


def content(network: Network, *, input_name: str = "input", output_name: str = "output") -> bytes:
    """What ``write`` makes the content of the file, unchecked.

    Raises:
        ModelError: the network holds an operation that ONNX has no exact form for.
    """
    return bytes(_Writer(network, input_name, output_name).model().SerializeToString())


class _Writer:
    """Collects the nodes and constants of one graph."""

    def __init__(self, network: Network, source: str, target: str):
        self.network, self.source, self.target = network, source, target
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def model(self) -> Any:
        """The whole network as a ``ModelProto``."""
        from onnx import TensorProto, helper

        for value in range(1, self.network.output + 1):
            self._value(value)
        shape: list[str | int | None] = ["batch", *self.network.input_shape]
        graph = helper.make_graph(
            self.nodes,
            "certiprune",
            [helper.make_tensor_value_info(self.source, TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(self.target, TensorProto.FLOAT, ["batch", self.network.outputs])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="certiprune"
        )

    def _name(self, value: int) -> str:
        if value == 0:
            return self.source
        # A name that neither the input nor the output can have.
        return self.target if value == self.network.output else f"{self.source}.{self.target}.{value}"

    def _value(self, value: int) -> None:
        """Write one node of the network: a chain of ONNX nodes that ends in the value's name."""
        node, out = self.network.node(value), self._name(value)
        x, shape = self._name(node.inputs[0]), self.network.shapes[node.inputs[0]]
        if isinstance(node.op, Add):
            for k, other in enumerate(node.inputs[1:], start=2):
                last = k == len(node.inputs)
                x = self._node("Add", [x, self._name(other)], out if last else f"{out}.{k}")
            return
        steps = _steps(node.op, shape, f"{value} ({node.name})")
        for k, (kind, constants, attributes) in enumerate(steps):
            last = k == len(steps) - 1
            names = [self._constant(c, f"{out}.{k}.{j}") for j, c in enumerate(constants)]
            x = self._node(kind, [x, *names], out if last else f"{out}.{k}", **attributes)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"{kind}.{output}", **attributes))
        return output

    def _constant(self, t: Tensor | list[int], name: str) -> str:
        from onnx import numpy_helper

        if isinstance(t, Tensor):
            array = t.detach().cpu().to(torch.float32).contiguous().numpy()
        else:
            array = np.array(t, dtype=np.int64)
        self.constants.append(numpy_helper.from_array(array, name))
        return name


_Step = tuple[
    str, list[Any], dict[str, Any]
]  # an operator, its constants after its first input, its attributes


def _steps(op: Op, shape: Shape, where: str) -> list[_Step]:
    """The ONNX operators for one operation on a value of ``shape``, one after the other."""
    match op:
        case Relu():
            return [("Relu", [], {})]
        case Conv():
            return _convolution(op)
        case Dense():
            return [("Gemm", [op.weight, *([] if op.bias is None else [op.bias])], {"transB": 1})]
        case Scale():
            steps: list[_Step] = [] if bool((op.scale == 1).all()) else [("Mul", [op.scale], {})]
            steps += [] if op.shift is None else [("Add", [op.shift], {})]
            return steps or [("Identity", [], {})]
        case Reshape():
            return [("Reshape", [[0, *op.target]], {})]
        case Permute():
            return [("Transpose", [], {"perm": [0, *(d + 1 for d in op.order)]})]
        case Pad():
            return [("Pad", [_pads(op.amounts, len(shape))], {})]
        case Select():
            return _selection(op, shape, where)
    raise ModelError(f"value {where}: ONNX has no exact form for {type(op).__name__}")


def _convolution(op: Conv) -> list[_Step]:
    attributes = {
        "strides": list(op.stride),
        "pads": [*op.padding, *op.padding],
        "group": op.groups,
        "kernel_shape": list(op.weight.shape[2:]),
    }
    if op.bias is None:
        return [("Conv", [op.weight], attributes)]
    if op.bias.shape[1:] == (1, 1):
        return [("Conv", [op.weight, op.bias.reshape(-1)], attributes)]
    return [("Conv", [op.weight], attributes), ("Add", [op.bias.unsqueeze(0)], {})]


def _pads(amounts: Shape, rank: int) -> list[int]:
    """Torch's order of padding (last dimension first, both sides) in ONNX's (all starts, all ends, batch first)."""
    sides = [(amounts[2 * d], amounts[2 * d + 1]) if 2 * d < len(amounts) else (0, 0) for d in range(rank)]
    return [0, *(start for start, _ in reversed(sides)), 0, *(end for _, end in reversed(sides))]


def _selection(op: Select, shape: Shape, where: str) -> list[_Step]:
    """Picking is a Gather; placing puts one zero behind the entries, and gathers it wherever nothing is placed."""
    axis, index = {"axis": op.dim + 1}, op.index.tolist()
    if op.size is None:
        return [("Gather", [index], axis)]
    if len(set(index)) < len(index):
        raise ModelError(f"value {where}: entries placed on top of each other have no exact form in ONNX")
    behind = [0, 0] * (len(shape) - 1 - op.dim) + [0, 1]
    source = [len(index)] * op.size
    for k, place in enumerate(index):
        source[place] = k
    return [("Pad", [_pads(tuple(behind), len(shape))], {}), ("Gather", [source], axis)]
