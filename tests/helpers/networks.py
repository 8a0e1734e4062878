"""Random small networks of every shape that the library takes, and random questions about them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from certiprune.core.box import Box
from certiprune.core.margin import Margin
from certiprune.core.mask import Mask
from certiprune.net import Network, compact, lower
from certiprune.net.build import Builder
from certiprune.net.ops import Conv, Dense
from certiprune.verify import Problem

F64 = torch.float64


@dataclass(frozen=True)
class Source:
    """Random numbers for one network or question, all from one seed."""

    generator: torch.Generator

    @staticmethod
    def of(seed: int) -> Source:
        return Source(torch.Generator().manual_seed(seed))

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=F64)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(*shape, generator=self.generator, dtype=F64)

    def whole(self, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def dense(self, out: int, inputs: int) -> Dense:
        return Dense(self.normal(out, inputs) / inputs**0.5, 0.3 * self.normal(out))

    def conv(self, out: int, inputs: int, size: int, stride: int, padding: int) -> Conv:
        weight = self.normal(out, inputs, size, size) / (inputs * size * size) ** 0.5
        return Conv(weight, 0.3 * self.normal(out, 1, 1), (stride, stride), (padding, padding))


def mlp(source: Source, relus: int) -> Network:
    """One to three hidden layers of about ``relus`` neurons in all."""
    depth = source.whole(1, 3)
    inputs, outputs = source.whole(2, 4), source.whole(2, 4)
    b = Builder((inputs,))
    value, width = 0, inputs
    for _ in range(depth):
        wide = max(2, relus // depth)
        value, width = b.relu(b.emit(source.dense(wide, width), value)), wide
    return b.finish(b.emit(source.dense(outputs, width), value))


def residual_mlp(source: Source, relus: int) -> Network:
    """A sum around a hidden layer, without a ReLU behind it, and one around the whole network."""
    inputs, wide = source.whole(2, 3), max(2, relus // 2)
    b = Builder((inputs,))
    first = b.relu(b.emit(source.dense(wide, inputs), 0))
    second = b.relu(b.emit(source.dense(wide, wide), first))
    total = b.add(first, second, b.emit(source.dense(wide, inputs), 0))
    return b.finish(b.emit(source.dense(source.whole(2, 3), wide), total))


def conv_net(source: Source, relus: int) -> Network:
    """Strided and padded convolutions with batch norm, lowered from a module."""
    stride = source.whole(1, 2)
    side, channels = (3, 1) if stride == 1 else (4, max(1, relus // 8))
    padding = source.whole(0, 1)
    size = 2 if padding == 0 else 3
    out = (side + 2 * padding - size) // stride + 1
    module = nn.Sequential(
        nn.Conv2d(1, channels, size, stride, padding),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(channels * out * out, max(2, relus // 3)),
        nn.ReLU(),
        nn.Linear(max(2, relus // 3), 3),
    )
    return lowered(module, source, (1, side, side))


def pooled_net(source: Source, relus: int) -> Network:
    """Max or average pooling behind a convolution; a maximum of four costs three ReLUs."""
    pool: nn.Module = nn.MaxPool2d(2) if source.whole(0, 1) else nn.AvgPool2d(2, padding=1)
    module = nn.Sequential(nn.Conv2d(1, 1, 2), nn.ReLU(), pool, nn.Flatten())
    width = module(torch.zeros(1, 1, 3, 3)).shape[1]
    wide = max(2, relus // 4)
    module.extend([nn.Linear(width, wide), nn.ReLU(), nn.Linear(wide, 2)])
    return lowered(module, source, (1, 3, 3))


def residual_conv(source: Source, relus: int) -> Network:
    """A convolution with a sum around it, a scaling that varies along one dimension, and windows that stick out."""
    side = 2 if relus < 12 else 3
    b = Builder((1, side, side))
    first = b.relu(b.emit(source.conv(1, 1, 3, 1, 1), 0))
    scaled = b.scale(first, source.normal(side), source.normal(side))
    total = b.add(b.emit(source.conv(1, 1, 3, 1, 1), first), scaled)
    second = b.flatten(b.relu(total))
    return b.finish(b.emit(source.dense(2, side * side), second))


class Around(nn.Module):
    """A sum around layers."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x


def pruned(source: Source, relus: int) -> Network:
    """Lowered with a random mask that leaves weights, and whole units, out, then compacted."""
    shape: tuple[int, ...] = (1, 3, 3)
    if source.whole(0, 1):
        wide = relus // 2 + 1
        shape = (3,)
        module = nn.Sequential(
            nn.Linear(3, wide), nn.BatchNorm1d(wide), nn.ReLU(), Around(nn.Linear(wide, wide)), nn.ReLU()
        )
        module.append(nn.Linear(wide, 3))
    else:
        channels, wide = max(2, relus // 6), 2 + relus // 6
        module = nn.Sequential(nn.Conv2d(1, channels, 2, 2, 1), nn.BatchNorm2d(channels), nn.ReLU())
        if relus >= 12:
            module.extend([Around(nn.Conv2d(channels, channels, 3, 1, 1)), nn.ReLU()])
        module.extend([nn.Flatten(), nn.Linear(4 * channels, wide), nn.ReLU(), nn.Linear(wide, 2)])
    weights = {name: p for name, p in module.named_parameters() if p.dim() > 1}
    keep = {name: source.uniform(*p.shape) < 0.8 for name, p in weights.items()}
    keep.popitem()
    for kept in keep.values():
        kept[source.whole(0, len(kept) - 1)] = False
    return compact(lowered(module, source, shape, Mask(keep)))[0]


def lowered(module: nn.Module, source: Source, shape: tuple[int, ...], mask: Mask | None = None) -> Network:
    """``module`` with random parameters and batch statistics, as a network."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 4
            parameter.copy_(source.normal(*parameter.shape) / fan**0.5 + (1.0 if "1.weight" in name else 0.0))
        for buffer in module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(0.5 + source.uniform(*buffer.shape))
    return lower(module.eval(), shape=shape, mask=mask)


def images(seed: int) -> Network:
    """A convolutional network with windows of several kinds: strides, padding, sums, a scaling, an even kernel."""
    source = Source.of(seed)
    side = source.whole(6, 8)
    b = Builder((2, side, side))
    first = b.relu(b.emit(source.conv(2, 2, 3, 1, 1), 0))
    shift = source.normal(*[(side,), (side, side), (2, 1, 1)][seed % 3])
    bent = b.scale(first, 1.0 + source.uniform(2, 1, 1), shift)
    total = b.add(b.emit(source.conv(2, 2, 3, 1, 1), first), bent)
    second = b.relu(total) if seed % 2 else total
    third = b.relu(b.emit(source.conv(2, 2, 2 + seed % 2, 2, 1), second))
    fourth = b.relu(b.emit(source.conv(1, 2, 3, 1, 1), third))
    flat = b.flatten(fourth)
    return b.finish(b.emit(source.dense(2, b.shapes[flat][0]), flat))


KINDS = {
    "mlp": mlp,
    "residual_mlp": residual_mlp,
    "conv_net": conv_net,
    "pooled_net": pooled_net,
    "residual_conv": residual_conv,
    "pruned": pruned,
}


def random_network(seed: int, relus: int = 8, kind: str | None = None) -> Network:
    """A network with about ``relus`` ReLU neurons; kinds follow each other with the seed."""
    build = KINDS[kind or list(KINDS)[seed % len(KINDS)]]
    return build(Source.of(seed), relus)


def random_box(seed: int, network: Network, n: int = 1, radius: float | None = None) -> Box:
    """``n`` boxes around points of [0, 1], not clipped, with half widths from tiny to the whole domain."""
    source = Source.of(seed + 7919)
    centre = source.uniform(n, *network.input_shape)
    width = (
        radius if radius is not None else 0.05 + 0.6 * source.uniform(n, *([1] * len(network.input_shape)))
    )
    return Box(centre - width, centre + width)


def random_points(seed: int, box: Box, n: int) -> Tensor:
    """``n`` points of the one box [n, *shape]: uniform ones, then corners."""
    source = Source.of(seed + 104729)
    unit = source.uniform(n, *box.lower.shape[1:])
    unit[n // 2 :] = unit[n // 2 :].round()
    return box.clamp(box.lower + unit * (box.upper - box.lower))


def random_margin(seed: int, outputs: int, n: int = 1, most_rows: int = 3) -> Margin:
    """Properties of up to three clauses, of up to ``most_rows`` rows each."""
    source = Source.of(seed + 15485863)
    clause = [c for c in range(source.whole(1, 3)) for _ in range(source.whole(1, most_rows))]
    return Margin(source.normal(n, len(clause), outputs), source.normal(n, len(clause)), torch.tensor(clause))


def single(network: Network, box: Box, row: list[float], offset: float = 0.0) -> Problem:
    """The one question whether ``row @ f(x) + offset`` is positive on the one box."""
    matrix = torch.tensor(row, dtype=F64).reshape(1, 1, network.outputs)
    margin = Margin(matrix, torch.tensor([[offset]], dtype=F64), torch.zeros(1, dtype=torch.int64))
    return Problem(box, margin, box.centre)
