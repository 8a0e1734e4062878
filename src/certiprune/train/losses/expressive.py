"""What MTL-IBP, CC-IBP and EXP-IBP share: an adversarial and a certified part, and a number between them.

De Palma et al., "Expressive losses for verified robustness via convex combinations", ICLR 2024: losses that for alpha
from 0 to 1 go continuously from the adversarial one to the one of interval bounds.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.train.errors import require
from certiprune.train.losses.attack import attacked
from certiprune.train.losses.base import AbstractLoss, Terms, classification
from certiprune.train.losses.ibp import measures, worst_scores
from certiprune.train.scene import Scene


@dataclass(frozen=True)
class Expressive(AbstractLoss):
    """A loss between the adversarial and the certified one.

    The attack, and the loss at the points that it finds, see the network of the scene: BatchNorm by the clean images.

    Attributes:
        alpha: from 0, the adversarial loss, to 1, that of interval bounds.
        steps: of the attack.
        step: the length of each in units of ``eps``.
    """

    certified: ClassVar[bool] = True

    alpha: float = 0.5
    steps: int = 8
    step: float = 0.25

    def __post_init__(self) -> None:
        require(f"loss {self.name}", "alpha", self.alpha, "in [0, 1]", 0 <= self.alpha <= 1)
        require(f"loss {self.name}", "steps", self.steps, "at least 1", self.steps >= 1)
        require(f"loss {self.name}", "step", self.step, "above 0", self.step > 0)

    def __call__(self, scene: Scene) -> Terms:
        labels = scene.batch.labels
        if scene.eps == 0:
            return classification(scene.outputs, labels)
        model = scene.target_of_attack
        points = attacked(scene, model, reach=scene.eps, steps=self.steps, step=self.step)
        scores = scene.network(points)
        adversarial = scores - scores.gather(1, labels.unsqueeze(1))
        worst = worst_scores(scene)
        parts = measures(scene, worst)
        for name, part in (("adversarial", adversarial), ("interval", worst)):
            parts[name] = float(cross_entropy(part.detach(), labels))
        return Terms(self.between(adversarial, worst, labels), parts, scene.bounds.pre)

    @abstractmethod
    def between(self, adversarial: Tensor, worst: Tensor, labels: Tensor) -> Tensor:
        """The loss, from outputs less the label's [n, classes]: at the points found, and the interval bounds' worst."""
