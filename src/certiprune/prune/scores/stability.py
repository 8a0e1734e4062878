"""Stability: a unit matters as much as bounds say that its neurons stay on one side of 0 (the RS and NRS losses).

    rs:   loss(unit) = mean of  -tanh(1 + l u)             over its neurons and the images,  l <= u before the ReLU
    nrs:  loss(unit) = mean of  -tanh(1 + l u / gamma^2)   gamma: the scale of the BatchNorm right before, else 1
    score(unit) = log(1 - loss(unit))

so the order is that of -loss, and the most unstable units go first. The logarithm is there because tanh rounds to -1
long before bounds of deep layers are at their widest, and would leave their units to chance: 1 + tanh(x) = 2
sigmoid(2 x) has a logarithm that does not round away. NRS is the study's: Li et al., "Can pruning improve certified
robustness of neural networks?", TMLR 2023; RS is Xiao et al., ICLR 2019 (formulas: ``train.penalties.rs`` and
``nrs``).

A unit that several ReLUs read (behind a residual sum, say) has the mean of their losses. One that no ReLU reads
cannot be unstable: its loss is -1, the least there is. A unit that is constant (l = u everywhere: dead, though no
mask says so) is stable, too, but its removal costs nothing that biases cannot make up for, so it scores below all
others. Bounds are of the network in evaluation mode, BatchNorm by its running statistics.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from certiprune.attack import evaluating
from certiprune.bounds.intermediate import Engine, preactivations
from certiprune.bounds.preact import PreActivation
from certiprune.core.errors import InputError
from certiprune.core.mask import Mask
from certiprune.data import Batch
from certiprune.net.live import Live
from certiprune.net.trace import places
from certiprune.prune.scores.base import AbstractScorer, Scores, require_data
from certiprune.prune.scores.options import require_choice, require_whole
from certiprune.train.penalties.rs import stable
from certiprune.train.scene import Scene

if TYPE_CHECKING:
    from certiprune.prune.calibration import Calibration
    from certiprune.prune.groups import Groups

Bounds = Literal["ibp", "crown", "alpha-crown"]

_TOGETHER = 25
"""Images that are bounded together."""
_CONSTANT = torch.finfo(torch.float64).min
"""The score of a constant unit."""


@dataclass(frozen=True)
class AbstractStability(AbstractScorer):
    """Scores each unit by how stable its neurons are on balls of radius ``data.eps`` around some images.

    Attributes:
        images: how many, the first in a random order; all where there are fewer.
        bounds: ``ibp`` are intervals. ``crown`` walks back from every unstable neuron, and ``alpha-crown`` optimises
            these walks: tighter, and dear for large networks.
        steps: iterations of ``alpha-crown``.
    """

    of_units: ClassVar[bool] = True
    needs_data: ClassVar[bool] = True

    images: int = 100
    bounds: Bounds = "ibp"
    steps: int = 10

    def __post_init__(self) -> None:
        require_choice(self.name, "bounds", self.bounds, get_args(Bounds))
        require_whole(self.name, "images", self.images)
        require_whole(self.name, "steps", self.steps)

    @abstractmethod
    def units(self, scene: Scene) -> Mapping[int, Tensor]:
        """ReLU value -> what its bounds are measured in, broadcastable to its shape; 1 where it says nothing."""

    def check(self, *, groups: Groups | None, eps: float, batch_size: int) -> None:
        """As ``AbstractScorer`` says.

        Raises:
            InputError: the radius is 0, where every neuron is stable.
        """
        if eps == 0:
            raise InputError(
                f"pruning by {self.name} needs a radius eps above 0; give one (train.eps of an experiment)"
            )

    @torch.no_grad()
    def score_units(
        self,
        model: nn.Module,
        groups: Groups,
        mask: Mask,
        data: Calibration | None,
        *,
        keep: int,
        generator: torch.Generator,
    ) -> Scores:
        """As ``AbstractScorer`` says.

        Raises:
            InputError: there is no data, or its radius is 0, where every neuron is stable.
            ModelError: the model cannot be lowered.
        """
        data = require_data(self.name, data)
        self.check(groups=groups, eps=data.eps, batch_size=data.batch_size)
        live, idle = Live(model, data.split.shape), torch.Generator()
        seen: dict[str, list[_Seen]] = {name: [] for name, group in groups.items() if group.relus}
        with evaluating(model):
            precision = next(model.parameters()).dtype
            for batch in _first(data, self.images, precision, generator):
                scene = Scene(live, batch, data.eps, data.eps, idle)
                bounds, at = self._bounded(scene), places(scene.network)
                for name, parts in seen.items():
                    values = [at[place] for place in groups[name].relus]
                    parts.append(self._look(scene, bounds, values, groups[name].size))
        free = {name: torch.full((g.size,), math.log(2), dtype=torch.float64) for name, g in groups.items()}
        return Scores({name: _score(seen[name]) if name in seen else free[name] for name in groups})

    def _bounded(self, scene: Scene) -> PreActivation:
        """Bounds of what enters every ReLU of the scene's network."""
        if self.bounds == "ibp":
            return scene.bounds.pre
        engine = Engine.of(scene.network, scene.network.device)
        steps = self.steps if self.bounds == "alpha-crown" else 0
        return preactivations(engine, scene.box.to(torch.float64), steps=steps)

    def _look(self, scene: Scene, bounds: PreActivation, values: list[int], size: int) -> _Seen:
        """What the ReLUs ``values`` say of the ``size`` units that they read."""
        units, gains, moves = self.units(scene), [], []
        for v in values:
            inside = stable(bounds.lower[v].double(), bounds.upper[v].double(), units.get(v))
            gains.append(_log_mean(_by_unit(logsigmoid(2 * inside), size), 2))
            # By intervals: bounds that count rounding in have a width where nothing moves.
            still = scene.bounds.pre.lower[v] == scene.bounds.pre.upper[v]
            moves.append(~_by_unit(still, size).all(2))
        return _Seen(_log_mean(torch.stack(gains), 0), torch.stack(moves).any(0))


@dataclass(frozen=True)
class Stability(AbstractStability):
    """Scores each unit by the RS loss of its neurons."""

    name: ClassVar[str] = "rs"

    def units(self, scene: Scene) -> Mapping[int, Tensor]:
        return {}


@dataclass(frozen=True)
class NormalisedStability(AbstractStability):
    """Scores each unit by the NRS loss of its neurons: the RS loss of the bounds before BatchNorm."""

    name: ClassVar[str] = "nrs"

    def units(self, scene: Scene) -> Mapping[int, Tensor]:
        return scene.scales


@dataclass(frozen=True)
class _Seen:
    """What bounds say of a group's units on n images.

    Attributes:
        gain: [n, units], the logarithm of the mean of (1 - loss) / 2 over neurons and ReLUs.
        moves: [n, units] bool, whether any of the neurons is not constant on the ball.
    """

    gain: Tensor
    moves: Tensor


def _score(parts: list[_Seen]) -> Tensor:
    gain = _log_mean(torch.cat([part.gain for part in parts]), 0) + math.log(2)
    return torch.where(torch.cat([part.moves for part in parts]).any(0), gain, _CONSTANT)


def _by_unit(neurons: Tensor, size: int) -> Tensor:
    """[n, *shape] -> [n, units, neurons of each]; flattened channels lie one after the other, too."""
    return neurons.reshape(len(neurons), size, -1)


def _log_mean(logs: Tensor, dim: int) -> Tensor:
    """The logarithm of the mean of what ``logs`` are the logarithms of."""
    return logs.logsumexp(dim) - math.log(logs.shape[dim])


def _first(
    data: Calibration, images: int, precision: torch.dtype, generator: torch.Generator
) -> Iterator[Batch]:
    """The first ``images`` of a random order, some at a time, in the model's ``precision``."""
    order = torch.randperm(len(data.split), generator=generator, device=generator.device)
    for index in order[:images].to(data.split.images.device).split(_TOGETHER):
        part = data.split[index]
        yield Batch(part.images.to(precision), part.labels)
