"""Initial weights, drawn from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialise_(model: nn.Module, generator: torch.Generator) -> None:
    """Draw the weights of every convolution and linear layer anew and reset every BatchNorm, in place.

    Weights and biases are uniform in ``+-1/sqrt(fan in)``, torch's default and what the study starts from.
    The numbers are drawn on the generator's device in the order of ``model.modules()``, so one seed gives the
    same network on every device.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            _uniform_(module.weight, bound, generator)
            if module.bias is not None:
                _uniform_(module.bias, bound, generator)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()


def _uniform_(weight: Tensor, bound: float, generator: torch.Generator) -> None:
    drawn = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    weight.copy_(drawn.uniform_(-bound, bound, generator=generator))
