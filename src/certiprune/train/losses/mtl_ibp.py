"""Certified training by a mean of the adversarial loss and the interval bounds' loss.

    minimise  (1 - alpha) CE(f(x'), y) + alpha CE(-m, y),    x' from PGD, m the interval bounds' margins

De Palma et al., "Expressive losses for verified robustness via convex combinations", ICLR 2024 (MTL-IBP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.train.losses.expressive import Expressive


@dataclass(frozen=True)
class MtlIbp(Expressive):
    """The mean of both losses; options as of ``Expressive``."""

    name: ClassVar[str] = "mtl_ibp"

    def between(self, adversarial: Tensor, worst: Tensor, labels: Tensor) -> Tensor:
        attacked, certified = cross_entropy(adversarial, labels), cross_entropy(worst, labels)
        return (1 - self.alpha) * attacked + self.alpha * certified
