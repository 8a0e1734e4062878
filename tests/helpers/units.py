"""Small modules whose units are coupled in every way, and the check that pruned units are gone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from certiprune.core.mask import Mask
from certiprune.net import compact, lower
from certiprune.net.trace import places, trace
from certiprune.prune.groups import Groups
from helpers.networks import Source
from helpers.training import own, shaken

SHAPE = (2, 6, 6)


class Net(nn.Module):
    """Layers by name, and a forward pass that is a function of them."""

    def __init__(self, forward: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(inputs: int, outputs: int, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


@dataclass(frozen=True)
class Case:
    """A module and the weights of each of its groups, the layers left to be ``all``."""

    forward: Callable[[Any, Tensor], Tensor]
    layers: Mapping[str, nn.Module]
    wanted: Mapping[str, tuple[str, ...]]
    lowers: bool = True

    def module(self, seed: int = 0) -> nn.Module:
        return shaken(Net(self.forward, **copy.deepcopy(dict(self.layers))), seed).eval()


def _ends(net: Any, x: Tensor) -> Tensor:
    return net.last(torch.flatten(x, 1))


def _last(channels: int) -> nn.Linear:
    return nn.Linear(channels * 36, 3)


def _sums(net: Any, x: Tensor) -> Tensor:
    a, b, c = net.a(x), net.b(x), net.c(x)
    first = F.relu(a + b)
    return _ends(net, net.relu(net.d(first) - (c + first)) + net.relu(net.e(x)))


def _shared(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.a(x))
    return _ends(net, net.relu(net.b(net.relu(net.norm(net.b(x))))))


def _depthwise(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.norm(net.deep(net.a(x))))
    return _ends(net, F.max_pool2d(net.relu(net.b(x)), 3, 1, 1))


def _before_relu(net: Any, x: Tensor) -> Tensor:
    x = net.a(x)
    x = x + net.b(F.relu(net.norm1(x)))
    return _ends(net, 0.5 * F.relu(net.norm2(x)) / 3)


def _flat(net: Any, x: Tensor) -> Tensor:
    x = net.b(net.a(x)).view(x.size(0), -1)
    return net.last(F.dropout(x.relu().contiguous(), training=False).flatten(1))


def _neurons(net: Any, x: Tensor) -> Tensor:
    x = F.relu(net.norm(net.a(torch.flatten(x, 1))))
    return net.last(F.relu(x + net.b(x)).reshape(-1, 5))


def _twice(net: Any, x: Tensor) -> Tensor:
    return _ends(net, net.relu(net.a(x)) + net.relu(net.b(net.relu(net.a(x)))))


def _nowhere(net: Any, x: Tensor) -> Tensor:
    x = net.relu(net.a(x))
    net.d(x)
    return net.last(net.relu(net.b(x)).view(net.c(x).size(0), -1))


def _pools(net: Any, x: Tensor) -> Tensor:
    x = F.avg_pool2d(net.largest(net.relu(net.a(x))), 3, 1, 1)
    return net.last(net.whole(net.average(net.relu(net.norm(net.b(x))))).flatten(1))


def _through(step: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A step between two convolutions ``a`` and ``b``."""

    def forward(net: Any, x: Tensor) -> Tensor:
        return _ends(net, net.relu(net.b(net.relu(step(net, net.a(x))))))

    return forward


_TWO = {"a": conv(2, 4), "b": conv(4, 4), "relu": nn.ReLU(), "last": _last(4)}
_B_ONLY = {"b": ("b.weight",)}

CASES: dict[str, Case] = {
    "plain": Case(_through(lambda n, x: x), _TWO, {"a": ("a.weight",), "b": ("b.weight",)}),
    "sums of sums": Case(
        _sums,
        {**{key: conv(2, 4) for key in "abce"}, "d": conv(4, 4), "relu": nn.ReLU(), "last": _last(4)},
        {"a": tuple(f"{key}.weight" for key in "abcde")},
    ),
    "a layer in two places": Case(
        _shared,
        {**_TWO, "norm": nn.BatchNorm2d(4)},
        {"a": ("a.weight",), "b": ("b.weight",)},
    ),
    "a layer that reads two sets": Case(
        _twice,
        {"a": conv(2, 4), "b": conv(4, 4), "relu": nn.ReLU(), "last": _last(4)},
        {"a": ("a.weight", "b.weight")},
    ),
    "depthwise": Case(
        _depthwise,
        {**_TWO, "deep": conv(4, 4, groups=4, bias=False), "norm": nn.BatchNorm2d(4)},
        {"a": ("a.weight", "deep.weight"), "b": ("b.weight",)},
    ),
    "BatchNorm behind a sum": Case(
        _before_relu,
        {**_TWO, "norm1": nn.BatchNorm2d(4), "norm2": nn.BatchNorm2d(4)},
        {"a": ("a.weight", "b.weight")},
    ),
    "a ReLU behind flattening": Case(
        _flat, {**_TWO, "b": conv(4, 4, bias=False)}, {"a": ("a.weight",), "b": ("b.weight",)}
    ),
    "neurons": Case(
        _neurons,
        {"a": nn.Linear(72, 5), "norm": nn.BatchNorm1d(5), "b": nn.Linear(5, 5), "last": nn.Linear(5, 3)},
        {"a": ("a.weight", "b.weight")},
    ),
    "the input in a sum": Case(
        lambda n, x: _ends(n, n.relu(n.b(n.relu(n.a(x) + x)))),
        {**_TWO, "a": conv(2, 2), "b": conv(2, 4)},
        _B_ONLY,
    ),
    "an output": Case(lambda n, x: n.b(n.relu(n.a(x))).flatten(1), _TWO, {"a": ("a.weight",)}),
    "a grouped convolution": Case(
        _through(lambda n, x: n.some(x)), {**_TWO, "some": conv(4, 4, groups=2)}, _B_ONLY
    ),
    "more outputs than groups": Case(
        _through(lambda n, x: n.some(x)),
        {**_TWO, "some": conv(4, 8, groups=4), "b": conv(8, 4)},
        _B_ONLY,
    ),
    "a shift": Case(_through(lambda n, x: F.relu(x) + 1), _TWO, _B_ONLY),
    "a shift by a parameter": Case(_through(lambda n, x: x - n.a.bias.reshape(-1, 1, 1)), _TWO, _B_ONLY),
    "a sum of flat values": Case(
        lambda n, x: n.last(n.relu(n.a(x).flatten(1) + n.b(n.relu(n.c(x))).flatten(1))),
        {**_TWO, "c": conv(2, 4)},
        {"c": ("c.weight",)},
    ),
    "another shape": Case(
        lambda n, x: _ends(n, n.relu(n.b(n.relu(n.a(x)).reshape(-1, 8, 3, 6)))),
        {**_TWO, "b": conv(8, 8)},
        _B_ONLY,
    ),
    "no scale": Case(
        _through(lambda n, x: n.norm(x)), {**_TWO, "norm": nn.BatchNorm2d(4, affine=False)}, _B_ONLY
    ),
    "a sum of different sizes": Case(
        _through(lambda n, x: x + n.one(x)), {**_TWO, "one": conv(4, 1)}, _B_ONLY, lowers=False
    ),
    "a product": Case(_through(lambda n, x: x * n.b(x)), _TWO, {}, lowers=False),
    "over a value": Case(_through(lambda n, x: 1 / x), _TWO, _B_ONLY, lowers=False),
    "a step that nobody knows": Case(_through(lambda n, x: torch.sigmoid(x)), _TWO, _B_ONLY, lowers=False),
    "a layer that nobody knows": Case(
        _through(lambda n, x: n.soft(x)), {**_TWO, "soft": nn.Softplus()}, _B_ONLY, lowers=False
    ),
    "channels side by side": Case(
        _through(lambda n, x: torch.cat([x, x], 1)[:, :4]), _TWO, _B_ONLY, lowers=False
    ),
    "a weight that is read by itself": Case(
        _through(lambda n, x: x + F.conv2d(F.relu(x), n.b.weight, padding=1)), _TWO, {}, lowers=False
    ),
    "a computed weight": Case(
        _through(lambda n, x: x),
        {**_TWO, "a": parametrizations.weight_norm(conv(2, 4))},
        _B_ONLY,
        lowers=False,
    ),
    "branches to nowhere": Case(
        _nowhere, {**_TWO, "c": conv(4, 4), "d": conv(4, 4)}, {"a": ("a.weight",), "b": ("b.weight",)}
    ),
    "pools": Case(
        _pools,
        {
            **_TWO,
            "norm": nn.BatchNorm2d(4),
            "largest": nn.MaxPool2d(2),
            "average": nn.AvgPool2d(3, 1, 1, count_include_pad=False),
            "whole": nn.AdaptiveAvgPool2d(1),
            "last": nn.Linear(4, 3),
        },
        {"a": ("a.weight",), "b": ("b.weight",)},
    ),
}


def tied(seed: int = 0) -> nn.Module:
    """Two convolutions with one weight."""
    layers = copy.deepcopy({**_TWO, "a": conv(4, 4), "first": conv(2, 4)})
    module = Net(lambda n, x: _ends(n, n.relu(n.b(n.relu(n.a(n.relu(n.first(x))))))), **layers)
    module.get_submodule("b").weight = module.get_submodule("a").weight
    return shaken(module, seed).eval()


def random_units(found: Groups, seed: int, share: float = 0.6) -> Mask:
    """A random mask of units that keeps at least one of each group."""
    source = Source.of(seed)
    keep = {name: source.uniform(group.size) < share for name, group in found.items()}
    for units in keep.values():
        units[source.whole(0, len(units) - 1)] = True
    return Mask(keep)


def values_at_relus(model: nn.Module, x: Tensor) -> dict[tuple[str, int], Tensor]:
    """What every ReLU of the module itself makes of ``x``."""
    steps = trace(model)
    relus, found = steps.relus(), {}

    class Run(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            found_here = super().run_node(n)
            if n in relus:
                found[relus[n]] = found_here.clone()
            return found_here

    with torch.no_grad():
        Run(steps.module, graph=steps.graph).run(x)
    return found


def check_gone(model: nn.Module, found: Groups, units: Mask, shape: tuple[int, ...], *, exact: bool) -> None:
    """Pruned units are 0 behind ReLUs, compaction removes them (``exact``: and no others), and no output moves."""
    pruned = copy.deepcopy(model).double().eval()
    found.expand(pruned, units).apply_(pruned)
    x = 3 * Source.of(17).normal(4, *shape)
    for training in (True, False):
        seen = values_at_relus(copy.deepcopy(pruned).train(training), x)
        for name, group in found.items():
            for place in group.relus:
                by_unit = seen[place].reshape(len(x), group.size, -1)
                assert not bool(by_unit[:, ~units[name]].any()), (name, place)
    network = lower(pruned, shape=shape)
    small, record = compact(network)
    torch.testing.assert_close(small(x), pruned(x).flatten(1), rtol=1e-9, atol=1e-9)
    left = {origin.value: origin.kept for origin in record.origins.values()}
    for name, group in found.items():
        for place in group.relus:
            value = places(network)[place]
            width = network.shapes[value][0] // group.size
            kept = {int(k) // width for k in left.get(value, torch.zeros(0))}
            wanted = set(units[name].nonzero()[:, 0].tolist())
            assert kept == wanted if exact else kept <= wanted, (name, place)


def weights_of(found: Groups) -> dict[str, tuple[str, ...]]:
    return {name: group.weights for name, group in found.items()}


def modules() -> Iterable[tuple[str, nn.Module, tuple[int, ...]]]:
    """Every module here that lowers and has groups, with its input's shape."""
    for name, case in CASES.items():
        if case.lowers and case.wanted:
            yield name, case.module(), SHAPE
    yield "tied", tied(), SHAPE
    yield "own", own(0).eval(), (1, 4, 4)
