"""Which parameters of a model are open to pruning."""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

from certiprune.core.errors import InputError, hint

Layers = Literal["convolutions", "linear", "all"]
"""The layers that pruning may take from; ``convolutions`` are the linear layers of a model that has none."""


def prunable(model: nn.Module, layers: Layers = "convolutions") -> list[str]:
    """The names of the weights of ``layers``, in the order of ``model.named_modules()``.

    The output layer is one of the linear layers: its weights may go, its outputs stay. Biases and BatchNorm are never
    pruned by themselves.

    Raises:
        InputError: ``layers`` is none of ``Layers``.
    """
    wanted = kinds(model, layers)
    named = {id(parameter): name for name, parameter in model.named_parameters()}
    weights = [id(module.weight) for module in model.modules() if isinstance(module, wanted)]
    # A weight that several layers share counts once; one that is computed (a parametrisation) is no parameter.
    return list(dict.fromkeys(named[weight] for weight in weights if weight in named))


def kinds(model: nn.Module, layers: Layers) -> tuple[type[nn.Module], ...]:
    """The kinds of layers that ``layers`` means for ``model``.

    Raises:
        InputError: ``layers`` is none of ``Layers``.
    """
    if layers not in get_args(Layers):
        raise InputError(f"there are no layers called {layers!r}; {hint(layers, get_args(Layers))}")
    if layers == "convolutions":
        return (nn.Conv2d,) if any(isinstance(m, nn.Conv2d) for m in model.modules()) else (nn.Linear,)
    return (nn.Linear,) if layers == "linear" else (nn.Conv2d, nn.Linear)
