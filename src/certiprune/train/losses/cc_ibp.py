"""Certified training at a mean of adversarial scores and the interval bounds' worst scores.

    minimise  CE((1 - alpha) z' + alpha z, y),
    z' = f(x') - f_y(x') at x' from PGD,  z the interval bounds' upper ends

De Palma et al., "Expressive losses for verified robustness via convex combinations", ICLR 2024 (CC-IBP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.train.losses.expressive import Expressive


@dataclass(frozen=True)
class CcIbp(Expressive):
    """The loss of the scores' mean; options as of ``Expressive``."""

    name: ClassVar[str] = "cc_ibp"

    def between(self, adversarial: Tensor, worst: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy((1 - self.alpha) * adversarial + self.alpha * worst, labels)
