"""Certified training by a geometric mean of the adversarial loss and the interval bounds' loss.

    minimise  mean_i  CE(f(x'_i), y_i)^(1 - alpha) CE(-m_i, y_i)^alpha,    x' from PGD, m the interval bounds' margins

De Palma et al., "Expressive losses for verified robustness via convex combinations", ICLR 2024 (EXP-IBP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import cross_entropy

from certiprune.train.losses.expressive import Expressive

# A loss of 0 has no gradient of its root.
_LEAST = 1e-12


@dataclass(frozen=True)
class ExpIbp(Expressive):
    """The geometric mean of both losses, image by image; options as of ``Expressive``."""

    name: ClassVar[str] = "exp_ibp"

    def between(self, adversarial: Tensor, worst: Tensor, labels: Tensor) -> Tensor:
        attacked, certified = (
            cross_entropy(scores, labels, reduction="none").clamp(min=_LEAST)
            for scores in (adversarial, worst)
        )
        return (attacked ** (1 - self.alpha) * certified**self.alpha).mean()
