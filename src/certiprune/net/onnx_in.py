"""From an ONNX file straight into a ``Network``, without running it.

Every operator is checked before anything else happens: what is not supported is named with its node. The result is
compared with onnxruntime on a probe. A fixed batch of 1 in the file does not matter: the network takes any batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from certiprune.core.errors import LoweringError, ModelError
from certiprune.net.build import Builder
from certiprune.net.network import Network
from certiprune.net.ops import Conv, Dense, Permute, Select, Shape

if TYPE_CHECKING:
    import onnx


def read(path: str | Path, *, probe: Tensor | None = None, check: bool = True) -> Network:
    """The network in an ONNX file.

    Args:
        path: the file.
        probe: inputs [n, *shape] to compare on; by default two seeded random ones in [0, 1].
        check: whether to compare with onnxruntime.

    Raises:
        ModelError: no ONNX file, an unsupported operator (named), several inputs or outputs, weights not finite.
        LoweringError: onnxruntime gives other outputs.
    """
    import onnx

    try:
        model = onnx.load(str(path))
    except FileNotFoundError as error:
        raise ModelError(f"no such model file: {path}") from error
    except Exception as error:
        raise ModelError(f"{path} is not a readable ONNX file ({type(error).__name__})") from error
    network = _Reader(model, str(path)).read()
    if check:
        compare_with_runtime(network, path, probe)
    return network


def session(path: str | Path, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_onnx(running: Any, x: Tensor) -> Tensor:
    """Outputs [n, outputs] of an onnxruntime session for inputs [n, *shape], one by one where its batch is 1."""
    entry = running.get_inputs()[0]
    rank = len(entry.shape)
    rows = []
    for item in x.detach().to("cpu", torch.float32).unbind(0):
        fixed = [int(s) if isinstance(s, int) and s > 0 else 1 for s in entry.shape]
        array = item.numpy().reshape(fixed if rank else ())
        rows.append(torch.from_numpy(np.asarray(running.run(None, {entry.name: array})[0])).reshape(-1))
    return torch.stack(rows)


def compare_with_runtime(
    network: Network, path: str | Path, probe: Tensor | None = None, rtol: float = 1e-4
) -> None:
    """Check that ``network`` and onnxruntime agree on a probe, up to float32 rounding.

    Raises:
        LoweringError: they do not.
    """
    if probe is None:
        from certiprune.net.lower import random_probe

        probe = random_probe(network.input_shape)[:2].float()
    given = run_onnx(session(path), probe).double()
    ours = network(probe.to(network.dtype)).double()
    if given.shape != ours.shape:
        raise LoweringError(
            f"{path}: onnxruntime's output has {given.shape[1]} numbers, the network {ours.shape[1]}"
        )
    worst = float((given - ours).abs().max())
    if not worst <= rtol * max(1.0, float(given.abs().max())):
        raise LoweringError(f"{path}: the network and onnxruntime differ by {worst:.3g} on a probe")


class _Reader:
    """Reads one graph into a builder; names map to value numbers or to constants."""

    def __init__(self, model: onnx.ModelProto, path: str):
        import onnx.numpy_helper as helper

        self.helper, self.path, self.graph = helper, path, model.graph
        self.constants: dict[str, np.ndarray] = {t.name: helper.to_array(t) for t in model.graph.initializer}
        self.values: dict[str, int] = {}

    def read(self) -> Network:
        unknown = [
            f"{n.name or n.output[0]} ({n.op_type})" for n in self.graph.node if n.op_type not in _HANDLERS
        ]
        if unknown:
            raise ModelError(f"{self.path}: operators that are not supported: {', '.join(unknown[:5])}")
        inputs = [i for i in self.graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise ModelError(f"{self.path}: a model must have one input and one output")
        dims = [d.dim_value for d in inputs[0].type.tensor_type.shape.dim]
        shape = tuple(dims[1:]) if len(dims) > 1 else tuple(dims)
        if not shape or any(d < 1 for d in shape):
            raise ModelError(f"{self.path}: the input's shape {dims} must be fixed but for the batch")
        self.b = Builder(shape)
        self.values[inputs[0].name] = 0
        for node in self.graph.node:
            self._node(node)
        name = self.graph.output[0].name
        if name not in self.values:
            raise ModelError(f"{self.path}: the output {name} does not depend on the input")
        return self.b.finish(self.values[name])

    def _node(self, node: Any) -> None:
        name = node.name or node.output[0]
        attributes = {a.name: self._attribute(a) for a in node.attribute}
        if node.op_type == "Constant":
            self.constants[node.output[0]] = np.asarray(
                attributes.get("value", next(iter(attributes.values())))
            )
            return
        if all(i in self.constants for i in node.input if i):
            self.constants[node.output[0]] = self._folded(node, attributes, name)
            return
        self.values[node.output[0]] = _HANDLERS[node.op_type](self, node, attributes, name)

    def _attribute(self, a: Any) -> Any:
        import onnx

        value = onnx.helper.get_attribute_value(a)
        if isinstance(value, onnx.TensorProto):
            return self.helper.to_array(value)
        return value.decode() if isinstance(value, bytes) else value

    def _folded(self, node: Any, attributes: dict[str, Any], name: str) -> np.ndarray:
        """An operator whose inputs are all constants, worked out here."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        graph = onnx.helper.make_graph(
            [node], "constant", [], [onnx.helper.make_empty_tensor_value_info(o) for o in node.output],
            [self.helper.from_array(self.constants[i], i) for i in node.input if i],
        )  # fmt: skip
        try:
            return np.asarray(ReferenceEvaluator(onnx.helper.make_model(graph)).run(None, {})[0])
        except Exception as error:
            raise ModelError(
                f"{self.path}: {name} ({node.op_type}) of constants cannot be worked out"
            ) from error

    def fail(self, name: str, node: Any, why: str) -> ModelError:
        return ModelError(f"{self.path}: {name} ({node.op_type}): {why}")

    def value(self, node: Any, k: int, name: str) -> int:
        if k >= len(node.input) or node.input[k] not in self.values:
            raise self.fail(name, node, f"input {k} must depend on the model's input")
        return self.values[node.input[k]]

    def constant(self, node: Any, k: int, name: str) -> np.ndarray | None:
        if k >= len(node.input) or not node.input[k]:
            return None
        if node.input[k] not in self.constants:
            raise self.fail(name, node, f"input {k} must be a constant")
        return self.constants[node.input[k]]

    def tensor(self, node: Any, k: int, name: str) -> Tensor | None:
        array = self.constant(node, k, name)
        return None if array is None else torch.from_numpy(np.array(array, dtype=np.float64))


def _strip(t: Tensor, rank: int) -> Tensor:
    """A constant without leading dimensions of 1 beyond the value's rank (the batch)."""
    while t.dim() > rank and t.shape[0] == 1:
        t = t[0]
    return t


def _arithmetic(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    kind = node.op_type
    left, right = (i in r.values for i in node.input)
    one = torch.ones((), dtype=torch.float64)
    if left and right:
        x, y = r.values[node.input[0]], r.values[node.input[1]]
        if kind not in ("Add", "Sub"):
            raise r.fail(name, node, "of two values that depend on the input is not affine")
        return r.b.add(x, y if kind == "Add" else r.b.scale(y, -1.0, name=name), name=name)
    x = r.values[node.input[0 if left else 1]]
    t = r.tensor(node, 1 if left else 0, name)
    assert t is not None
    t = _strip(t, len(r.b.shapes[x]))
    if kind == "Div" and not left:
        raise r.fail(name, node, "by a value that depends on the input is not affine")
    if left:
        scale, shift = {"Add": (one, t), "Sub": (one, -t), "Mul": (t, None), "Div": (1 / t, None)}[kind]
    else:
        scale, shift = {"Add": (one, t), "Sub": (-one, t), "Mul": (t, None)}[kind]
    return _broadcast(r, x, scale, shift, node, name)


def _broadcast(r: _Reader, x: int, scale: Tensor, shift: Tensor | None, node: Any, name: str) -> int:
    shape = r.b.shapes[x]
    for t in (scale, shift):
        if t is not None and torch.broadcast_shapes(t.shape, shape) != torch.Size(shape):
            raise r.fail(name, node, f"a constant of shape {tuple(t.shape)} would enlarge a value of {shape}")
    return r.b.scale(x, scale, shift, name=name)


def _conv(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, weight, bias = r.value(node, 0, name), r.tensor(node, 1, name), r.tensor(node, 2, name)
    assert weight is not None
    if weight.dim() != 4 or len(r.b.shapes[x]) != 3:
        raise r.fail(name, node, "only two-dimensional convolutions are supported")
    if any(d != 1 for d in a.get("dilations", [])):
        raise r.fail(name, node, "dilation is not supported")
    x, padding = _padding(r, node, a, name, x)
    if weight.shape[1] * a.get("group", 1) != r.b.shapes[x][0]:
        raise r.fail(name, node, f"its weight {tuple(weight.shape)} does not fit {r.b.shapes[x]}")
    stride = tuple(a.get("strides", [1, 1]))
    op = Conv(weight, None if bias is None else bias[:, None, None], stride, padding, a.get("group", 1))  # type: ignore[arg-type]
    return r.b.emit(op, x, name=name)


def _padding(r: _Reader, node: Any, a: dict[str, Any], name: str, x: int) -> tuple[int, tuple[int, int]]:
    if a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise r.fail(name, node, f"auto_pad {a['auto_pad']} is not supported")
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if (top, left) == (bottom, right):
        return x, (top, left)
    return r.b.pad(x, (left, right, top, bottom), name), (0, 0)


def _gemm(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, weight, bias = r.value(node, 0, name), r.tensor(node, 1, name), r.tensor(node, 2, name)
    assert weight is not None
    if a.get("transA", 0):
        raise r.fail(name, node, "transA is not supported")
    weight = (weight.T if not a.get("transB", 0) else weight) * a.get("alpha", 1.0)
    shape = r.b.shapes[x]
    if len(shape) != 1 or shape[0] != weight.shape[1]:
        raise r.fail(name, node, f"its weight {tuple(weight.shape)} does not fit a value of {shape}")
    if bias is not None:
        bias = (bias * a.get("beta", 1.0)).reshape(-1).expand(weight.shape[0])
    return r.b.emit(Dense(weight.contiguous(), bias), x, name=name)


def _matmul(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    right = node.input[0] in r.values
    x, weight = r.value(node, 0 if right else 1, name), r.tensor(node, 1 if right else 0, name)
    assert weight is not None
    shape = r.b.shapes[x]
    matrix = weight.T if right else weight
    # ``W @ x`` with x a column [k, 1] is the same product with the column flattened.
    column = len(shape) == 2 and shape[1] == 1 and not right
    fits = weight.dim() == 2 and (shape == (matrix.shape[1],) or (column and shape[0] == matrix.shape[1]))
    if not fits:
        raise r.fail(
            name, node, f"a product of {tuple(weight.shape)} and a value of {shape} is not supported"
        )
    y = r.b.emit(Dense(matrix.contiguous(), None), r.b.flatten(x, name), name=name)
    return r.b.reshape(y, (matrix.shape[0], 1), name) if column else y


def _batch_norm(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    gamma, beta, mean, var = (r.tensor(node, k, name) for k in range(1, 5))
    assert gamma is not None and beta is not None and mean is not None and var is not None
    if a.get("training_mode", 0):
        raise r.fail(name, node, "training mode depends on the batch")
    scale = gamma * torch.rsqrt(var + a.get("epsilon", 1e-5))
    tail = (-1,) + (1,) * (len(r.b.shapes[x]) - 1)
    return r.b.scale(x, scale.reshape(tail), (beta - mean * scale).reshape(tail), name=name)


def _pool(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    if a.get("ceil_mode", 0) or any(d != 1 for d in a.get("dilations", [])) or len(a["kernel_shape"]) != 2:
        raise r.fail(name, node, "only plain two-dimensional pooling is supported")
    kernel, stride = tuple(a["kernel_shape"]), tuple(a.get("strides", [1, 1]))
    top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right) or a.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise r.fail(name, node, "uneven padding is not supported")
    if node.op_type == "MaxPool":
        return r.b.pool_max(x, kernel, stride, (top, left), name)
    return r.b.pool_average(x, kernel, stride, (top, left), name, bool(a.get("count_include_pad", 0)))


def _global_pool(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    return r.b.pool_average(x, r.b.shapes[x][1:], (1, 1), (0, 0), name, True)


def _flatten(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    if a.get("axis", 1) not in (1, 0):
        raise r.fail(name, node, "only flattening everything but the batch is supported")
    return r.b.flatten(r.value(node, 0, name), name)


def _reshape(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, wanted = r.value(node, 0, name), r.constant(node, 1, name)
    target = [int(w) for w in (wanted if wanted is not None else a.get("shape", []))]
    size = int(np.prod(r.b.shapes[x]))
    if len(target) == 1:
        return r.b.flatten(x, name)
    inner = [r.b.shapes[x][k] if w == 0 and k < len(r.b.shapes[x]) else w for k, w in enumerate(target[1:])]
    if target[0] not in (-1, 0, 1) or inner.count(-1) > 1:
        raise r.fail(name, node, f"a reshape to {target} must keep the batch first")
    known = int(np.prod([w for w in inner if w != -1]))
    return r.b.reshape(x, tuple(size // known if w == -1 else w for w in inner), name)


def _transpose(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    order = a.get("perm", list(range(len(r.b.shapes[x]), -1, -1)))
    if order[0] != 0:
        raise r.fail(name, node, "the batch dimension must stay first")
    inner = tuple(o - 1 for o in order[1:])
    return x if inner == tuple(range(len(inner))) else r.b.emit(Permute(inner), x, name=name)


def _pad(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    pads = r.constant(node, 1, name)
    amounts = [int(p) for p in (pads if pads is not None else a.get("pads", []))]
    fill = r.constant(node, 2, name)
    rank = len(r.b.shapes[x]) + 1
    if a.get("mode", "constant") != "constant" or (
        fill is not None and float(np.asarray(fill).reshape(-1)[0]) != 0
    ):
        raise r.fail(name, node, "only padding with zeros is supported")
    if len(amounts) != 2 * rank or amounts[0] or amounts[rank]:
        raise r.fail(name, node, f"the padding {amounts} does not fit")
    flat = [amounts[d + side * rank] for d in range(rank - 1, 0, -1) for side in (0, 1)]
    return r.b.pad(x, tuple(flat), name)


def _concat(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    xs = [r.value(node, k, name) for k in range(len(node.input))]
    rank = len(r.b.shapes[xs[0]]) + 1
    axis = a["axis"] % rank
    if axis == 0:
        raise r.fail(name, node, "along the batch is not supported")
    return r.b.concat(xs, axis - 1, name)


def _slice(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    starts, ends = (
        r.constant(node, k, name) if len(node.input) > 1 else a[w] for k, w in ((1, "starts"), (2, "ends"))
    )
    axes, steps = r.constant(node, 3, name), r.constant(node, 4, name)
    starts, ends = [int(s) for s in starts], [int(e) for e in ends]  # type: ignore[union-attr]
    over = [int(d) for d in axes] if axes is not None else list(a.get("axes", range(len(starts))))
    for k, axis in enumerate(over):
        shape: Shape = r.b.shapes[x]
        d = axis % (len(shape) + 1) - 1
        every = int(steps[k]) if steps is not None else 1
        if d < 0:
            raise r.fail(name, node, "slicing the batch is not supported")
        index = torch.tensor(
            list(range(*slice(starts[k], ends[k], every).indices(shape[d]))), dtype=torch.int64
        )
        x = r.b.emit(Select(d, index), x, name=name)
    return x


def _same(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    return r.value(node, 0, name)


def _relu(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    return r.b.relu(r.value(node, 0, name), name)


def _squeeze(r: _Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0, name)
    axes = r.constant(node, 1, name)
    over = [int(d) for d in (axes if axes is not None else a.get("axes", []))]
    shape = list(r.b.shapes[x])
    rank = len(shape) + (1 if node.op_type == "Squeeze" else 1 + len(over))
    over = sorted(d % rank for d in over)
    if not over or over[0] == 0:
        raise r.fail(name, node, "the batch dimension must stay first")
    if node.op_type == "Squeeze":
        shape = [s for d, s in enumerate(shape) if d + 1 not in over]
    else:
        for d in over:
            shape.insert(d - 1, 1)
    return r.b.reshape(x, tuple(shape), name)


_HANDLERS = {
    "Add": _arithmetic, "Sub": _arithmetic, "Mul": _arithmetic, "Div": _arithmetic, "Conv": _conv, "Gemm": _gemm,
    "MatMul": _matmul, "Relu": _relu, "BatchNormalization": _batch_norm, "AveragePool": _pool, "MaxPool": _pool,
    "GlobalAveragePool": _global_pool, "Flatten": _flatten, "Reshape": _reshape, "Transpose": _transpose, "Pad": _pad,
    "Concat": _concat, "Slice": _slice, "Constant": _same, "Identity": _same, "Dropout": _same, "Squeeze": _squeeze,
    "Unsqueeze": _squeeze,
}  # fmt: skip
