"""Initial weights, drawn from an explicit generator.

default:  weights and biases uniform in +-1 / sqrt(fan_in), torch's default and what the study starts from
ibp:      weights normal with mean 0 and standard deviation sqrt(2 pi) / fan_in, biases 0

fan_in is the number of inputs of a neuron. An affine map makes of interval radii r (all alike) fan_in E|w| r, and a
ReLU halves that in the mean. With E|w| = std sqrt(2 / pi) intervals so keep their width from layer to layer for
``ibp``; by ``default`` they grow with sqrt(fan_in). Shi et al., "Fast certified robust training with short warmup",
NeurIPS 2021, section 3.2. (The authors' code leaves the last layer as it is; here every layer is drawn.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from certiprune.core.errors import ModelError, hint


@torch.no_grad()
def initialise_(model: nn.Module, generator: torch.Generator, initial: str = "default") -> None:
    """Draw the weights of every convolution and linear layer anew and reset every BatchNorm, in place.

    The numbers are drawn on the generator's device in the order of ``model.modules()``, so one seed gives the
    same network on every device.

    Raises:
        ModelError: ``initial`` is neither ``default`` nor ``ibp``.
    """
    if initial not in INITIAL:
        raise ModelError(f"there is no initialisation called {initial!r}; {hint(initial, INITIAL)}")
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            INITIAL[initial](module, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _default_(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(layer.weight[0].numel())
    for tensor in (layer.weight, layer.bias):
        if tensor is not None:
            tensor.copy_(_empty(tensor, generator).uniform_(-bound, bound, generator=generator))


def _ibp_(layer: nn.Conv2d | nn.Linear, generator: torch.Generator) -> None:
    deviation = math.sqrt(2.0 * math.pi) / layer.weight[0].numel()
    layer.weight.copy_(_empty(layer.weight, generator).normal_(0.0, deviation, generator=generator))
    if layer.bias is not None:
        layer.bias.zero_()


def _empty(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, device=generator.device)


INITIAL: dict[str, Callable[[nn.Conv2d | nn.Linear, torch.Generator], None]] = {
    "default": _default_,
    "ibp": _ibp_,
}
