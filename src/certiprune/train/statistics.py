"""What bounds say of a network in training: statistics, not proofs.

They are computed in the precision of training, without counting rounding in; what is proved comes from ``verify``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from certiprune.attack import evaluating
from certiprune.bounds.relax import lines
from certiprune.bounds.rows import Rows
from certiprune.bounds.value import dual_value
from certiprune.bounds.window import plan
from certiprune.data import Split
from certiprune.net.live import Live
from certiprune.train.evaluate import batched, mean
from certiprune.train.scene import Scene

T = TypeVar("T")

_BATCH = 250
"""Images that are bounded together by intervals."""
_ROWS = 256
"""Forms that walk back together."""


def ibp_accuracy(model: nn.Module, split: Split, eps: float) -> float:
    """The fraction of ``split`` whose label wins in the whole ball of radius ``eps`` by interval bounds.

    Raises:
        InputError: the split is empty.
        ModelError: the model cannot be traced.
    """
    return mean(torch.cat([torch.zeros(0), *looked_at(model, split, eps, by_intervals)]))


def crown_accuracy(model: nn.Module, split: Split, eps: float) -> float:
    """The same by CROWN-IBP: interval bounds of the neurons, one walk back for the margin to each other class.

    It can be below ``ibp_accuracy``: networks trained on interval bounds are often such.

    Raises:
        InputError: the split is empty.
        ModelError: the model cannot be traced.
    """
    return mean(torch.cat([torch.zeros(0), *looked_at(model, split, eps, by_walks)]))


@torch.no_grad()
def looked_at(model: nn.Module, split: Split, eps: float, ask: Callable[[Scene], T]) -> list[T]:
    """What ``ask`` says of the images of ``split``, batch by batch in order, with ``model`` in evaluation mode."""
    live = Live(model, tuple(split.images.shape[1:]))
    # Nothing of a scene's bounds is random.
    idle = torch.Generator()
    with evaluating(model):
        return [ask(Scene(live, batch, eps, eps, idle)) for batch in batched(model, split, _BATCH)]


def by_intervals(scene: Scene) -> Tensor:
    """Which images' label beats every other class: a boolean tensor [n] on the CPU."""
    centre, radius = scene.margins
    other = (centre + radius).scatter(1, scene.batch.labels.unsqueeze(1), -torch.inf)
    return (other.amax(1) < 0).cpu()


def by_walks(scene: Scene) -> Tensor:
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
