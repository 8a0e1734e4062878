"""One batch as a training loss sees it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from certiprune.attack import frozen_statistics
from certiprune.bounds.ibp import Ball, Ibp, ibp, margins
from certiprune.core.box import Box
from certiprune.data import Batch
from certiprune.net.live import Live
from certiprune.net.network import Network


@dataclass(frozen=True)
class Scene:
    """A batch, the model, and what follows from both; each thing is computed once, when it is first asked for.

    The network is the function that the model is at this batch, with BatchNorm by the statistics of the clean images
    (``net.live``). Bounds, and attacks of certified losses, are about it.

    Attributes:
        live: the model, from images in [0, 1] to class scores.
        batch: on the model's device.
        eps: the L-infinity radius to train for now, in input units.
        target: the radius at the end of the schedule.
        generator: all randomness of the loss.
        tracked: whether the clean pass moves BatchNorm's running statistics on; not where another pass of the loss
            does that.
    """

    live: Live
    batch: Batch
    eps: float
    target: float
    generator: torch.Generator
    tracked: bool = False

    @staticmethod
    def of(
        model: nn.Module,
        batch: Batch,
        *,
        eps: float,
        generator: torch.Generator,
        target: float | None = None,
        tracked: bool = False,
    ) -> Scene:
        """A scene outside of a training; ``target`` is ``eps`` where it is None.

        Raises:
            ModelError: the model cannot be traced.
        """
        live = Live(model, tuple(batch.images.shape[1:]))
        return Scene(live, batch, eps, eps if target is None else target, generator, tracked)

    @property
    def model(self) -> nn.Module:
        return self.live.module

    @property
    def left(self) -> float:
        """How much of the rise of eps is still to come, from 1 at eps 0 to 0 at the target."""
        return 1.0 - self.eps / self.target if self.target > 0 else 0.0

    @cached_property
    def _clean(self) -> tuple[Network, Tensor]:
        if self.tracked:
            return self.live(self.batch.images)
        with frozen_statistics(self.model):
            return self.live(self.batch.images)

    @property
    def network(self) -> Network:
        """The model at this batch, with gradients to its parameters."""
        return self._clean[0]

    @property
    def outputs(self) -> Tensor:
        """Class scores [n, classes] of the clean images."""
        return self._clean[1]

    @cached_property
    def fixed(self) -> Network:
        """The network with gradients to the parameters, but none through BatchNorm's statistics; quicker to have."""
        with frozen_statistics(self.model):
            return self.live.fixed(self.batch.images)

    @cached_property
    def target_of_attack(self) -> Network:
        """The network without gradients to the parameters."""
        return self.network.detached()

    @cached_property
    def box(self) -> Box:
        """The ball of radius ``eps`` around each image, clipped to [0, 1]."""
        return ball(self.batch.images, self.eps)

    @cached_property
    def bounds(self) -> Ibp:
        """Interval bounds for the balls."""
        return ibp(self.network, self.box)

    @cached_property
    def margins(self) -> Ball:
        """Centre and radius [n, classes] of every output less the label's, from the interval bounds."""
        return margins(self.network, self.bounds, self.batch.labels)

    @cached_property
    def norms(self) -> dict[int, _BatchNorm]:
        """ReLU value of the network -> the BatchNorm right before it, where there is one."""
        places = {name: iter(norms) for name, norms in self.live.norms.items()}
        before = {v: next(places.get(self.network.node(v).name, iter(())), None) for v in self.network.relus}
        return {v: norm for v, norm in before.items() if norm is not None}

    @cached_property
    def scales(self) -> dict[int, Tensor]:
        """ReLU value of the network -> the scale [c, 1, 1] (or [c]) of the BatchNorm before it, without gradient."""
        tails = {v: (1,) * (len(self.network.shapes[v]) - 1) for v in self.norms}
        scales = {v: norm.weight for v, norm in self.norms.items() if norm.weight is not None}
        return {v: weight.detach().reshape(-1, *tails[v]) for v, weight in scales.items()}


def ball(images: Tensor, eps: float) -> Box:
    """The ball around each of ``images`` [n, c, h, w], clipped to [0, 1]; for training, so not rounded outward."""
    return Box((images - eps).clamp(0, 1), (images + eps).clamp(0, 1))
