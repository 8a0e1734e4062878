"""What every scoring method has in common: a model in, one number per weight or per unit out."""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class Scores(Mapping[str, Tensor]):
    """How much each weight matters: parameter name -> finite float tensor of the parameter's shape.

    For units it is group name -> tensor [units]. Only the order of the numbers counts, over all names together. What
    the mask has already pruned has a number too, and ``select`` does not look at it.

    Raises:
        InputError: a tensor is not of a floating-point type.
        ModelError: a score is infinite or not a number.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.tensors.items():
            if not tensor.is_floating_point():
                raise InputError(f"the scores of {name} must be floating-point numbers, not {tensor.dtype}")
            if not bool(torch.isfinite(tensor).all()):
                raise ModelError(f"the scores of {name} are not all finite; check the weights of the model")
        frozen = {name: tensor.detach() for name, tensor in self.tensors.items()}
        object.__setattr__(self, "tensors", MappingProxyType(frozen))

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


class AbstractScorer(ABC):
    """A method that ranks weights or units: the higher the score, the longer it is kept.

    A method is a frozen dataclass whose fields are its options. A method that ranks weights overrides ``score``, and
    units then have the sums of their weights' scores, unless it overrides ``score_units``. A method that ranks units
    alone overrides ``score_units`` and sets ``of_units``.

    Attributes:
        name: what configurations call it.
        of_units: whether it can rank units (channels and neurons) only.
        of_weights: whether it can rank weights only.
        needs_data: whether it cannot do without a ``Calibration``.
    """

    name: ClassVar[str]
    of_units: ClassVar[bool] = False
    of_weights: ClassVar[bool] = False
    needs_data: ClassVar[bool] = False

    def check(self, *, groups: Groups | None, eps: float, batch_size: int) -> None:
        """See that the method can rank, as far as that is known before a network is trained; here there is nothing.

        Args:
            groups: the units to rank, or None for weights.
            eps: the radius of the training's loss, in input units.
            batch_size: images in a batch of gradients.

        Raises:
            InputError: it cannot, whatever the weights will be.
        """
        del groups, eps, batch_size

    def score(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        """Scores for every parameter that ``mask`` names; the model is left as it was.

        Args:
            model: the network, its pruned weights zero.
            mask: which weights are still kept.
            data: images and the loss they are trained with, for the methods that need some, else None.
            keep: how many weights will be kept, for methods that look ahead.
            generator: the only source of randomness.

        Raises:
            InputError: the mask does not fit the model, the method needs data and there is none, or it ranks units
                only.
            ModelError: a score is not finite.
        """
        raise InputError(f"{self.name} ranks channels and neurons, not weights: use granularity channels")

    def score_units(
        self,
        model: nn.Module,
        groups: Groups,
        mask: Mask,
        data: Calibration | None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        """Scores [units] for every group that ``mask`` names; the model is left as it was.

        Here: the sum of the scores of a unit's incoming weights, without those that read pruned units.

        Args:
            model: as above.
            groups: which units there are and which weights they have.
            mask: which units are still kept.
            data: as above.
            keep: how many units will be kept.
            generator: as above.

        Raises:
            InputError, ModelError: as ``score`` does.
        """
        weights = groups.weights(model, mask)
        found = self.score(model, weights, data, keep=share(weights, mask, keep), generator=generator)
        return groups.sums(found, weights)


def share(weights: Mask, units: Mask, keep: int) -> int:
    """How many of ``weights`` go with ``keep`` of ``units``: the same fraction, at least one."""
    return max(1, round(weights.kept * keep / units.kept))


def require_data(name: str, data: Calibration | None) -> Calibration:
    """``data``.

    Raises:
        InputError: there is none.
    """
    if data is None or len(data.split) == 0:
        raise InputError(f"pruning by {name} needs data: give training images and labels")
    return data


def masked_parameters(model: nn.Module, mask: Mask) -> dict[str, Tensor]:
    """The parameters of ``model`` that ``mask`` names, detached, in the mask's order.

    Raises:
        InputError: the mask names a parameter that the model lacks, or has another shape.
    """
    parameters = dict(model.named_parameters())
    for name, keep in mask.items():
        if name not in parameters or parameters[name].shape != keep.shape:
            raise InputError(f"the mask of {name} {tuple(keep.shape)} does not fit the model")
    return {name: parameters[name].detach() for name in mask}
