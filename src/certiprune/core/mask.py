"""Masks as data: which weights of a model are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError


@dataclass(frozen=True)
class Mask(Mapping[str, Tensor]):
    """Which entries of which parameters are kept: parameter name -> boolean tensor of the parameter's shape.

    A parameter that is not named is kept whole and is not open to pruning.
    """

    keep: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.keep.items():
            if tensor.dtype != torch.bool:
                raise InputError(f"the mask of {name} must be boolean, not {tensor.dtype}")
        object.__setattr__(self, "keep", MappingProxyType(dict(self.keep)))

    @staticmethod
    def ones(model: nn.Module, names: list[str]) -> Mask:
        """The mask that keeps everything of the named parameters of ``model``."""
        parameters = dict(model.named_parameters())
        return Mask({name: torch.ones_like(parameters[name], dtype=torch.bool) for name in names})

    def __getitem__(self, name: str) -> Tensor:
        return self.keep[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keep)

    def __len__(self) -> int:
        return len(self.keep)

    @property
    def kept(self) -> int:
        """How many of the prunable weights are kept."""
        return sum(int(tensor.sum()) for tensor in self.keep.values())

    @property
    def total(self) -> int:
        """How many weights were open to pruning."""
        return sum(tensor.numel() for tensor in self.keep.values())

    def nested_in(self, other: Mask) -> bool:
        """Whether everything that this mask keeps is also kept by ``other``."""
        return set(self) == set(other) and all(bool((~self[name] | other[name]).all()) for name in self)

    @torch.no_grad()
    def apply_(self, model: nn.Module) -> None:
        """Set the pruned weights of ``model`` to zero, in place.

        Raises:
            InputError: the mask names a parameter that the model lacks, or has another shape.
        """
        parameters = dict(model.named_parameters())
        for name, tensor in self.keep.items():
            if name not in parameters or parameters[name].shape != tensor.shape:
                raise InputError(f"the mask of {name} {tuple(tensor.shape)} does not fit the model")
            parameters[name].masked_fill_(~tensor.to(parameters[name].device), 0.0)
