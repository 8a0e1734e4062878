"""What a penalty is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from certiprune.bounds.preact import PreActivation
from certiprune.train.scene import Scene


class AbstractPenalty(ABC):
    """A number to be made small besides a loss. Implementations are frozen dataclasses whose fields are options.

    Attributes:
        name: what configurations call it.
    """

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        """The penalty's value, a scalar with a graph behind it; None where it does not apply at this radius.

        Args:
            bounds: what the loss bounded, if it did; penalties on bounds use it in place of the scene's.
        """
