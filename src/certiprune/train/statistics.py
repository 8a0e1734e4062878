"""What bounds say of a network while it is trained and afterwards: statistics, not proofs.

They are computed in the precision of training, without counting rounding in; what is proved comes from ``verify``. A
model is looked at in evaluation mode, so by its running statistics, and is left as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor, nn

from certiprune.attack import evaluating
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import lines
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import dual_value
from certiprune.bounds.window import plan
from certiprune.core.errors import InputError
from certiprune.data import Split
from certiprune.net.live import Live
from certiprune.train.evaluate import batched, mean, pgd_accuracy
from certiprune.train.losses.ibp import on_top, worst_scores
from certiprune.train.penalties.rs import stability
from certiprune.train.scene import Scene

T = TypeVar("T")

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""The quantiles of ``width_quantiles``, from the narrowest neuron to the widest."""

_BATCH = 250
"""Images that are bounded together by intervals."""
_ROWS = 256
"""Forms that walk back together."""


@dataclass(frozen=True)
class LayerStatistics:
    """The interval bounds l <= z <= u of what enters one ReLU layer: means over its neurons and the images.

    Attributes:
        name: ``relu1``, ``relu2``, ... from input to output, as in the records.
        unstable: the fraction with l < 0 < u.
        product: -l u, which is above 0 for unstable neurons and below it for stable ones.
        rs: the term of the RS loss (``penalties.rs``).
        nrs: that of the NRS loss (``penalties.nrs``); NaN where no BatchNorm stands before the ReLU.
        width: (u - l) / 2.
        width_before: the same before BatchNorm, so divided by |gamma| / sqrt(running variance + eps), over the neurons
            where that is not 0; NaN where no BatchNorm stands before the ReLU.
    """

    name: str
    unstable: float
    product: float
    rs: float
    nrs: float
    width: float
    width_before: float


MEASURES = tuple(field.name for field in fields(LayerStatistics) if field.name != "name")
"""What is measured of a layer."""


@dataclass(frozen=True)
class BoundStatistics:
    """What the bounds of the balls around some images say.

    Attributes:
        clean: the fraction of the images that are classified rightly.
        ibp: the fraction whose label wins in the whole ball by interval bounds.
        crown: the same by CROWN-IBP: interval bounds of the neurons, and one walk back for the margin to each other
            class. It can be below ``ibp``: networks trained on interval bounds are often such. NaN if not asked for.
        layers: every ReLU layer, from input to output.
    """

    clean: float
    ibp: float
    crown: float
    layers: tuple[LayerStatistics, ...]


@dataclass(frozen=True)
class Statistics:
    """What a training measures on the validation split for people to look at, and how often; nothing depends on it.

    Attributes:
        every: clean accuracy, interval bounds and layers after every so many epochs and after the last; 0 is never.
        dear_every: the attack and CROWN-IBP with them, after every so many epochs and after the last; 0 is only then.
        images: how many, from the first on.
        pgd_steps: of the attack.
    """

    every: int = 1
    dear_every: int = 5
    images: int = 500
    pgd_steps: int = 10

    def metrics(
        self,
        model: nn.Module,
        split: Split,
        eps: float,
        *,
        epoch: int,
        epochs: int,
        generator: torch.Generator,
    ) -> dict[str, float]:
        """What is due after ``epoch`` of ``epochs`` finished ones, by name: ``statistics/ibp``, ``unstable/relu1``.

        Args:
            eps: in input units; at 0 a ball is a point, and there is nothing to say.
            generator: of the attack.
        """
        if eps == 0 or not _due(self.every, epoch, epochs):
            return {}
        some, dear = split.head(self.images), _due(self.dear_every, epoch, epochs) or epoch == epochs
        found = bound_statistics(model, some, eps, crown=dear)
        values = {f"statistics/{name}": getattr(found, name) for name in ("clean", "ibp", "crown")}
        if dear:
            values["statistics/pgd"] = pgd_accuracy(
                model, some, eps, steps=self.pgd_steps, restarts=1, generator=generator
            )
        for layer in found.layers:
            values |= {f"{measure}/{layer.name}": getattr(layer, measure) for measure in MEASURES}
        return {name: value for name, value in values.items() if not math.isnan(value)}


def _due(every: int, epoch: int, epochs: int) -> bool:
    return every > 0 and (epoch % every == 0 or epoch == epochs)


def ibp_accuracy(model: nn.Module, split: Split, eps: float) -> float:
    """The fraction of ``split`` whose label wins in the whole ball of radius ``eps`` by interval bounds.

    Raises:
        InputError: the split is empty.
        ModelError: the model cannot be traced.
    """
    return mean(torch.cat([torch.zeros(0), *_looked_at(model, split, eps, _by_intervals)]))


def bound_statistics(model: nn.Module, split: Split, eps: float, *, crown: bool = True) -> BoundStatistics:
    """What bounds of the balls of radius ``eps`` around the images of ``split`` say; ``crown`` is the dear part.

    Raises:
        InputError: the split is empty.
        ModelError: the model cannot be traced.
    """

    def ask(scene: Scene) -> tuple[Tensor, Tensor, Tensor, list[LayerStatistics]]:
        right = (scene.outputs.argmax(1) == scene.batch.labels).cpu()
        return right, _by_intervals(scene), _by_walks(scene) if crown else right, _layers(scene)

    found = _looked_at(model, split, eps, ask)
    clean, ibp, walked = (
        mean(torch.cat([torch.zeros(0), *answers]))
        for answers in ([f[0] for f in found], [f[1] for f in found], [f[2] for f in found])
    )
    weights = [len(right) / len(split) for right, *_ in found]
    layers = [_mean(parts, weights) for parts in zip(*(f[3] for f in found), strict=True)]
    return BoundStatistics(clean, ibp, walked if crown else math.nan, tuple(layers))


def width_quantiles(model: nn.Module, split: Split, eps: float) -> dict[str, tuple[float, ...]]:
    """How the widths u - l of interval bounds are distributed over the neurons of each ReLU layer.

    For each image and layer, the ``QUANTILES`` of u - l over the layer's neurons; then each one's mean over the images.
    The widths are those of what enters the ReLU on the ball of radius ``eps``, clipped to [0, 1], twice
    ``LayerStatistics.width`` in the mean. Quantiles lie linearly between the sorted widths: quantile q of n neurons is
    at place q (n - 1), counted from 0. A neuron that no input moves, such as one of a pruned channel, has the width 0.

    The bounds are intervals for every neuron, also where CROWN's decide what is unstable: CROWN is asked for the ends
    only that decide this, so its widths would be of two kinds.

    Returns:
        by the names of ``LayerStatistics``, from input to output: a number for each of ``QUANTILES``, rising, in units
        of the layer's values.

    Raises:
        InputError: the split is empty.
        ModelError: the model cannot be traced.
    """
    if not len(split):
        raise InputError("there are no images to measure the widths of bounds on")
    parts = _looked_at(model, split, eps, _width_quantiles)
    sums = torch.stack([torch.stack([layer.sum(0) for layer in part]) for part in parts]).sum(0)
    return {f"relu{k}": tuple(row) for k, row in enumerate((sums / len(split)).tolist(), start=1)}


@torch.no_grad()
def _looked_at(model: nn.Module, split: Split, eps: float, ask: Callable[[Scene], T]) -> list[T]:
    """What ``ask`` says of the images of ``split``, batch by batch in order, with ``model`` in evaluation mode."""
    live = Live(model, tuple(split.images.shape[1:]))
    # Nothing of a scene's bounds is random.
    idle = torch.Generator()
    with evaluating(model):
        return [ask(Scene(live, batch, eps, eps, idle)) for batch in batched(model, split, _BATCH)]


def _by_intervals(scene: Scene) -> Tensor:
    """Which images' label beats every other class: a boolean tensor [n] on the CPU."""
    return on_top(worst_scores(scene), scene.batch.labels).cpu()


def _by_walks(scene: Scene) -> Tensor:
    """Which images' label beats every other class by CROWN-IBP: a boolean tensor [n] on the CPU."""
    network, labels = scene.network, scene.batch.labels
    right = (scene.outputs.argmax(1) == labels).nonzero()[:, 0]
    certified = torch.zeros(len(labels), dtype=torch.bool)
    classes, way = network.outputs, plan(network, network.output)
    eye = torch.eye(classes, dtype=network.dtype, device=labels.device)
    # An image that is wrong itself has no ball in which it is right.
    for part in right.split(max(1, _ROWS // classes)):
        images, label = len(part), labels[part]
        coeff = eye[label].unsqueeze(1) - eye  # [images, classes, classes]: f_y - f_j for every j
        owner = torch.arange(images, device=labels.device).repeat_interleave(classes)
        rows = Rows(way, owner, coeff.flatten(0, 1), coeff.new_zeros(images * classes))
        value = dual_value(network, scene.box[part], rows, lines(scene.bounds.pre[part]))
        value = value.reshape(images, classes).scatter(1, label.unsqueeze(1), torch.inf)
        certified[part.cpu()] = (value.amin(1) > 0).cpu()
    return certified


def _width_quantiles(scene: Scene) -> list[Tensor]:
    """The quantiles of each ReLU layer's widths, image by image: [n, quantiles] float64 on the CPU."""
    found = []
    for v, lower in scene.bounds.pre.lower.items():
        widths = (scene.bounds.pre.upper[v] - lower).flatten(1).double().cpu().sort(1).values
        place = torch.tensor(QUANTILES, dtype=torch.float64) * (widths.shape[1] - 1)
        below, above = widths[:, place.floor().long()], widths[:, place.ceil().long()]
        found.append(below + place.frac() * (above - below))
    return found


def _layers(scene: Scene) -> list[LayerStatistics]:
    found = []
    for number, (v, lower) in enumerate(scene.bounds.pre.lower.items(), start=1):
        upper = scene.bounds.pre.upper[v]
        alone = PreActivation({v: lower}, {v: upper})
        width, nrs, before = (upper - lower) / 2, math.nan, math.nan
        if v in scene.scales:
            nrs = float(stability(alone, scene.scales))
            norm, scale = scene.norms[v], scene.scales[v].abs()
            assert norm.running_var is not None  # else there is no network in evaluation mode
            unit = scale * (norm.running_var + norm.eps).rsqrt().reshape(scale.shape)
            some = (unit > 0).expand_as(width)
            before = float((width / unit)[some].mean()) if bool(some.any()) else math.nan
        found.append(
            LayerStatistics(
                f"relu{number}",
                float(alone.unstable(v).double().mean()),
                float(-(lower * upper).mean()),
                float(stability(alone, {})),
                nrs,
                float(width.mean()),
                before,
            )
        )
    return found


def _mean(parts: Sequence[LayerStatistics], weights: Sequence[float]) -> LayerStatistics:
    values = {
        name: math.fsum(w * getattr(part, name) for part, w in zip(parts, weights, strict=True))
        for name in MEASURES
    }
    return LayerStatistics(parts[0].name, **values)
