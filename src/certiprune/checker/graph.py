"""The network in an ONNX file, as a graph of sparse affine maps and ReLUs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

Array = np.ndarray


class Unsupported(Exception):
    """The model is not one that this program can read."""


@dataclass(frozen=True)
class Affine:
    """``matrix @ x + bias``; ``size`` is how large the terms are that the bias was computed from."""

    x: int
    matrix: sp.csr_matrix
    bias: Array
    size: Array

    @cached_property
    def transposed(self) -> sp.csr_matrix:
        return self.matrix.T.tocsr()

    @cached_property
    def absolute(self) -> sp.csr_matrix:
        return abs(self.matrix)


@dataclass(frozen=True)
class Relu:
    x: int


@dataclass(frozen=True)
class Sum:
    parts: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Value 0 is the input, value k is made by ``nodes[k - 1]``; all values are flat."""

    nodes: tuple[Affine | Relu | Sum, ...]
    sizes: tuple[int, ...]
    output: int
    digest: str

    @cached_property
    def relus(self) -> list[int]:
        """The values made by ReLUs, in the file's order."""
        return [k for k, node in enumerate(self.nodes, start=1) if isinstance(node, Relu)]

    def source(self, number: int) -> int:
        """The value that enters the ReLU of this number."""
        return self.nodes[self.relus[number] - 1].x  # type: ignore[union-attr]


def read_model(path: str | Path) -> Graph:
    """The network in an ONNX file.

    Raises:
        Unsupported: the file cannot be read, or holds an operator that this program does not know.
    """
    import onnx

    try:
        data = Path(path).read_bytes()
        model = onnx.load(str(path))
    except Exception as error:  # protobuf's errors are classes of its own
        raise Unsupported(f"{path} is not a readable ONNX file: {str(error).splitlines()[0]}") from error
    nodes, sizes, output = _Reader(model).read()
    return Graph(nodes, sizes, output, hashlib.sha256(data).hexdigest())


Value = tuple[int, tuple[int, ...]]
"""A value's number, and its shape with a batch of 1 in front."""


class _Reader:
    """Reads a graph; names stand for constants, or for values."""

    def __init__(self, model: Any):
        from onnx import numpy_helper

        self.numpy, self.graph, self.model = numpy_helper.to_array, model.graph, model
        self.constants = {t.name: self.numpy(t) for t in model.graph.initializer}
        self.values: dict[str, Value] = {}
        self.nodes: list[Affine | Relu | Sum] = []
        self.sizes: list[int] = []

    def read(self) -> tuple[tuple[Affine | Relu | Sum, ...], tuple[int, ...], int]:
        versions = [entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")]
        if self.model.functions or not versions or min(versions) < 7:
            raise Unsupported(
                "only files of operator set 7 or newer, without functions of their own, are supported"
            )
        inputs = [i for i in self.graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise Unsupported("a model must have one input and one output")
        shape = tuple(d.dim_value for d in inputs[0].type.tensor_type.shape.dim)
        shape = (1, *shape[1:])
        if len(shape) < 2 or min(shape) < 1:
            raise Unsupported(f"the input's shape {shape} must be known but for the batch")
        self.values[inputs[0].name] = (0, shape)
        self.sizes.append(int(np.prod(shape)))
        for node in self.graph.node:
            self._node(node)
        name = self.graph.output[0].name
        if name not in self.values:
            raise Unsupported("the output does not depend on the input")
        return tuple(self.nodes), tuple(self.sizes), self.values[name][0]

    def _node(self, node: Any) -> None:
        from onnx import TensorProto, helper
        from onnx.reference import ReferenceEvaluator

        where = f"{node.op_type} ({node.name or node.output[0]})"
        if node.domain not in ("", "ai.onnx"):
            raise Unsupported(f"the operator {where} of the domain {node.domain} is not supported")
        given = {x.name: helper.get_attribute_value(x) for x in node.attribute}
        a: dict[str, Any] = {k: self.numpy(v) if isinstance(v, TensorProto) else v for k, v in given.items()}
        names = [i for i in node.input if i]
        if node.op_type == "Constant":
            self.constants[node.output[0]] = np.asarray(next(iter(a.values())))
        elif node.op_type in _FOLDED and all(i in self.constants for i in names):
            feeds = {i: self.constants[i] for i in names}
            typed = [helper.make_tensor_value_info(i, helper.np_dtype_to_tensor_dtype(t.dtype), t.shape)
                     for i, t in feeds.items()]  # fmt: skip
            outs = [helper.make_empty_tensor_value_info(o) for o in node.output]
            graph = helper.make_graph([node], "constant", typed, outs)
            small = helper.make_model(graph, opset_imports=list(self.model.opset_import))
            self.constants[node.output[0]] = np.asarray(
                next(iter(ReferenceEvaluator(small).run(None, feeds)))
            )
        elif node.op_type == "Shape":
            wanted = slice(a.get("start", 0), a.get("end"))
            self.constants[node.output[0]] = np.array(self.values[node.input[0]][1][wanted], dtype=np.int64)
        elif node.op_type not in _HANDLERS:
            raise Unsupported(f"the operator {where} is not supported")
        else:
            try:
                self.values[node.output[0]] = _HANDLERS[node.op_type](self, node, a)
            except (KeyError, ValueError, IndexError, TypeError) as error:
                raise Unsupported(f"{where}: {error}") from error

    def _put(self, node: Affine | Relu | Sum, shape: tuple[int, ...]) -> Value:
        self.nodes.append(node)
        self.sizes.append(int(np.prod(shape)))
        return len(self.nodes), shape

    def _affine(
        self, x: int, matrix: Any, bias: Array | None, shape: tuple[int, ...], size: Array | None = None
    ) -> Value:
        """``matrix @ x + bias`` as a value of ``shape``."""
        matrix = sp.csr_matrix(matrix, dtype=np.float64)
        matrix.eliminate_zeros()
        flat = np.zeros(matrix.shape[0]) if bias is None else np.asarray(bias, np.float64).reshape(-1)
        largest = np.abs(flat) if size is None else size
        if not (np.isfinite(matrix.data).all() and np.isfinite(largest).all()):
            raise Unsupported("a weight is not finite")
        return self._put(Affine(x, matrix, flat, largest), shape)

    def _const(self, node: Any, k: int) -> Array | None:
        """The constant input number ``k`` of a node, in float64; None where there is none."""
        if len(node.input) <= k or not node.input[k]:
            return None
        if node.input[k] not in self.constants:
            raise Unsupported(f"{node.op_type} of two values that depend on the input")
        return np.asarray(self.constants[node.input[k]], np.float64)

    def _conv(self, node: Any, a: dict[str, Any]) -> Value:
        x, (_, channels, *image) = self.values[node.input[0]]
        w, bias = self._const(node, 1), self._const(node, 2)
        assert w is not None
        out, each, *kernel = w.shape
        groups, strides = a.get("group", 1), a.get("strides", [1, 1])
        top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
        plain = a.get("auto_pad", b"NOTSET") == b"NOTSET" and all(d == 1 for d in a.get("dilations", []))
        if len(kernel) != 2 or not plain or each * groups != channels or out % groups:
            raise Unsupported("only plain two-dimensional convolutions are supported")
        index = np.arange(channels * image[0] * image[1]).reshape(channels, *image)
        index = np.pad(index, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
        height, width = ((index.shape[1 + d] - kernel[d]) // strides[d] + 1 for d in (0, 1))
        place = np.arange(height * width)
        rows, cols, data = [], [], []
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                o, c = np.nonzero(w[:, :, i, j])
                seen = index[:, i :: strides[0], j :: strides[1]][:, :height, :width].reshape(channels, -1)
                source = seen[c + o // (out // groups) * each]
                inside = source >= 0
                rows.append((o[:, None] * (height * width) + place)[inside])
                cols.append(source[inside])
                data.append(np.broadcast_to(w[o, c, i, j][:, None], source.shape)[inside])
        shape = (out * height * width, channels * image[0] * image[1])
        matrix = sp.coo_matrix((np.concatenate(data), (np.concatenate(rows), np.concatenate(cols))), shape)
        full = None if bias is None else np.repeat(bias, height * width)
        return self._affine(x, matrix, full, (1, out, height, width))

    def _gemm(self, node: Any, a: dict[str, Any]) -> Value:
        x, shape = self.values[node.input[0]]
        w, bias = self._const(node, 1), self._const(node, 2)
        assert w is not None
        w = (w if a.get("transB", 0) else w.T) * a.get("alpha", 1.0)
        if a.get("transA", 0) or int(np.prod(shape)) != w.shape[1] or shape[-1] != w.shape[1]:
            raise Unsupported("the weight does not fit")
        full = None if bias is None else np.broadcast_to((bias * a.get("beta", 1.0)).reshape(-1), w.shape[:1])
        return self._affine(x, w, full, (1, w.shape[0]))

    def _matmul(self, node: Any, a: dict[str, Any]) -> Value:  # noqa: ARG002
        left = node.input[0] in self.values
        x, shape = self.values[node.input[0 if left else 1]]
        w = self._const(node, 1 if left else 0)
        assert w is not None
        one = np.zeros(shape)
        result = (one @ w if left else w @ one).shape
        if w.ndim != 2 or int(np.prod(shape)) != w.shape[0 if left else 1]:
            raise Unsupported("only a product of a matrix and a vector is supported")
        return self._affine(x, w.T if left else w, None, result)

    def _batch_norm(self, node: Any, a: dict[str, Any]) -> Value:
        x, shape = self.values[node.input[0]]
        gamma, beta, mean, variance = (self._const(node, k) for k in range(1, 5))
        if a.get("training_mode", 0) or gamma is None or beta is None or mean is None or variance is None:
            raise Unsupported("statistics must be constants")
        scale = gamma / np.sqrt(variance + a.get("epsilon", 1e-5))
        each = int(np.prod(shape[2:]))
        parts = (scale, beta - mean * scale, np.abs(beta) + np.abs(mean * scale))
        scale, shift, size = (np.repeat(t, each) for t in parts)
        return self._affine(x, sp.diags(scale), shift, shape, size)

    def _elementwise(self, node: Any, a: dict[str, Any]) -> Value:  # noqa: ARG002
        kind, inside = node.op_type, [i in self.values for i in node.input]
        x, shape = self.values[node.input[0 if inside[0] else 1]]
        if all(inside):
            y, other = self.values[node.input[1]]
            if kind not in ("Add", "Sub") or other != shape:
                raise Unsupported("two values that depend on the input are only added, with one shape")
            if kind == "Sub":
                y, _ = self._affine(y, -sp.identity(self.sizes[y]), None, shape)
            return self._put(Sum((x, y)), shape)
        t = self._const(node, 1 if inside[0] else 0)
        assert t is not None
        shape = np.broadcast_shapes(t.shape, shape)
        flat = np.broadcast_to(t, shape).reshape(-1)
        if len(flat) != self.sizes[x] or (kind == "Div" and not inside[0]):
            raise Unsupported("a constant that makes the value larger, or a division by a value")
        one = np.ones_like(flat)
        scale = {"Mul": flat, "Add": one, "Sub": one if inside[0] else -one}.get(kind)
        scale = 1 / flat if scale is None else scale
        shift = {"Add": flat, "Sub": -flat if inside[0] else flat}.get(kind)
        return self._affine(x, sp.diags(scale), shift, shape)

    def _relu(self, node: Any, a: dict[str, Any]) -> Value:  # noqa: ARG002
        x, shape = self.values[node.input[0]]
        return self._put(Relu(x), shape)

    def _moved(self, node: Any, move: Callable[[Array], Array]) -> Value:
        """What only moves numbers about, puts zeros between them (index -1), or leaves some out."""
        x, shape = self.values[node.input[0]]
        index = move(np.arange(self.sizes[x]).reshape(shape))
        flat = index.reshape(-1)
        if flat.shape == (self.sizes[x],) and bool((flat == np.arange(len(flat))).all()):
            return x, index.shape
        inside = np.nonzero(flat >= 0)[0]
        shape2 = (len(flat), self.sizes[x])
        return self._affine(
            x, sp.coo_matrix((np.ones(len(inside)), (inside, flat[inside])), shape2), None, index.shape
        )

    def _integers(self, node: Any, k: int, given: Any) -> list[int]:
        t = self._const(node, k)
        return [int(v) for v in (given if t is None else t.reshape(-1))]

    def _reshape(self, node: Any, a: dict[str, Any]) -> Value:
        shape, target = self.values[node.input[0]][1], self._integers(node, 1, a.get("shape", []))
        if a.get("allowzero", 0):
            raise Unsupported("a reshape that allows sizes of 0")
        target = [shape[k] if v == 0 else v for k, v in enumerate(target)]
        return self._moved(node, lambda index: index.reshape(target))

    def _flatten(self, node: Any, a: dict[str, Any]) -> Value:
        axis = a.get("axis", 1)
        return self._moved(node, lambda index: index.reshape(int(np.prod(index.shape[:axis])), -1))

    def _squeeze(self, node: Any, a: dict[str, Any]) -> Value:
        axes = tuple(self._integers(node, 1, a.get("axes", [])))
        return self._moved(node, lambda index: np.squeeze(index, axes))

    def _unsqueeze(self, node: Any, a: dict[str, Any]) -> Value:
        axes = tuple(self._integers(node, 1, a.get("axes", [])))
        return self._moved(node, lambda index: np.expand_dims(index, axes))

    def _identity(self, node: Any, a: dict[str, Any]) -> Value:  # noqa: ARG002
        return self.values[node.input[0]]

    def _transpose(self, node: Any, a: dict[str, Any]) -> Value:
        return self._moved(node, lambda index: np.transpose(index, a.get("perm")))

    def _gather(self, node: Any, a: dict[str, Any]) -> Value:
        t = self._const(node, 1)
        assert t is not None
        return self._moved(node, lambda index: np.take(index, t.astype(np.int64), a.get("axis", 0)))

    def _pad(self, node: Any, a: dict[str, Any]) -> Value:
        pads, fill = self._integers(node, 1, a.get("pads", [])), self._const(node, 2)
        value = a.get("value", 0.0) if fill is None else float(fill.reshape(-1)[0])
        sides = list(zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True))
        if a.get("mode", b"constant") != b"constant" or value != 0 or min(pads) < 0 or len(node.input) > 3:
            raise Unsupported("only padding with zeros is supported")
        return self._moved(node, lambda index: np.pad(index, sides, constant_values=-1))


# What is worked out where all inputs are constants, as the file's precision has it.
_FOLDED = frozenset({
    "Add", "Cast", "Concat", "ConstantOfShape", "Div", "Expand", "Flatten", "Gather", "Identity", "Mul", "Neg", "Range",
    "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
})  # fmt: skip
_HANDLERS: dict[str, Callable[[_Reader, Any, dict[str, Any]], Any]] = {
    "Add": _Reader._elementwise,
    "BatchNormalization": _Reader._batch_norm,
    "Conv": _Reader._conv,
    "Div": _Reader._elementwise,
    "Dropout": _Reader._identity,
    "Flatten": _Reader._flatten,
    "Gather": _Reader._gather,
    "Gemm": _Reader._gemm,
    "Identity": _Reader._identity,
    "MatMul": _Reader._matmul,
    "Mul": _Reader._elementwise,
    "Pad": _Reader._pad,
    "Relu": _Reader._relu,
    "Reshape": _Reader._reshape,
    "Squeeze": _Reader._squeeze,
    "Sub": _Reader._elementwise,
    "Transpose": _Reader._transpose,
    "Unsqueeze": _Reader._unsqueeze,
}
