"""The regularisers of fast certified training with a short warm-up.

With centre c and radius r of the interval before each of m ReLU layers, r_0 the input's, E the mean over a layer:
    tightness:  1/m sum_i  relu(tol - E(r_0) / E(r_i)) / tol                    bounds should not grow layer by layer
    balance:    1/m sum_i  [relu(tol - ratio(a, b)) + relu(tol - ratio(p, q))] / tol,    ratio(s, t) = min(s/t, t/s)
    a, b = mean of c over active (l > 0), of -c over inactive (u < 0) neurons;   p, q = sum of (c - E(c))^2 over each
both times (1 - eps / eps_end), so that they vanish when eps has reached its end. Shi et al., "Fast certified robust
training with short warmup", NeurIPS 2021, section 3.3, with the initialisation ``ibp`` of ``net.zoo``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import relu

from certiprune.bounds.preact import PreActivation
from certiprune.train.errors import require
from certiprune.train.penalties.base import AbstractPenalty
from certiprune.train.scene import Scene

_LEAST = 1e-12


@dataclass(frozen=True)
class FastIbp(AbstractPenalty):
    """Both regularisers' sum while eps rises; the usual weight is 0.5.

    Attributes:
        tolerance: a ratio above this costs nothing (tau); 0.5 in the paper.
    """

    name: ClassVar[str] = "fast_ibp"

    tolerance: float = 0.5

    def __post_init__(self) -> None:
        require("penalty fast_ibp", "tolerance", self.tolerance, "in (0, 1]", 0 < self.tolerance <= 1)

    def __call__(self, scene: Scene, bounds: PreActivation | None) -> Tensor | None:
        del bounds
        if scene.eps == 0 or scene.left <= 0:
            return None
        pre = scene.bounds.pre
        start = scene.box.half_width.mean()
        tightness = balance = torch.zeros_like(start)
        for v, lower in pre.lower.items():
            upper = pre.upper[v]
            width = (upper.mean() - lower.mean()) / 2
            tightness = tightness + self._short(start / width.clamp(min=_LEAST))
            balance = balance + self._balance(lower + upper, lower > 0, upper < 0)
        return scene.left * (tightness + balance) / max(len(pre.lower), 1)

    def _short(self, ratio: Tensor) -> Tensor:
        return relu(self.tolerance - ratio) / self.tolerance

    def _balance(self, centre: Tensor, active: Tensor, inactive: Tensor) -> Tensor:
        """From twice the centres; ratios do not see a factor. Sums of c and c^2 take fewer passes than (c - E(c))^2."""
        mean = centre.mean()
        sums, spreads = [], []
        for side in (active, inactive):
            part = centre * side
            total, square, count = part.sum(), (part * part).sum(), side.sum()
            sums.append(total.abs())
            spreads.append(square - 2 * mean * total + mean * mean * count)
        value = torch.zeros_like(mean)
        for on, off in (sums, spreads):
            # Nothing can be balanced where one side is empty; its gradient would be none or infinite.
            if bool(on > _LEAST) and bool(off > _LEAST):
                value = value + self._short(torch.minimum(on / off, off / on))
        return value
