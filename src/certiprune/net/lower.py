"""From a live ``nn.Module`` to a ``Network``: traced once, compared with the module on a probe."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn

from certiprune.core.errors import LoweringError, ModelError
from certiprune.core.mask import Mask
from certiprune.core.rng import generator
from certiprune.net.build import Builder
from certiprune.net.layers import OperationLayer
from certiprune.net.network import Network
from certiprune.net.ops import Conv, Dense, Shape
from certiprune.net.plain import check_in_place, check_layers
from certiprune.net.trace import (
    OVER,
    PASSES,
    POOLS,
    SIGNS,
    TIMES,
    Trace,
    asks_shape,
    attribute,
    called,
    dimensions,
    trace,
)


def lower(
    module: nn.Module,
    *,
    shape: Shape,
    mask: Mask | None = None,
    probe: Tensor | None = None,
    dtype: torch.dtype = torch.float64,
) -> Network:
    """The network that ``module`` computes in evaluation mode.

    Args:
        module: made of convolutions, linear layers, batch norm, ReLU, pooling, flatten and reshape, residual
            sums and scaling by constants, in any nesting that ``torch.fx`` can trace. It is left as it was.
        shape: the input's shape [c, h, w] without the batch.
        mask: weights that count as zero.
        probe: inputs [n, *shape] on which the two are compared; seeded random ones when None.
        dtype: float64 folds exactly enough for proofs and compares on the probe; with float32 (training)
            tensors keep their gradient and nothing is compared.

    Raises:
        ModelError: an unsupported layer, named, weights that are not finite, a model that does not take inputs
            of ``shape``, or one with hooks or steps in place that make it another function (``plain.py``).
        LoweringError: the network and the module disagree on the probe.
    """
    check_layers(module)
    source = module
    if mask is not None:
        source = copy.deepcopy(module)
        mask.apply_(source)
    steps = trace(source)
    check_in_place(steps)
    network = read(steps, shape, dtype)
    if dtype == torch.float64:
        try:
            compare(network, _evaluation(source), probe if probe is not None else random_probe(shape))
        except RuntimeError as error:
            raise ModelError(f"the model cannot be run on inputs of shape {tuple(shape)}: {error}") from error
    return network


Statistics = tuple[Tensor, Tensor]
"""What a BatchNorm layer normalises by: mean, and 1 / sqrt(variance + eps), [c] each."""


def read(
    trace: Trace,
    shape: Shape,
    dtype: torch.dtype,
    statistics: Mapping[nn.Module, Statistics] | None = None,
    *,
    checked: bool = True,
) -> Network:
    """The network of a traced module with the weights that it has now.

    Args:
        shape: the input's shape without the batch.
        dtype: float64 takes copies on the CPU; in float32 tensors keep their gradients.
        statistics: where given, tensors keep their gradients whatever ``dtype`` (the module's own) is, and BatchNorm
            layers normalise by these; by their running statistics where it says nothing of them.
        checked: whether weights are looked through for numbers that are not finite.

    Raises:
        ModelError: an unsupported layer, named, or weights that are not finite (where that is ``checked``).
    """
    return _Reader(trace, shape, dtype, statistics, checked).read()


def random_probe(shape: Shape) -> Tensor:
    """Four seeded random inputs in [0, 1] for comparing two forms of a network."""
    return torch.rand(4, *shape, generator=generator(0, "probe"), dtype=torch.float64)


def compare(
    network: Network, reference: Callable[[Tensor], Tensor], probe: Tensor, rtol: float = 1e-7
) -> None:
    """Check that ``network`` equals ``reference`` on ``probe``, up to rounding.

    Raises:
        LoweringError: they differ by more than ``rtol`` of the largest output.
    """
    with torch.no_grad():
        given = reference(probe.double()).double().flatten(1)
        ours = network(probe.to(network.device, network.dtype)).to(given.device, torch.float64)
    if given.shape != ours.shape:
        shapes = f"{tuple(ours.shape)}, the model's {tuple(given.shape)}"
        raise LoweringError(
            f"the network's output has shape {shapes}; a model must treat its inputs one by one"
        )
    worst = float((given - ours).abs().max())
    if not (math.isfinite(worst) and worst <= rtol * max(1.0, float(given.abs().max()))):
        raise LoweringError(
            f"the network and the model differ by {worst:.3g} on a probe; please report this model"
        )


def _evaluation(module: nn.Module) -> Callable[[Tensor], Tensor]:
    return copy.deepcopy(module).double().cpu().eval()


@dataclass(frozen=True)
class _Value:
    """A traced value: its number in the builder (as against a constant)."""

    number: int


def _holds_value(argument: Any) -> bool:
    return isinstance(argument, _Value) or (isinstance(argument, tuple) and any(map(_holds_value, argument)))


_BATCH = object()  # the size of the batch, which a network does not know


class _Reader:
    """Reads one module's trace into a builder."""

    def __init__(
        self,
        trace: Trace,
        shape: Shape,
        dtype: torch.dtype,
        statistics: Mapping[nn.Module, Statistics] | None,
        checked: bool,
    ):
        self.module, self.graph, self.dtype = trace.module, trace.graph, dtype
        self.statistics = statistics or {}
        self.copies = statistics is None and dtype == torch.float64
        held = chain(self.module.parameters(), self.module.buffers())
        device = next((t.device for t in held if not self.copies), None)
        self.b = Builder(tuple(shape), dtype, device, checked=checked)
        self.values: dict[fx.Node, Any] = {}

    def read(self) -> Network:
        graph = self.graph
        inputs = [node for node in graph.nodes if node.op == "placeholder"]
        if len(inputs) != 1:
            raise ModelError(f"a model must have one input, not {len(inputs)}")
        self.values[inputs[0]] = _Value(0)
        for node in graph.nodes:
            if node.op == "get_attr":
                self.values[node] = self._constant(attribute(self.module, str(node.target)))
            elif node.op == "output":
                out = self._read(node.args[0])
                if not isinstance(out, _Value):
                    raise ModelError("a model must have one output tensor that depends on its input")
                return self.b.finish(out.number)
            elif node.op != "placeholder":
                self.values[node] = self._node(node)
        raise ModelError("the model has no output")

    def _constant(self, t: Tensor) -> Tensor:
        if t.is_meta:
            raise ModelError("the model's weights are on the device meta, without numbers; load them first")
        return t.detach().to("cpu", self.dtype, copy=True) if self.copies else t

    def _read(self, a: Any) -> Any:
        if isinstance(a, fx.Node):
            return self.values[a]
        return tuple(self._read(x) for x in a) if isinstance(a, tuple | list) else a

    def _node(self, node: fx.Node) -> Any:
        args = self._read(node.args)
        kwargs = {k: self._read(v) for k, v in node.kwargs.items()}
        target = node.target
        if not any(_holds_value(a) for a in (*args, *kwargs.values())):
            return self._constants(node, args, kwargs)
        if target in SIGNS and not kwargs:
            return _Value(self._sum(args[0], args[1], SIGNS[target], node.name))
        if (target in TIMES or target in OVER) and not kwargs:
            return _Value(self._product(args[0], args[1], target in OVER, node.name))
        name = called(node)
        if not args or not isinstance(args[0], _Value):
            raise ModelError(f"{node.name}: the operation {name} is not supported in this form")
        x = args[0].number
        if node.op == "call_module":
            return _Value(self._layer(attribute(self.module, str(target)), x, str(target)))
        if asks_shape(node):
            sizes = (_BATCH, *self.b.shapes[x])
            return sizes[args[1]] if name == "size" and len(args) > 1 else sizes
        if name in ("relu", "relu_"):
            return _Value(self.b.relu(x, node.name))
        if name == "flatten" and dimensions(args[1:], kwargs) == (1, -1):
            return _Value(self.b.flatten(x, node.name))
        if name in ("view", "reshape"):
            wanted = args[1] if isinstance(args[1], tuple) else args[1:]
            return _Value(self.b.reshape(x, _resolve(wanted, self.b.shapes[x], node.name), node.name))
        if name == "contiguous" or (name == "dropout" and not kwargs.get("training", True)):
            return args[0]
        if name in POOLS:
            return _Value(self._layer(POOLS[name](*args[1:], **kwargs), x, node.name))
        raise ModelError(f"{node.name}: the operation {name} is not supported in this form")

    def _constants(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        """A step that does not depend on the input's numbers, worked out."""
        if node.op == "call_module" or any(a is _BATCH for a in args):
            raise ModelError(
                f"{node.name}: {called(node)} of constants or of the batch size is not supported"
            )
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _sum(self, a: Any, b: Any, sign: float, name: str) -> int:
        if isinstance(a, _Value) and isinstance(b, _Value):
            second = b.number if sign > 0 else self.b.scale(b.number, -1.0, name=name)
            return self.b.add(a.number, second, name=name)
        if isinstance(a, _Value):
            return self.b.scale(a.number, 1.0, sign * self._number(b), name=name)
        return self.b.scale(b.number, sign, self._number(a), name=name)

    def _product(self, a: Any, b: Any, divide: bool, name: str) -> int:
        if isinstance(a, _Value) == isinstance(b, _Value) or (divide and not isinstance(a, _Value)):
            raise ModelError(
                f"{name}: a product or quotient of two values that depend on the input is not affine"
            )
        value, constant = (a, b) if isinstance(a, _Value) else (b, a)
        t = self._number(constant)
        return self.b.scale(value.number, 1 / t if divide else t, name=name)

    def _number(self, constant: Any) -> Tensor:
        return torch.as_tensor(constant, dtype=self.dtype, device=self.b.device)

    def _layer(self, layer: nn.Module, x: int, name: str) -> int:
        match layer:
            case nn.Conv2d():
                return self._conv(layer, x, name)
            case nn.Linear():
                if self.b.shapes[x] != (layer.in_features,):
                    size = f"a linear layer of {layer.in_features} inputs"
                    raise ModelError(f"{name}: {size} does not fit a value of {self.b.shapes[x]}")
                bias = None if layer.bias is None else self._constant(layer.bias)
                return self.b.emit(Dense(self._constant(layer.weight), bias), x, name=name)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                return self._batch_norm(layer, x, name)
            case nn.ReLU():
                return self.b.relu(x, name)
            case nn.Flatten(start_dim=1, end_dim=-1):
                return self.b.flatten(x, name)
            case nn.Unflatten(dim=1) if len(self.b.shapes[x]) == 1:
                return self.b.reshape(x, tuple(layer.unflattened_size), name)
            case nn.ZeroPad1d() | nn.ZeroPad2d() | nn.ZeroPad3d():
                return self.b.pad(x, tuple(layer.padding), name)
            case OperationLayer():
                return self.b.emit(layer.operation(self._constant), x, name=name)
            case nn.AvgPool2d():
                kernel, stride, padding = _pool(layer)
                if layer.ceil_mode or layer.divisor_override:
                    raise ModelError(
                        f"{name}: average pooling with ceil_mode or divisor_override is not supported"
                    )
                return self.b.pool_average(x, kernel, stride, padding, name, layer.count_include_pad)
            case nn.AdaptiveAvgPool2d() if layer.output_size in (1, (1, 1)):
                return self.b.pool_average(x, self.b.shapes[x][1:], (1, 1), (0, 0), name, True)
            case nn.MaxPool2d(ceil_mode=False, dilation=1, return_indices=False):
                return self.b.pool_max(x, *_pool(layer), name)
            case _ if isinstance(layer, PASSES):
                return x
        raise ModelError(f"{name}: the layer {layer} is not supported")

    def _conv(self, layer: nn.Conv2d, x: int, name: str) -> int:
        if _pair(layer.dilation) != (1, 1) or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            raise ModelError(
                f"{name}: the layer {layer} is not supported (dilation, or padding other than zeros)"
            )
        bias = None if layer.bias is None else self._constant(layer.bias)[:, None, None]
        weight = self._constant(layer.weight)
        op = Conv(weight, bias, _pair(layer.stride), _pair(layer.padding), layer.groups)
        shape = self.b.shapes[x]
        if len(shape) != 3 or shape[0] != layer.in_channels:
            raise ModelError(
                f"{name}: a convolution of {layer.in_channels} channels does not fit a value of {shape}"
            )
        return self.b.emit(op, x, name=name)

    def _batch_norm(self, layer: nn.BatchNorm1d | nn.BatchNorm2d, x: int, name: str) -> int:
        if layer.running_mean is None or layer.running_var is None:
            raise ModelError(f"{name}: batch norm without running statistics depends on the batch")
        if layer in self.statistics:
            mean, scale = self.statistics[layer]
        else:
            mean = self._constant(layer.running_mean)
            scale = torch.rsqrt(self._constant(layer.running_var) + layer.eps)
        if layer.weight is not None:
            scale = scale * self._constant(layer.weight)
        bias = None if layer.bias is None else self._constant(layer.bias)
        return self.b.batch_norm(x, scale, mean, bias, name)


def _pair(v: Any) -> tuple[int, int]:
    return (int(v[0]), int(v[1])) if isinstance(v, tuple | list) else (int(v), int(v))


def _pool(layer: nn.AvgPool2d | nn.MaxPool2d) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    kernel = _pair(layer.kernel_size)
    stride = kernel if layer.stride is None else _pair(layer.stride)
    return kernel, stride, _pair(layer.padding)


def _resolve(wanted: tuple[Any, ...], shape: Shape, name: str) -> Shape:
    """The target of a reshape without its batch dimension, with -1 worked out."""
    target = wanted[1:]
    if wanted[:1] not in ((_BATCH,), (-1,)) or _BATCH in target or not target or target.count(-1) > 1:
        raise ModelError(f"{name}: a reshape must keep the batch dimension first")
    known = max(1, math.prod(t for t in target if t != -1))
    return tuple(math.prod(shape) // known if t == -1 else t for t in target)
