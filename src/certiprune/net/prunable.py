"""Which parameters of a model are open to pruning."""

from __future__ import annotations

from torch import nn


def prunable(model: nn.Module) -> list[str]:
    """The names of the convolutions' weights, in the order of ``model.named_modules()``.

    A model without convolutions opens its linear layers' weights instead. Biases and BatchNorm
    are never pruned.
    """
    convolutions = _weights(model, nn.Conv2d)
    return convolutions or _weights(model, nn.Linear)


def _weights(model: nn.Module, kind: type[nn.Module]) -> list[str]:
    modules = model.named_modules()
    return [f"{name}.weight".removeprefix(".") for name, module in modules if isinstance(module, kind)]
