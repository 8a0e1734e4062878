"""What is asked of the verifier: boxes with the property that every point of them must have, and what it may cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.core.box import Box
from certiprune.core.margin import Margin


@dataclass(frozen=True)
class Problem:
    """``n`` questions: does every point of box ``i`` have property ``i``?

    Attributes:
        box: n boxes in float64, in input units.
        margin: n properties over the network's outputs.
        centre: [n, *shape] the unperturbed inputs, or the boxes' centres.
    """

    box: Box
    margin: Margin
    centre: Tensor

    def __len__(self) -> int:
        return len(self.box)

    def __getitem__(self, index: Tensor | slice) -> Problem:
        return Problem(self.box[index], self.margin[index], self.centre[index])

    @staticmethod
    def robust(
        images: Tensor,
        labels: Tensor,
        eps: float | Tensor,
        *,
        classes: int,
        domain: tuple[float, float] | None = (0.0, 1.0),
    ) -> Problem:
        """Class ``labels`` [n] wins in the L-infinity balls of radius ``eps`` around ``images`` [n, *shape]."""
        margin = Margin.classified_as(labels, classes).to(torch.float64)
        return Problem(Box.ball(images.double(), eps, domain=domain), margin, images.double())


@dataclass(frozen=True)
class Budget:
    """What one question may cost before it is given up as ``unknown`` with the reason.

    Attributes:
        seconds: the question's share of the time.
        nodes: subproblems of branch and bound; None for no limit.
        memory: bytes that the search may hold for all questions together; None for 60 % of what is free.
    """

    seconds: float = 300.0
    nodes: int | None = None
    memory: int | None = None
