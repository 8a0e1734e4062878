"""What identifies a network of the zoo."""

from __future__ import annotations

import math
from dataclasses import dataclass

from certiprune.core.errors import ModelError


@dataclass(frozen=True)
class ModelSpec:
    """A network of the zoo, and the images that it is for: all that is needed to build it again.

    Attributes:
        name: one of ``names()``.
        shape: channels, height and width of an image.
        classes: how many scores the network gives.
        mean: each channel's mean, in input units (pixels in [0, 1]).
        std: each channel's standard deviation, in input units.
        width: a factor on the number of channels and of hidden neurons.

    Raises:
        ModelError: a value is out of range, or the statistics are not one a channel.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    width: float = 1.0

    def __post_init__(self) -> None:
        for field in ("shape", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ModelError(
                f"a model's shape is (channels, height, width), each at least 1, not {self.shape}"
            )
        if not isinstance(self.name, str) or not all(isinstance(n, int) for n in (*self.shape, self.classes)):
            raise ModelError("a model's name must be a text, and its shape and classes whole numbers")
        if self.classes < 2:
            raise ModelError(f"a model needs at least 2 classes, not {self.classes}")
        if len(self.mean) != self.shape[0] or len(self.std) != self.shape[0]:
            counts = f"mean has {len(self.mean)} and std {len(self.std)} numbers"
            raise ModelError(f"{counts}; the images have {self.shape[0]} channels")
        if not all(map(math.isfinite, self.mean)):
            raise ModelError(f"mean must be finite, not {self.mean}")
        if not all(math.isfinite(value) and value > 0 for value in self.std):
            raise ModelError(f"std must be above 0, not {self.std}")
        if not (math.isfinite(self.width) and self.width > 0):
            raise ModelError(f"width must be above 0, not {self.width}")

    def scaled(self, count: int) -> int:
        """``count`` channels or neurons at this width, at least one."""
        return max(1, round(count * self.width))
