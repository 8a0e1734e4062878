"""Whether a module does what its layers say: what a trace cannot see is refused before anything is proved of it.

A comparison on a probe finds most differences, but not one that shows itself only where no probe lies.
"""

from __future__ import annotations

import operator

from torch import fx, nn

from certiprune.core.errors import ModelError
from certiprune.net.trace import Trace, asks_shape, called, leaf

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
_VIEWS = ("view", "reshape", "flatten", "contiguous", "dropout", "getitem", "squeeze", "unsqueeze", "detach")
_VIEW_LAYERS = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout, nn.Dropout2d)


def check_layers(module: nn.Module) -> None:
    """See that nothing has been put into ``module`` beside its layers and its forward.

    A hook is let be that has an attribute ``changes_nothing`` which is true.

    Raises:
        ModelError: a part has a hook that may change its values, or a forward that is not its class's.
    """
    for name, part in module.named_modules():
        called_by = name or type(part).__name__
        hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
        unknown = [hook for hook in hooks if not getattr(hook, "changes_nothing", False)]
        if unknown:
            kind = getattr(unknown[0], "__qualname__", type(unknown[0]).__qualname__)
            raise ModelError(
                f"{called_by}: its hook {kind} may change what it computes; take hooks off (those of "
                "torch.nn.utils.prune by prune.remove, those of weight_norm by remove_weight_norm)"
            )
        if "forward" in vars(part) or (leaf(part) and _changed(part)):
            raise ModelError(
                f"{called_by}: its forward is not that of the layer {_torch_class(part).__name__}"
            )


def check_in_place(trace: Trace) -> None:
    """See that no value is read after it was changed in place: a network's values never change.

    Raises:
        ModelError: one is.
    """
    order = {node: k for k, node in enumerate(trace.graph.nodes)}
    storage: dict[fx.Node, fx.Node] = {}
    changed: dict[fx.Node, fx.Node] = {}  # of each storage, the last step that changed it
    for node in trace.graph.nodes:
        for read in node.all_input_nodes if not asks_shape(node) else ():
            last = changed.get(storage[read])
            if last is not None and order[read] < order[last]:
                raise ModelError(
                    f"{node.name}: reads {read.name}, which {last.name} has changed in place; do that step out of place"
                )
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        in_place = source is not None and _in_place(trace, node)
        same = source is not None and (in_place or _view(trace, node))
        storage[node] = storage[source] if source is not None and same else node
        if in_place:
            changed[storage[node]] = node


def _in_place(trace: Trace, node: fx.Node) -> bool:
    layer = trace.layer(node)
    if layer is not None:
        return bool(getattr(layer, "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = called(node)
    asked = node.kwargs.get("inplace", name == "relu" and len(node.args) > 1 and node.args[1])
    return bool(asked) or node.target in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))


def _view(trace: Trace, node: fx.Node) -> bool:
    """Whether a step may give memory of its first argument."""
    layer = trace.layer(node)
    return isinstance(layer, _VIEW_LAYERS) if layer is not None else called(node) in _VIEWS


def _changed(part: nn.Module) -> bool:
    return type(part).forward is not _torch_class(part).forward


def _torch_class(part: nn.Module) -> type[nn.Module]:
    """The first of a layer's classes that is one of ``torch.nn``'s own layers, else its class."""
    classes = (c for c in type(part).__mro__ if c.__module__.startswith("torch.nn.modules."))
    containers = ("torch.nn.modules.module", "torch.nn.modules.container")
    return next((c for c in classes if c.__module__ not in containers), type(part))
