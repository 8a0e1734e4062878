"""Units: the channels and neurons that leave a network together with all of their weights.

A unit of a group is one index along dimension 0 of each of the group's parameters: a filter of a convolution (or a row
of a linear layer) with its bias and the BatchNorm behind it, together with the same index of every layer that a
residual sum adds to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.prune.scores.base import Scores


@dataclass(frozen=True)
class Group:
    """Units that share their numbers.

    Attributes:
        size: how many units.
        weights: the names of the convolutions' and linear layers' weights, each [size, ...].
        others: the names of their biases and of BatchNorm's scales and shifts, each [size].
        scales: those of ``others`` that are BatchNorm's scales.
    """

    size: int
    weights: tuple[str, ...]
    others: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()


@dataclass(frozen=True)
class Groups(Mapping[str, Group]):
    """All units of a model that pruning may remove: name of the group (of its first layer) -> group."""

    groups: Mapping[str, Group]

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))

    def __getitem__(self, name: str) -> Group:
        return self.groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.groups)

    def __len__(self) -> int:
        return len(self.groups)

    def ones(self) -> Mask:
        """The mask of units, group name -> [size] bool, that keeps all."""
        return Mask({name: torch.ones(group.size, dtype=torch.bool) for name, group in self.items()})

    def expand(self, model: nn.Module, units: Mask) -> Mask:
        """The mask of parameters that goes with a mask of units: a pruned unit loses all it has."""
        return self._expand(model, units, [(name, (*g.weights, *g.others)) for name, g in self.items()])

    def weights(self, model: nn.Module, units: Mask) -> Mask:
        """As ``expand``, for the weights of convolutions and linear layers alone."""
        return self._expand(model, units, [(name, g.weights) for name, g in self.items()])

    def units(self, mask: Mask) -> Mask:
        """The mask of units that goes with a mask of parameters: a unit is kept where any of its weights is."""
        found = {}
        for name, group in self.items():
            rows = [mask[w].flatten(1).any(1) for w in group.weights if w in mask]
            found[name] = torch.stack(rows).any(0) if rows else torch.ones(group.size, dtype=torch.bool)
        return Mask(found)

    def sums(self, scores: Scores) -> Scores:
        """Scores of units [size] from scores of weights: the sums over all incoming weights of each."""
        return Scores(
            {
                name: sum(
                    (scores[w].double().flatten(1).sum(1) for w in group.weights),
                    start=torch.zeros(
                        group.size, dtype=torch.float64, device=scores[group.weights[0]].device
                    ),
                )
                for name, group in self.items()
            }
        )

    @staticmethod
    def _expand(model: nn.Module, units: Mask, members: list[tuple[str, tuple[str, ...]]]) -> Mask:
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        found = {}
        for group, names in members:
            for name in names:
                if name not in parameters or len(parameters[name]) != len(units[group]):
                    raise InputError(f"the units of {group} do not fit the model's {name}")
                like = parameters[name]
                keep = units[group].to(like.device).reshape(-1, *(1,) * (like.dim() - 1))
                found[name] = keep.expand_as(like).clone()
        return Mask(found)
