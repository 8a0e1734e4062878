"""Pruned weights that stay zero, whoever trains the model, without another kind of layer or another state dict.

Each layer with pruned weights carries a forward hook that knows which. Before the layer runs it sets them to zero, and
their gradients are zero too, so that an optimiser's step (momentum, weight decay) leaves zeros as they are. The hook is
part of the module: it goes along when the module is copied, pickled or moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn

from certiprune.core.mask import Mask
from certiprune.prune.scores.base import masked_parameters


def hold(model: nn.Module, mask: Mask) -> None:
    """Set the weights that ``mask`` prunes to zero, in place, and keep them there from now on.

    Guaranteed: at every forward pass they are zero; after every backward pass their ``grad`` is zero (for parameters
    that are frozen now or replaced later, since the first forward pass after that). The state dict's names do not
    change, so that a file of it holds the zeros but not which weights they are: call ``hold`` again with the mask after
    loading it into a new model. What ``torch.compile``, ``torch.export`` or a tracer records is the model without the
    hooks, its weights as they are (``settle`` zeroes them); ``torch.func.functional_call`` takes the tensors that it is
    given.

    Args:
        model: any module. A mask that it holds already is replaced.
        mask: what is kept.

    Raises:
        InputError: the mask names a parameter that the model lacks, or has another shape.
    """
    masked_parameters(model, mask)  # raises where the mask does not fit, before anything is changed
    mask.apply_(model)
    release(model)
    by_layer: dict[str, dict[str, Tensor]] = {}
    for name, keep in mask.items():
        layer, _, parameter = name.rpartition(".")
        by_layer.setdefault(layer, {})[parameter] = keep.clone()
    for layer, keeps in by_layer.items():
        module = model.get_submodule(layer)
        holder = _Holder(keeps)
        module.register_forward_pre_hook(holder)
        holder.guard(module)


def mask_of(model: nn.Module) -> Mask | None:
    """Which weights ``model`` keeps, as ``hold`` and ``prune`` left it; None where it was never pruned."""
    found = {
        f"{layer}.{parameter}".removeprefix("."): keep.clone()
        for layer, _, holder in _holders(model)
        for parameter, keep in holder.keeps.items()
    }
    return Mask(found) if found else None


def release(model: nn.Module) -> None:
    """Take the hooks away: the weights stay as they are, and the next training may change all of them."""
    for _, module, holder in list(_holders(model)):
        hooks = module._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook is holder]:
            del hooks[key]
        holder.free()


def settle(model: nn.Module) -> None:
    """Set to zero what ``model`` holds, as its next forward pass will: weights may have been loaded since the last."""
    for _, module, holder in _holders(model):
        holder.guard(module)


def _holders(model: nn.Module) -> Iterator[tuple[str, nn.Module, _Holder]]:
    for name, module in model.named_modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, _Holder):
                yield name, module, hook


class _Holder:
    """The hook of one layer; ``keeps`` is parameter name -> bool tensor."""

    changes_nothing = (
        True  # as ``net.plain`` asks: what it zeroes is zero already wherever ``settle`` was called
    )

    def __init__(self, keeps: dict[str, Tensor]) -> None:
        self.keeps = keeps
        self._guards: dict[str, tuple[ref[nn.Parameter], Any]] = {}

    def __call__(self, module: nn.Module, args: Any) -> None:  # noqa: ARG002
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            self.guard(module)

    def guard(self, module: nn.Module) -> None:
        """Zero what is pruned, and see to its gradients where this was not done for these very parameters."""
        for name in self.keeps:
            parameter = getattr(module, name)
            if not isinstance(parameter, nn.Parameter):
                continue  # someone calls the layer with tensors of their own in the parameters' place
            # Past autograd's count of changes: a graph that still waits for its backward pass saw the same zeros.
            parameter.data.masked_fill_(self._pruned(name, parameter), 0.0)
            known = self._guards.get(name)
            if parameter.requires_grad and (known is None or known[0]() is not parameter):
                self._watch(name, parameter)

    def _watch(self, name: str, parameter: nn.Parameter) -> None:
        """From now on zero the gradients of what is pruned, and no more those of an earlier parameter."""
        if name in self._guards:
            self._guards[name][1].remove()
        handle = parameter.register_post_accumulate_grad_hook(lambda p, name=name: self._silence(name, p))
        self._guards[name] = (ref(parameter), handle)

    def free(self) -> None:
        """Let the gradients go."""
        for _, handle in self._guards.values():
            handle.remove()
        self._guards = {}

    def _silence(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            parameter.grad.masked_fill_(self._pruned(name, parameter), 0.0)

    def _pruned(self, name: str, parameter: Tensor) -> Tensor:
        if self.keeps[name].device != parameter.device:
            self.keeps[name] = self.keeps[name].to(parameter.device)
        return ~self.keeps[name]

    def __getstate__(self) -> dict[str, Any]:
        # Hooks on tensors are not copied. With its parameters a copy has its own from the start, as it must where no
        # layer's hook will run, because ``torch.compile`` runs the layers.
        watched = {
            name: parameter for name, (at, _) in self._guards.items() if (parameter := at()) is not None
        }
        return {"keeps": self.keeps, "watched": watched}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.keeps, self._guards = state["keeps"], {}
        for name, parameter in state["watched"].items():
            self._watch(name, parameter)
