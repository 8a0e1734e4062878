"""What each ONNX operator becomes in a ``Network``: one function an operator, from a node to a value's number."""

# ruff: noqa: ARG001 (every handler has the same arguments)
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from certiprune.net.ops import Conv, Dense, Permute, Select, Shape

if TYPE_CHECKING:
    from certiprune.net.onnx_in import Reader

Pads = tuple[int, int, int, int]  # top, left, bottom, right, as ONNX orders them


def _arithmetic(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    kind = node.op_type
    left, right = (i in r.values for i in node.input)
    if left and right:
        x, y = r.value(node, 0), r.value(node, 1)
        if kind not in ("Add", "Sub"):
            raise r.fail(node, "of two values that depend on the input is not affine")
        return r.b.add(x, y if kind == "Add" else r.b.scale(y, -1.0, name=name), name=name)
    if kind == "Div" and not left:
        raise r.fail(node, "by a value that depends on the input is not affine")
    x, t = r.value(node, 0 if left else 1), r.weight(node, 1 if left else 0)
    scale: Tensor | float = 1.0
    shift: Tensor | None = None
    match kind:
        case "Add":
            shift = t
        case "Sub":
            scale, shift = (1.0, -t) if left else (-1.0, t)
        case "Mul":
            scale = t
        case "Div":
            scale = 1 / t
    return r.b.scale(x, scale, shift, name=name)


def _conv(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, weight, bias = r.value(node, 0), r.weight(node, 1), r.tensor(node, 2)
    shape, groups = r.b.shapes[x], a.get("group", 1)
    if weight.dim() != 4 or len(shape) != 3:
        raise r.fail(node, "only two-dimensional convolutions are supported")
    if any(d != 1 for d in a.get("dilations", [])):
        raise r.fail(node, "dilation is not supported")
    if weight.shape[1] * groups != shape[0] or weight.shape[0] % groups:
        raise r.fail(node, f"its weight {tuple(weight.shape)} does not fit {shape}")
    kernel, stride = _pair(weight.shape[2:]), _pair(a.get("strides", [1, 1]))
    top, left, bottom, right = _pads(r, node, a, shape, kernel, stride)
    padding = (top, left)
    if padding != (bottom, right):
        x, padding = r.b.pad(x, (left, right, top, bottom), name), (0, 0)
    shift = None if bias is None else bias[:, None, None]
    return r.b.emit(Conv(weight, shift, stride, padding, groups), x, name=name)


def _pads(r: Reader, node: Any, a: dict[str, Any], shape: Shape, kernel: Shape, stride: Shape) -> Pads:
    mode = a.get("auto_pad", "NOTSET")
    if mode == "VALID":
        return (0, 0, 0, 0)
    if mode == "NOTSET":
        top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
        return (top, left, bottom, right)
    # SAME: as many outputs as the stride makes of the input; the odd pixel goes to the side that the mode names.
    total = [
        max(0, (math.ceil(shape[1 + d] / stride[d]) - 1) * stride[d] + kernel[d] - shape[1 + d])
        for d in (0, 1)
    ]
    less, more = [t // 2 for t in total], [t - t // 2 for t in total]
    start, end = (less, more) if mode == "SAME_UPPER" else (more, less)
    return (start[0], start[1], end[0], end[1])


def _gemm(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, weight, bias = r.value(node, 0), r.weight(node, 1), r.tensor(node, 2)
    if a.get("transA", 0):
        raise r.fail(node, "transA is not supported")
    weight = (weight if a.get("transB", 0) else weight.T) * a.get("alpha", 1.0)
    shape = r.b.shapes[x]
    if shape != (weight.shape[1],):
        raise r.fail(node, f"its weight {tuple(weight.shape)} does not fit a value of {shape}")
    if bias is not None:
        if bias.numel() not in (1, weight.shape[0]):
            raise r.fail(node, f"its bias {tuple(bias.shape)} does not fit {weight.shape[0]} outputs")
        bias = (bias * a.get("beta", 1.0)).reshape(-1).expand(weight.shape[0])
    return r.b.emit(Dense(weight.contiguous(), bias), x, name=name)


def _matmul(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    first = node.input[0] in r.values
    if first and node.input[1] in r.values:
        raise r.fail(node, "of two values that depend on the input is not affine")
    x, weight = r.value(node, 0 if first else 1), r.weight(node, 1 if first else 0)
    shape = r.b.shapes[x]
    matrix = weight.T if first and weight.dim() == 2 else weight
    # ``W @ x`` with x a column [k, 1] is the same product with the column flattened.
    column = len(shape) == 2 and shape[1] == 1 and not first
    size = shape[:1] if column else shape
    if weight.dim() != 2 or size != (matrix.shape[1],):
        raise r.fail(node, f"a product of {tuple(weight.shape)} and a value of {shape} is not supported")
    y = r.b.emit(Dense(matrix.contiguous(), None), r.b.flatten(x, name), name=name)
    return r.b.reshape(y, (matrix.shape[0], 1), name) if column else y


def _batch_norm(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    gamma, beta, mean, variance = (r.weight(node, k) for k in range(1, 5))
    if a.get("training_mode", 0):
        raise r.fail(node, "training mode depends on the batch")
    scale = gamma * torch.rsqrt(variance + a.get("epsilon", 1e-5))
    return r.b.batch_norm(x, scale, mean, beta, name)


def _pool(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    shape, size = r.b.shapes[x], a["kernel_shape"]
    if (
        a.get("ceil_mode", 0)
        or any(d != 1 for d in a.get("dilations", []))
        or (len(size), len(shape)) != (2, 3)
    ):
        raise r.fail(node, "only plain two-dimensional pooling is supported")
    kernel, stride = _pair(size), _pair(a.get("strides", [1, 1]))
    top, left, bottom, right = _pads(r, node, a, shape, kernel, stride)
    if (top, left) != (bottom, right):
        raise r.fail(node, "uneven padding is not supported")
    if node.op_type == "MaxPool":
        return r.b.pool_max(x, kernel, stride, (top, left), name)
    return r.b.pool_average(x, kernel, stride, (top, left), name, bool(a.get("count_include_pad", 0)))


def _global_pool(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    return r.b.pool_average(x, r.b.shapes[x][1:], (1, 1), (0, 0), name, True)


def _flatten(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    # Axis 0 makes one row of everything, which is the same for a batch of 1.
    if a.get("axis", 1) % (len(r.b.shapes[x]) + 1) not in (0, 1):
        raise r.fail(node, "only flattening everything but the batch is supported")
    return r.b.flatten(x, name)


def _reshape(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    shape, target = r.b.shapes[x], r.integers(node, 1, a.get("shape", []))
    if len(target) == 1:
        return r.b.flatten(x, name)
    inner = [shape[k] if w == 0 and k < len(shape) else w for k, w in enumerate(target[1:])]
    if not target or target[0] not in (-1, 0, 1) or inner.count(-1) > 1:
        raise r.fail(node, f"a reshape to {target} must keep the batch first")
    known = max(1, math.prod(w for w in inner if w != -1))
    return r.b.reshape(x, tuple(math.prod(shape) // known if w == -1 else w for w in inner), name)


def _transpose(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    order = a.get("perm", list(range(len(r.b.shapes[x]), -1, -1)))
    if order[0] != 0:
        raise r.fail(node, "the batch dimension must stay first")
    inner = tuple(o - 1 for o in order[1:])
    return x if inner == tuple(range(len(inner))) else r.b.emit(Permute(inner), x, name=name)


def _pad(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    given, fill = r.integers(node, 1, a.get("pads", [])), r.tensor(node, 2)
    value = a.get("value", 0.0) if fill is None else float(fill.reshape(-1)[0])
    if a.get("mode", "constant") != "constant" or value != 0:
        raise r.fail(node, "only padding with zeros is supported")
    rank = len(r.b.shapes[x]) + 1
    axes = [axis % rank for axis in r.integers(node, 3, list(range(rank)))]
    if len(given) != 2 * len(axes):
        raise r.fail(node, f"the padding {given} does not fit a value of {r.b.shapes[x]}")
    sides = {axis: (given[k], given[k + len(axes)]) for k, axis in enumerate(axes)}
    if any(sides.get(0, ())):
        raise r.fail(node, "padding the batch is not supported")
    flat = [side for axis in range(rank - 1, 0, -1) for side in sides.get(axis, (0, 0))]
    return r.b.pad(x, tuple(flat), name)


def _concat(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    xs = [r.value(node, k) for k in range(len(node.input))]
    return r.b.concat(xs, _dimension(r, node, a["axis"], xs[0]), name)


def _slice(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    starts, ends = r.integers(node, 1, a.get("starts", [])), r.integers(node, 2, a.get("ends", []))
    axes = r.integers(node, 3, a.get("axes", range(len(starts))))
    steps = r.integers(node, 4, [1] * len(starts))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        d = _dimension(r, node, axis, x)
        taken = range(*slice(start, end, step).indices(r.b.shapes[x][d]))
        x = r.b.emit(Select(d, torch.tensor(taken, dtype=torch.int64)), x, name=name)
    return x


def _gather(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x, index = r.value(node, 0), r.weight(node, 1).long()
    d = _dimension(r, node, a.get("axis", 0), x)
    shape = r.b.shapes[x]
    if index.dim() > 1 or bool((index < -shape[d]).any() | (index >= shape[d]).any()):
        raise r.fail(node, f"indices {tuple(index.shape)} do not fit a value of {shape}")
    y = r.b.emit(Select(d, index.reshape(-1) % shape[d]), x, name=name)
    return y if index.dim() else r.b.reshape(y, shape[:d] + shape[d + 1 :], name)


def _same(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    return r.value(node, 0)


def _relu(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    return r.b.relu(r.value(node, 0), name)


def _squeeze(r: Reader, node: Any, a: dict[str, Any], name: str) -> int:
    x = r.value(node, 0)
    given = r.integers(node, 1, a.get("axes", []))
    shape = list(r.b.shapes[x])
    rank = len(shape) + (1 if node.op_type == "Squeeze" else 1 + len(given))
    axes = sorted(axis % rank for axis in given)
    if not axes or axes[0] == 0:
        raise r.fail(node, "its axes must be given, and the batch dimension must stay first")
    if node.op_type == "Squeeze":
        shape = [s for d, s in enumerate(shape) if d + 1 not in axes]
    else:
        for axis in axes:
            shape.insert(axis - 1, 1)
    return r.b.reshape(x, tuple(shape), name)


def _dimension(r: Reader, node: Any, axis: int, x: int) -> int:
    """An ONNX axis as a dimension of the value without its batch."""
    d = axis % (len(r.b.shapes[x]) + 1) - 1
    if d < 0:
        raise r.fail(node, "along the batch is not supported")
    return d


def _pair(sizes: Any) -> tuple[int, int]:
    return (int(sizes[0]), int(sizes[1]))


HANDLERS: Mapping[str, Callable[[Reader, Any, dict[str, Any], str], int]] = MappingProxyType(
    {
        "Add": _arithmetic,
        "AveragePool": _pool,
        "BatchNormalization": _batch_norm,
        "Concat": _concat,
        "Conv": _conv,
        "Div": _arithmetic,
        "Dropout": _same,
        "Flatten": _flatten,
        "Gather": _gather,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_pool,
        "Identity": _same,
        "MatMul": _matmul,
        "MaxPool": _pool,
        "Mul": _arithmetic,
        "Pad": _pad,
        "Relu": _relu,
        "Reshape": _reshape,
        "Slice": _slice,
        "Squeeze": _squeeze,
        "Sub": _arithmetic,
        "Transpose": _transpose,
        "Unsqueeze": _squeeze,
    }
)
