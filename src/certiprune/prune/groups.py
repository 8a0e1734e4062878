"""Units: the channels and neurons that leave a network together with all of their weights.

A unit of a group is one index along dimension 0 of each of the group's parameters: a filter of a convolution (or a row
of a linear layer) with its bias and the BatchNorm behind it, together with the same index of every layer that a
residual sum adds to it. Without these parameters a unit is 0 for every input. ``coupling.groups`` finds them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.net.trace import Place
from certiprune.prune.scores.base import Scores


@dataclass(frozen=True)
class Group:
    """Units that share their numbers.

    Attributes:
        size: how many units.
        weights: the names of the convolutions' and linear layers' weights, each [size, ...].
        others: the names of their biases and of BatchNorm's scales and shifts, each [size].
        scales: those of ``others`` that are BatchNorm's scales.
        readers: the names of weights that read these units and nothing else: their dimension 1 has a block of columns
            for each unit, in order, all of one size.
        relus: the ReLUs that read these units, one by one.
    """

    size: int
    weights: tuple[str, ...]
    others: tuple[str, ...] = ()
    scales: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()
    relus: tuple[Place, ...] = ()


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
        """The mask of parameters that goes with a mask of units: a pruned unit loses all it has, a kept one nothing."""
        return self._rows(model, units, {name: (*g.weights, *g.others) for name, g in self.items()})

    def weights(self, model: nn.Module, units: Mask) -> Mask:
        """Which incoming weights still do something: those of kept units, without the ones that read pruned units."""
        found = dict(self._rows(model, units, {name: g.weights for name, g in self.items()}))
        for name, group in self.items():
            for reader in found.keys() & set(group.readers):
                rows = found[reader]
                columns = units[name].to(rows.device).repeat_interleave(rows.shape[1] // group.size)
                found[reader] = rows & columns.reshape(-1, *(1,) * (rows.dim() - 2))
        return Mask(found)

    def units(self, mask: Mask) -> Mask:
        """The mask of units that goes with a mask of parameters: a unit is kept where any of its weights is."""
        found = dict(self.ones())
        for name, group in self.items():
            # A parameter that a mask does not name is kept whole.
            if all(weight in mask for weight in group.weights):
                found[name] = torch.stack([mask[w].flatten(1).any(1) for w in group.weights]).any(0)
        return Mask(found)

    def sums(self, scores: Scores, weights: Mask) -> Scores:
        """Scores of units [size] from scores of weights: each unit's sum over those that the mask ``weights`` keeps."""
        found = {}
        for name, group in self.items():
            left = [scores[w].double() * weights[w].to(scores[w].device) for w in group.weights]
            found[name] = torch.stack([part.flatten(1).sum(1) for part in left]).sum(0)
        return Scores(found)

    @staticmethod
    def _rows(model: nn.Module, units: Mask, members: Mapping[str, tuple[str, ...]]) -> Mask:
        parameters: dict[str, Tensor] = dict(model.named_parameters())
        found = {}
        for group, names in members.items():
            for name in names:
                if group not in units or name not in parameters or len(parameters[name]) != len(units[group]):
                    raise InputError(f"the units of {group} do not fit the model's {name}")
                like = parameters[name]
                keep = units[group].to(like.device).reshape(-1, *(1,) * (like.dim() - 1))
                found[name] = keep.expand_as(like).clone()
        return Mask(found)
