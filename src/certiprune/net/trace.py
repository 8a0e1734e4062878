"""A module's steps in evaluation mode, recorded once by torch.fx, and the words to read them with."""

from __future__ import annotations

import builtins
import copy
import operator
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from certiprune.core.errors import ModelError
from certiprune.net.layers import OperationLayer
from certiprune.net.network import Network

SIGNS = {
    operator.add: 1.0,
    operator.iadd: 1.0,
    torch.add: 1.0,
    operator.sub: -1.0,
    operator.isub: -1.0,
    torch.sub: -1.0,
}
TIMES = (operator.mul, operator.imul, torch.mul)
OVER = (operator.truediv, operator.itruediv, torch.div)
PASSES = (nn.Identity, nn.Dropout, nn.Dropout2d)
POOLS: dict[str, type[nn.Module]] = {
    "avg_pool2d": nn.AvgPool2d,
    "max_pool2d": nn.MaxPool2d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
}

Place = tuple[str, int]
"""The name of a ReLU, and which of the places that have this name, from 0 on: one layer may stand in several."""


@dataclass(frozen=True)
class Trace:
    """What a module does, step by step; ``module`` is a shallow copy, which holds constants that tracing met."""

    module: nn.Module
    graph: fx.Graph

    def layer(self, node: fx.Node) -> nn.Module | None:
        """The layer that a step calls, if it calls one."""
        return attribute(self.module, str(node.target)) if node.op == "call_module" else None

    def needed(self) -> list[fx.Node]:
        """The steps that the output depends on, in order: a network has no others."""
        needed: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            # What is asked for its size alone is not needed itself.
            if node.op == "output" or (node in needed and not asks_shape(node)):
                needed.update(node.all_input_nodes)
        return [node for node in self.graph.nodes if node in needed]

    def rectifies(self, node: fx.Node) -> bool:
        """Whether a step is a ReLU."""
        if node.op == "call_module":
            return isinstance(self.layer(node), nn.ReLU)
        return node.op in ("call_function", "call_method") and called(node) in ("relu", "relu_")

    def relus(self) -> dict[fx.Node, Place]:
        """The ReLU steps that the output depends on, in order, and where a network has them."""
        seen: Counter[str] = Counter()
        found = {}
        for node in filter(self.rectifies, self.needed()):
            name = str(node.target) if node.op == "call_module" else node.name
            found[node] = (name, seen[name])
            seen[name] += 1
        return found


def places(network: Network) -> dict[Place, int]:
    """The ReLU values of a lowered network by their places."""
    seen: Counter[str] = Counter()
    found = {}
    for value in network.relus:
        name = network.node(value).name
        found[name, seen[name]] = value
        seen[name] += 1
    return found


def trace(module: nn.Module) -> Trace:
    """The steps of ``module`` in evaluation mode; its weights are read later, by ``read``.

    Raises:
        ModelError: the module cannot be traced.
    """
    # Tracing writes into the module: into this shallow copy, not into the user's.
    holder = copy.copy(module)
    try:
        with _evaluating(holder):
            return Trace(holder, _Tracer().trace(holder))
    except Exception as error:  # whatever the user's forward raises
        kind, why = type(module).__name__, str(error).split("\n")[0]
        raise ModelError(f"{kind} cannot be traced ({why}); its forward must not depend on values") from error


class _Proxy(fx.Proxy):
    """A value of the trace for which ``x += y`` is a step in place; torch's own makes a sum beside x of it."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)

    def _in_place(self, step: Any, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", step, (self, other), {})


class _Tracer(fx.Tracer):
    """Takes the layers that are one operation as they are, like torch's own."""

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, m: nn.Module, name: str) -> bool:
        return isinstance(m, OperationLayer) or super().is_leaf_module(m, name)


def leaf(module: nn.Module) -> bool:
    """Whether tracing takes ``module`` as one step, by what it is and not by its forward."""
    return _Tracer().is_leaf_module(module, "")


def called(node: fx.Node) -> str:
    """The name of the function, method or layer that a step calls; of another's function with its module's name."""
    target = node.target
    if isinstance(target, str):
        return target
    name = getattr(target, "__name__", str(target))
    own = (getattr(place, name, None) for place in (torch, functional, operator, builtins))
    return name if any(target is known for known in own) else f"{getattr(target, '__module__', '')}.{name}"


def asks_shape(node: fx.Node) -> bool:
    """Whether a step asks how large a value is, and for nothing else."""
    if node.op == "call_method":
        return node.target == "size"
    return node.op == "call_function" and called(node) == "getattr" and node.args[1:] == ("shape",)


def dimensions(args: tuple[int, ...], kwargs: dict[str, int]) -> tuple[int, int]:
    """The first and the last dimension that a call of ``flatten`` makes one."""
    given = dict(zip(("start_dim", "end_dim"), args, strict=False)) | kwargs
    return given.get("start_dim", 0), given.get("end_dim", -1)


def attribute(module: nn.Module, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every part is in its own mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
