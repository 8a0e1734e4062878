"""Small models in training, and what certified losses say of them worked out another way: by loops and by matrices."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from certiprune.core.rng import generator
from certiprune.data import Batch
from certiprune.net.zoo import Normalise
from certiprune.train.scene import Scene
from helpers.networks import Source

F64 = torch.float64
SHAPE = (1, 4, 4)
CLASSES = 3


def batch(seed: int = 0, n: int = 6, shape: tuple[int, ...] = SHAPE, classes: int = CLASSES) -> Batch:
    """Random images in float64, and labels."""
    source = Source.of(seed + 31)
    labels = torch.randint(classes, (n,), generator=source.generator)
    return Batch(source.uniform(n, *shape), labels)


def shaken(module: nn.Module, seed: int) -> nn.Module:
    """``module`` in float64 with random parameters (scales and shifts of BatchNorm, too) and running statistics."""
    source = Source.of(seed)
    module.double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.copy_(source.normal(*parameter.shape) / parameter[0].numel() ** 0.5)
            elif name.endswith("weight"):
                parameter.copy_(
                    (0.5 + source.uniform(*parameter.shape)) * source.normal(*parameter.shape).sign()
                )
            else:
                parameter.copy_(0.3 * source.normal(*parameter.shape))
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
                layer.running_mean.copy_(0.3 * source.normal(*layer.running_mean.shape))
                layer.running_var.copy_(0.5 + source.uniform(*layer.running_var.shape))  # type: ignore[union-attr]
    return module


def dense(seed: int, *, norm: bool = True, classes: int = CLASSES) -> nn.Sequential:
    """Linear layers on images of ``SHAPE``, with BatchNorm or without."""
    sizes = (16, 6, 5)
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), nn.ReLU()]
    layers.append(nn.Linear(sizes[-1], classes))
    return shaken(nn.Sequential(*layers), seed)  # type: ignore[return-value]


def convolutional(seed: int, *, norm: bool = True) -> nn.Sequential:
    """A convolution and linear layers on normalised images of ``SHAPE``."""
    norms: list[list[nn.Module]] = [[nn.BatchNorm2d(3)], [nn.BatchNorm1d(5)]] if norm else [[], []]
    layers = [Normalise((0.4,), (0.5,)), nn.Conv2d(1, 3, 3, 1, 1), *norms[0], nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(48, 5), *norms[1], nn.ReLU(), nn.Linear(5, CLASSES)]
    return shaken(nn.Sequential(*layers), seed)  # type: ignore[return-value]


class Own(nn.Module):
    """A user's network: functional ReLUs, one ReLU layer in several places, a residual sum, a reshape."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(3)
        self.relu = nn.ReLU()
        self.pool = nn.AvgPool2d(2)
        self.hidden = nn.Linear(12, 5)
        self.norm3 = nn.BatchNorm1d(5)
        self.last = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm1(self.first(2 * x - 1)))
        x = self.relu(x + self.norm2(self.second(x)))
        x = self.pool(x)
        x = relu(self.norm3(self.hidden(x.reshape(x.size(0), -1))))
        return self.last(x)


def own(seed: int) -> nn.Module:
    return shaken(Own(), seed)


class Pooled(nn.Module):
    """Every kind of pooling and of constants."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.average = nn.AvgPool2d(2, padding=1, count_include_pad=False)
        self.largest, self.whole, self.last = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(self.norm(self.first(2 * x - 1))) / 3 + 1
        return 1 - self.last(self.whole(self.largest(self.average(x))).flatten(1))


def pooled(seed: int) -> nn.Module:
    return shaken(Pooled(), seed)


MODELS = {"dense": dense, "convolutional": convolutional, "own": own}


def scene(
    model: nn.Module,
    images: Batch,
    eps: float,
    *,
    target: float | None = None,
    seed: int = 0,
    tracked: bool = False,
) -> Scene:
    source = generator(seed, "loss")
    return Scene.of(model, images, eps=eps, target=target, generator=source, tracked=tracked)


@dataclass(frozen=True)
class Step:
    """One affine map ``weight @ x + bias`` on flat values; a ReLU follows all but the last."""

    weight: Tensor
    bias: Tensor


def steps(model: nn.Sequential, images: Tensor) -> list[Step]:
    """The affine maps of a ``dense`` model in its mode, BatchNorm by ``images`` in training mode; no gradients."""
    model, found, x = copy.deepcopy(model), [], images
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.Linear):
                found.append(Step(layer.weight.detach(), layer.bias.detach()))
            elif isinstance(layer, nn.BatchNorm1d):
                mean, var = layer.running_mean, layer.running_var
                if layer.training:
                    mean, var = x.mean(0), x.var(0, unbiased=False)
                assert mean is not None and var is not None
                scale = layer.weight / (var + layer.eps).sqrt()
                last = found.pop()
                found.append(Step(scale[:, None] * last.weight, scale * (last.bias - mean) + layer.bias))
            x = layer(x)
    return found


Interval = list[tuple[float, float]]


def loop_intervals(found: Sequence[Step], low: Tensor, high: Tensor, label: int) -> list[Interval]:
    """Interval arithmetic number by number for one box: what enters each ReLU, then outputs less the label's."""
    values: Interval = list(zip(low.flatten().tolist(), high.flatten().tolist(), strict=True))
    entering = []
    for k, step in enumerate(found):
        rows, bias = step.weight.tolist(), step.bias.tolist()
        if k == len(found) - 1:
            rows = [[a - b for a, b in zip(row, rows[label], strict=True)] for row in rows]
            bias = [a - bias[label] for a in bias]
        out = []
        for row, b in zip(rows, bias, strict=True):
            ends = [b, b]
            for a, (lo, hi) in zip(row, values, strict=True):
                ends[0] += a * (lo if a > 0 else hi)
                ends[1] += a * (hi if a > 0 else lo)
            out.append((ends[0], ends[1]))
        entering.append(out)
        values = [(max(lo, 0.0), max(hi, 0.0)) for lo, hi in out]
    return entering


def crown_upper(
    found: Sequence[Step], low: Tensor, high: Tensor, entering: Sequence[Interval], form: Tensor
) -> float:
    """CROWN's upper bound of ``form`` [classes] of the outputs on one box, by matrices."""
    a, const = form.clone(), 0.0
    for k in reversed(range(len(found))):
        const += float(a @ found[k].bias)
        a = a @ found[k].weight
        if k == 0:
            break
        slopes = []
        for c, (lo, hi) in zip(a.tolist(), entering[k - 1], strict=True):
            if lo >= 0:
                slopes.append(c)
            elif hi <= 0:
                slopes.append(0.0)
            elif c > 0:
                slopes.append(c * hi / (hi - lo))
                const -= c * hi * lo / (hi - lo)
            else:
                slopes.append(c if hi > -lo else 0.0)
        a = torch.tensor(slopes, dtype=F64)
    ends = torch.where(a > 0, high.flatten(), low.flatten())
    return const + float(a @ ends)
