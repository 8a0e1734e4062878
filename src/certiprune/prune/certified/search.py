"""The search for neurons that are off, or on, on a whole domain.

Intervals come first; what they leave open gets linear forms, with CROWN's slopes and then with optimised ones (Xu et
al. 2021). Only units can be removed, so forms are spent on units of which no neuron was seen on (or off) at any sample.
Nothing here is trusted: what comes out are the forms, and ``evaluate`` says what they prove.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from certiprune.bounds import Engine, PreActivation
from certiprune.bounds.intermediate import Around, Ends, optimised
from certiprune.bounds.interval import Interval
from certiprune.bounds.optimise import Rates
from certiprune.bounds.window import plan
from certiprune.core.box import Box
from certiprune.core.errors import InputError
from certiprune.core.rng import generator
from certiprune.net.digest import digest
from certiprune.net.liveness import units
from certiprune.net.network import Network
from certiprune.net.ops import Add, Conv, Dense, Relu, Scale, Shape
from certiprune.prune.certified.evaluate import intervals, look, tightened
from certiprune.prune.certified.proof import Forms, Proof

Domain = Box | tuple[float, float]
"""Where a proof holds: one box [1, *input_shape], or the smallest and the largest value of every input."""

_SAMPLES = 256
# Numbers of all values of the samples that are looked at together.
_BATCH = 1 << 23


@torch.no_grad()
def prove(network: Network, *, domain: Domain = (0.0, 1.0), steps: int = 20) -> Proof:
    """What can be proved of ``network``'s ReLUs for every input in ``domain``.

    Args:
        network: in float64, as ``lower`` makes it.
        domain: one box, or the ends of every input's range, in input units.
        steps: iterations of slope optimisation for ends that CROWN's slopes leave open; 0 for none.

    Raises:
        InputError: the network is not in float64, or the domain does not fit it.
    """
    if network.dtype != torch.float64:
        raise InputError("bounds are proved of networks in float64; lower the model in that precision")
    box = box_of(domain, network.input_shape)
    engine = Engine.of(network)
    search = _Search(engine, box, _hopes(engine.exact, box), steps)
    _, bounds = intervals(engine.exact, box, search)
    return Proof(digest(network), box, Proof.recorded(bounds), search.forms)


def box_of(domain: Domain, shape: Shape) -> Box:
    """The one box of a domain.

    Raises:
        InputError: it does not fit inputs of ``shape``, or is not finite.
    """
    if isinstance(domain, Box):
        box = domain.to("cpu", torch.float64)
    else:
        try:
            low, high = (torch.full((1, *shape), float(end), dtype=torch.float64) for end in domain)
        except (TypeError, ValueError) as error:
            raise InputError(f"the domain must be a box or two numbers, not {domain!r}") from error
        box = Box(low, high)
    if box.lower.shape != (1, *shape) or not bool((box.lower.isfinite() & box.upper.isfinite()).all()):
        raise InputError(f"the domain must be one finite box of shape {[1, *shape]}")
    return box


class _Search:
    """Tightens each ReLU's bounds in turn, and keeps the forms that did."""

    def __init__(self, engine: Engine, box: Box, hopes: Mapping[int, Ends], steps: int) -> None:
        self.engine, self.box, self.hopes, self.steps = engine, box, hopes, steps
        self.forms: dict[int, tuple[Forms, ...]] = {}

    def __call__(self, relu: int, ends: Interval, before: PreActivation) -> Interval:
        network = self.engine.exact
        if _exact(network, network.node(relu).inputs[0]):
            return ends
        found = []
        open_ = self._open(relu, ends)
        if len(open_):
            better = tightened(network, self.box, relu, ends, before, open_)
            useful = open_[_moved(ends, better, open_)]
            found += [useful] if len(useful) else []
            ends, open_ = better, self._open(relu, better)
        if len(open_) and self.steps and before.lower:
            ends, proving = self._optimised(relu, ends, before, open_)
            found += [proving] if len(proving) else []
        if found:
            self.forms[relu] = tuple(found)
        return ends

    def _open(self, relu: int, ends: Interval) -> Forms:
        """The ends of neurons that there is hope for, and that are not proved yet."""
        hope = self.hopes[relu]
        parts = [(hope.lower & (ends[0][0] < 0), False), (hope.upper & (ends[1][0] > 0), True)]
        neuron = [mask.flatten().nonzero()[:, 0] for mask, _ in parts]
        upper = [
            torch.full_like(n, side, dtype=torch.bool) for n, (_, side) in zip(neuron, parts, strict=True)
        ]
        return Forms(torch.cat(neuron), torch.cat(upper))

    def _optimised(
        self, relu: int, ends: Interval, before: PreActivation, open_: Forms
    ) -> tuple[Interval, Forms]:
        """Bounds by optimised slopes, and those of the forms that prove a sign (slopes take space)."""
        network = self.engine.exact
        way = plan(network, network.node(relu).inputs[0], windowed=True)
        around = Around.of(self.engine, self.box, before, way)
        kept: list[Forms] = []
        size = self.engine.chunk(way)
        for at in range(0, len(open_) if around.quick_lines else 0, size):
            part = open_[at : at + size]
            slopes, _ = optimised(look(network, relu, part), around, self.steps, Rates())
            part = Forms(part.neuron, part.upper, {v: t.nan_to_num(0.0) for v, t in slopes.items()})
            low, high = tightened(network, self.box, relu, ends, before, part)
            proving = torch.where(
                part.upper, high.flatten()[part.neuron] <= 0, low.flatten()[part.neuron] >= 0
            )
            if bool(proving.any()):
                kept.append(part[proving])
                ends = tightened(network, self.box, relu, ends, before, kept[-1])
        return ends, _joined(kept)


def _exact(network: Network, value: int) -> bool:
    """Whether intervals lose nothing up to ``value``: all but one affine map of the input only moves numbers about."""
    ops = [network.node(v).op for v in network.ancestors(value) if v]
    return not any(isinstance(op, Relu | Add) for op in ops) and (
        sum(isinstance(op, Conv | Dense | Scale) for op in ops) <= 1
    )


def _moved(old: Interval, new: Interval, forms: Forms) -> Tensor:
    """Which of the forms [m] made an end tighter."""
    down, up = ((a != b).flatten()[forms.neuron] for a, b in zip(old, new, strict=True))
    return torch.where(forms.upper, up, down)


def _joined(parts: list[Forms]) -> Forms:
    if not parts:
        return Forms(torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool))
    slopes = {v: torch.cat([p.slopes[v] for p in parts]) for v in parts[0].slopes}
    return Forms(torch.cat([p.neuron for p in parts]), torch.cat([p.upper for p in parts]), slopes)


def _hopes(network: Network, box: Box) -> dict[int, Ends]:
    """The ends of neurons whose whole unit was off (upper ends) or on (lower ends) at every sample, [*shape]."""
    unit = torch.rand(
        _SAMPLES, *network.input_shape, generator=generator(0, "stable units"), dtype=torch.float64
    )
    unit[: _SAMPLES // 2] = unit[: _SAMPLES // 2].round()  # corners
    points = box.clamp(box.lower + unit * (box.upper - box.lower))
    sources = {v: network.node(v).inputs[0] for v in network.relus}
    seen = {v: Ends(*(torch.zeros(network.shapes[v], dtype=torch.bool) for _ in range(2))) for v in sources}
    numbers = sum(math.prod(shape) for shape in network.shapes)
    for part in points.split(max(1, _BATCH // numbers)):
        values = network.run(part)
        for v, source in sources.items():
            entering = values[source]
            seen[v] = Ends(
                seen[v].lower | (entering < 0).any(0),
                seen[v].upper | (entering > 0).any(0),
            )
    return {v: Ends(_whole(~s.lower), _whole(~s.upper)) for v, s in seen.items()}


def _whole(mask: Tensor) -> Tensor:
    """``mask`` [*shape] where it holds for all of a unit."""
    whole = ~units(~mask)
    return whole.reshape(-1, *(1,) * (mask.dim() - 1)).expand(mask.shape)
