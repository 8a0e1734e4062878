"""Optimisers by name, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError

if TYPE_CHECKING:
    from certiprune.train.plan import Plan

OPTIMIZERS = ("sgd", "adam")


def build(plan: Plan, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser of ``plan`` over every parameter of ``model``, with the plan's first learning rate."""
    parameters = list(model.parameters())
    if plan.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    return torch.optim.SGD(
        parameters, lr=plan.learning_rate, momentum=plan.momentum, weight_decay=plan.weight_decay
    )


def tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Copies, on the CPU, of what ``optimizer`` remembers: ``momentum_buffer.conv1.weight`` and the like."""
    copies = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                copies[f"{key}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
    return copies


def restore_(optimizer: torch.optim.Optimizer, model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    """Give ``optimizer`` what ``tensors`` returned, in place; the stored tensors are copied.

    Raises:
        InputError: they belong to another model.
    """
    position = {name: index for index, (name, _) in enumerate(model.named_parameters())}
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, Tensor]] = {}
    for label, tensor in stored.items():
        key, _, name = label.partition(".")
        if name not in position or (tensor.dim() > 0 and tensor.shape != shapes[name]):
            raise InputError(
                f"the stored optimizer's {label} {tuple(tensor.shape)} fits no parameter of the model"
            )
        state.setdefault(position[name], {})[key] = tensor.clone()
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
