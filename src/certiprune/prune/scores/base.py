"""What every scoring method has in common: weights in, one number per weight out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError, ModelError
from certiprune.core.mask import Mask

if TYPE_CHECKING:
    from certiprune.data import Split


@dataclass(frozen=True)
class Scores(Mapping[str, Tensor]):
    """How much each weight matters: parameter name -> finite float tensor of the parameter's shape.

    Only the order of the numbers counts, over all parameters together. What the mask has already pruned has a
    number too, and ``select`` does not look at it.

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
    """A method that ranks weights: the higher the score, the longer the weight is kept.

    A method is a frozen dataclass whose fields are its options.
    """

    name: ClassVar[str]

    @abstractmethod
    def score(
        self, model: nn.Module, mask: Mask, data: Split | None, *, generator: torch.Generator
    ) -> Scores:
        """Scores for every parameter that ``mask`` names; the model is left as it was.

        Args:
            model: the network, its pruned weights zero.
            mask: what is still kept.
            data: training images for the methods that need some, else None.
            generator: the only source of randomness.

        Raises:
            InputError: the mask does not fit the model, or the method needs data and there is none.
            ModelError: a score is not finite.
        """


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
