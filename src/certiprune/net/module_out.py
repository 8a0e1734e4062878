"""From a ``Network`` to a plain ``torch.nn`` module: to train on, to use without certiprune's graphs, to save.

A network whose values are read one after the other becomes an ``nn.Sequential``; any other a ``torch.fx.GraphModule``,
whose ``code`` is its forward in Python. Either can be copied, pickled, trained, and read by ``lower`` again.
"""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn

from certiprune.core.errors import ModelError
from certiprune.net.layers import Elementwise, Permute, Pick, Place, PositionBias
from certiprune.net.lower import compare, random_probe
from certiprune.net.network import Network
from certiprune.net.ops import Add, Conv, Dense, Op, Pad, Relu, Reshape, Scale, Select, Shape
from certiprune.net.ops import Permute as PermuteOp


@torch.no_grad()
def module(network: Network, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A module that computes what ``network`` computes, from [n, *input_shape] to [n, outputs].

    Its layers are ``nn.Conv2d``, ``nn.Linear``, ``nn.ReLU``, ``nn.Flatten``, ``nn.Unflatten`` and zero padding, and
    those of ``net.layers`` where torch has none, such as for a convolution's bias of one number per position. They
    carry the names of the network's operations, and weights of their own: training leaves the network as it is.

    Args:
        network: what to compute; how far rounding may have moved its offsets (``slack``) is left behind.
        dtype: of the module's parameters. In the network's own precision ``lower`` of the module is the same function
            again; in float32 it is the network's with rounded weights.

    Raises:
        ModelError: an operation has no layer.
        LoweringError: the module differs from the network on random inputs, by more than rounding in ``dtype``.
    """
    network = network.to(dtype)
    order = network.ancestors(network.output)[1:]
    chain = all(network.node(v).inputs == (before,) for before, v in zip((0, *order), order, strict=False))
    built = _sequential(network, order) if chain else _graph(network, order)
    tolerance = max(1e-9, 1000 * torch.finfo(dtype).eps)
    where = network.device
    compare(network, lambda x: built(x.to(where, dtype)), random_probe(network.input_shape), tolerance)
    return built


class _Names:
    """Names for layers: the network's own where they can be, each once."""

    def __init__(self) -> None:
        self.taken = {"training"}

    def name(self, wanted: str, layer: nn.Module) -> str:
        # A dot separates a layer from its parts; and a layer must not hide what any module has.
        stem = wanted.replace(".", "_") or type(layer).__name__.lower()
        stem = f"{stem}_" if hasattr(nn.Sequential, stem) or hasattr(fx.GraphModule, stem) else stem
        name, k = stem, 1
        while name in self.taken:
            k += 1
            name = f"{stem}_{k}"
        self.taken.add(name)
        return name


def _sequential(network: Network, order: tuple[int, ...]) -> nn.Sequential:
    names = _Names()
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for value in order:
        for layer in _layers(network, value):
            layers[names.name(network.node(value).name, layer)] = layer
    return nn.Sequential(layers)


def _graph(network: Network, order: tuple[int, ...]) -> fx.GraphModule:
    names, root, graph = _Names(), nn.Module(), fx.Graph()
    steps = {0: graph.placeholder("x")}
    for value in order:
        node = network.node(value)
        step, *others = (steps[i] for i in node.inputs)
        if isinstance(node.op, Add):
            for other in others:
                step = graph.call_function(operator.add, (step, other))
        else:
            for layer in _layers(network, value):
                name = names.name(node.name, layer)
                root.add_module(name, layer)
                step = graph.call_module(name, (step,))
        steps[value] = step
    graph.output(steps[network.output])
    return fx.GraphModule(root, graph)


def _layers(network: Network, value: int) -> Iterator[nn.Module]:
    """The layers, one after the other, that make ``value`` of what it reads."""
    node = network.node(value)
    return _steps(node.op, network.shapes[node.inputs[0]], f"value {value} ({node.name})")


def _steps(op: Op, shape: Shape, where: str) -> Iterator[nn.Module]:
    match op:
        case Relu():
            yield nn.ReLU()
        case Conv():
            yield from _convolution(op)
        case Dense():
            out, inputs = op.weight.shape
            yield _filled(nn.Linear(inputs, out, op.bias is not None, device="meta"), op.weight, op.bias)
        case Scale():
            one = bool((op.scale == 1).all())
            shift = None if op.shift is None else _own(op.shift)
            yield (
                nn.Identity()
                if one and shift is None
                else Elementwise(None if one else _own(op.scale), shift)
            )
        case Reshape():
            if len(shape) != 1:
                yield nn.Flatten()
            if len(op.target) != 1:
                yield nn.Unflatten(1, op.target)
        case PermuteOp():
            yield Permute(op.order)
        case Pad() if len(op.amounts) in _PADS:
            yield _PADS[len(op.amounts)](op.amounts)
        case Select(size=None):
            yield Pick(op.dim, op.index.clone())
        case Select(size=int(size)):
            yield Place(op.dim, op.index.clone(), size)
        case _:
            raise ModelError(f"{where}: there is no layer for {op}")


_PADS: dict[int, type[nn.Module]] = {2: nn.ZeroPad1d, 4: nn.ZeroPad2d, 6: nn.ZeroPad3d}


def _convolution(op: Conv) -> Iterator[nn.Module]:
    out, inputs, *kernel = op.weight.shape
    even = op.bias is not None and op.bias.shape[1:] == (1, 1)
    layer = nn.Conv2d(
        inputs * op.groups,
        out,
        (kernel[0], kernel[1]),
        op.stride,
        op.padding,
        groups=op.groups,
        bias=even,
        device="meta",
    )
    yield _filled(layer, op.weight, op.bias.reshape(-1) if op.bias is not None and even else None)
    if op.bias is not None and not even:
        yield PositionBias(_own(op.bias))


def _filled(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """``layer``, which was made without numbers, with these."""
    layer.weight = nn.Parameter(_own(weight))
    layer.bias = None if bias is None else nn.Parameter(_own(bias))
    return layer


def _own(t: Tensor) -> Tensor:
    return t.detach().clone()
