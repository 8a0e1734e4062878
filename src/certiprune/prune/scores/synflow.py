"""SynFlow: keep the weights that most of the flow through the network goes through; no image is looked at.

    R = 1^T |A_n| ... |A_1| 1,    score(w) = |w| dR / d|w|,    A_1, ..., A_n the network's affine maps

repeated: after iteration k of n the best keep^(k/n) are left (keep as a fraction), and scores are computed anew.
Tanaka, Kunin, Yamins and Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic flow",
NeurIPS 2020, algorithm 1. The scores of a layer's weights add up to R in every layer of a chain, which is why a small
layer is not emptied before a large one (their theorems 2 and 3).

How a network is made linear: as a ``Network`` (BatchNorm in evaluation mode is an affine map, by the running
statistics) with the absolute values of every affine map's coefficients and without its offsets. All values are then at
least 0, where a ReLU changes nothing, and sums around blocks stay sums. Max pooling, max(a, b) = a + relu(b - a), so
counts as the weighted sum 2a + b. In float64: products of many layers leave the range of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.net.lower import read
from certiprune.net.network import Network, Node, evaluate
from certiprune.net.ops import Affine, Shape
from certiprune.net.trace import Trace, trace
from certiprune.net.zoo import Normalise
from certiprune.prune.scores.base import AbstractScorer, Scores, masked_parameters
from certiprune.prune.scores.gradients import slopes, weights
from certiprune.prune.scores.options import require_whole
from certiprune.prune.select import select

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups


@dataclass(frozen=True)
class SynFlow(AbstractScorer):
    """Scores by synaptic flow, iteratively down to ``keep``.

    ``select`` with the same ``keep`` and the global scope picks exactly what the last iteration has left: these have
    their last scores, which are not negative, and all others negative ones, the lower the earlier they were removed.
    The flow starts from ones of the shape of an image. Images tell it; without any it is known only where the first
    layer is linear. Units have the sums of their incoming weights' scores, anew in each iteration.

    Attributes:
        iterations: how many.

    Raises:
        InputError: ``iterations`` is below 1.
    """

    name: ClassVar[str] = "synflow"

    iterations: int = 100

    def __post_init__(self) -> None:
        require_whole(self.name, "iterations", self.iterations)

    def score(
        self,
        model: nn.Module,
        mask: Mask,
        data: Calibration | None = None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        masked_parameters(model, mask)  # says what does not fit
        flow = _Flow(model, list(mask), _shape(model, data))
        return self._down(mask, keep, flow, data)

    def score_units(
        self,
        model: nn.Module,
        groups: Groups,
        mask: Mask,
        data: Calibration | None = None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        """As the base class says; ``keep`` and what is removed in each iteration count units."""
        flow = _Flow(model, list(groups.weights(model, mask)), _shape(model, data))

        def sums(units: Mask) -> Scores:
            left = groups.weights(model, units)
            return groups.sums(flow(left), left)

        return self._down(mask, keep, sums, data)

    def _down(
        self, mask: Mask, keep: int, score: Callable[[Mask], Scores], data: Calibration | None
    ) -> Scores:
        """Scores that rank as the iterations from ``mask`` down to ``keep`` do."""
        left, total = mask, max(mask.kept, 1)
        ranks = {name: torch.zeros(kept.shape, dtype=torch.float64) for name, kept in mask.items()}
        for number in range(self.iterations):
            share = (max(keep, 0) / total) ** ((number + 1) / self.iterations)
            found = score(left)
            after = select(found, left, keep=max(keep, round(share * total)))
            values = {name: found[name].cpu() for name in mask}
            top = max(float(value.max()) for value in values.values())
            for name, rank in ranks.items():
                # Half a step apart from the next iteration's, and in the order of this one's scores.
                gone = (left[name] & ~after[name]).cpu()
                rank[gone] = number - self.iterations + 0.5 * values[name][gone] / (top or 1.0)
                kept = after[name].cpu()
                rank[kept] = values[name][kept]
            left = after
            if data is not None:
                data.progress(number + 1, self.iterations)
        return Scores({name: rank.to(mask[name].device) for name, rank in ranks.items()})


class _Flow:
    """The scores |w| dR / d|w| of the named weights of a copy of ``model``, for ever smaller masks."""

    def __init__(self, model: nn.Module, names: list[str], shape: Shape) -> None:
        self.copy = deepcopy(model).double().eval().requires_grad_(False)
        for name in names:
            self.copy.get_parameter(name).requires_grad_(True)
        self.shape = shape
        self.trace: Trace = trace(self.copy)

    def __call__(self, mask: Mask) -> Scores:
        mask.apply_(self.copy)
        network = read(self.trace, self.shape, torch.float64, {})
        found = slopes(_flow(network), self.copy, mask)
        # w dR/dw is |w| dR/d|w|: R sees absolute values only.
        return Scores({name: weight * found[name] for name, weight in weights(self.copy, mask).items()})


def _flow(network: Network) -> Tensor:
    """R of a network with gradients to its tensors."""

    def apply(_: int, node: Node, args: list[Tensor]) -> Tensor:
        return node.op.absolute().linear(args[0]) if isinstance(node.op, Affine) else evaluate(node.op, args)

    ones = torch.ones(1, *network.input_shape, dtype=torch.float64, device=network.device)
    return network.run(ones, apply=apply)[-1].sum()


def _shape(model: nn.Module, data: Calibration | None) -> Shape:
    """The shape of an input without the batch.

    Raises:
        InputError: nothing tells it.
    """
    if data is not None:
        return data.split.shape
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)), None)
    if not isinstance(first, nn.Linear):
        raise InputError(
            "pruning by synflow needs the shape of the images, which the model does not tell: give some as data"
        )
    for layer in model.modules():
        if isinstance(layer, Normalise):
            channels = layer.mean.numel()
            return channels, first.in_features // channels, 1
    return (first.in_features,)
