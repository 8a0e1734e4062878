"""The loss on the images themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Natural(AbstractLoss):
    """Cross-entropy of the images as they are, whatever ``eps`` is."""

    name: ClassVar[str] = "natural"

    def __call__(self, scene: Scene) -> Terms:
        return classification(scene.model(scene.batch.images), scene.batch.labels)
