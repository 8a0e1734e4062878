"""Bounds on what enters each ReLU, layer by layer: interval first, then linear forms for what that leaves unstable.

Each neuron with an interval l < 0 < u gets two forms, z and -z, bounded over its window of the network (``window.py``);
layers behind use the bounds found before them. One that the box's centre switches off can be stable in one way only:
its upper end is bounded first, and its lower end only where that one leaves it unstable. With ``steps`` the forms'
slopes are optimised, each form its own (alpha-CROWN, Xu et al. 2021, with slopes that are not shared between neurons).
Every bound that is kept was computed by the trusted ``dual_value`` with its rounding subtracted, in float32 where
``Engine.single`` allows it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from certiprune.bounds.interval import Interval, step
from certiprune.bounds.optimise import Index, Parameters, Rates, Walker, ascend
from certiprune.bounds.preact import PreActivation
from certiprune.bounds.relax import Lines, lines
from certiprune.bounds.rows import Rows, neuron_rows
from certiprune.bounds.value import dual_value, magnitudes
from certiprune.bounds.window import Plan, plan
from certiprune.core.box import Box, round_up
from certiprune.net.network import Network
from certiprune.net.ops import Relu


class OutOfTime(Exception):
    """The deadline passed while bounds were computed."""


@dataclass(frozen=True)
class Engine:
    """A network in the two precisions that bounding needs: float64 to prove, float32 to search."""

    exact: Network
    quick: Network
    memory: int

    @staticmethod
    def of(network: Network, device: torch.device | str = "cpu", memory: int = 1 << 30) -> Engine:
        """Both forms on ``device``; ``memory`` is the number of bytes that one batch of forms may take."""
        return Engine(network.to(torch.float64, device), network.to(torch.float32, device), memory)

    @property
    def single(self) -> bool:
        """Whether float32 may prove: only where its sums are plain float32 sums (not TF32, bfloat16 or Winograd's)."""
        if torch.is_autocast_enabled("cpu") or self.quick.device.type != "cpu":
            return False
        backend = torch.backends.mkldnn
        parts = [backend, *(getattr(backend, name, None) for name in ("conv", "matmul"))]
        settings = [getattr(part, "fp32_precision", "ieee") for part in parts]
        # oneDNN's own default for everybody who says nothing; on ARM processors torch follows it.
        settings += [os.environ.get(f"{name}_DEFAULT_FPMATH_MODE", "strict") for name in ("ONEDNN", "DNNL")]
        if not all(setting.lower() in ("ieee", "none", "strict", "") for setting in settings):
            return False
        # Asked last: torch refuses to answer where the newer settings above say otherwise.
        return torch.get_float32_matmul_precision() == "highest" and self.near

    @cached_property
    def near(self) -> bool:
        """Whether float32 holds every weight up to rounding: none is too large for it, and none too small."""
        pairs = zip(self.exact.tensors(), self.quick.tensors(), strict=True)
        unit = torch.finfo(torch.float32).eps / 2
        return all(bool(((q.double() - e).abs() <= unit * e.abs()).all()) for e, q in pairs)

    def chunk(self, way: Plan) -> int:
        """How many forms to take at once: within the memory, and few enough that they stay near the processor."""
        numbers = max(1, way.numel(self.exact))
        return max(16, min(self.memory // (numbers * 100), _NEAR // numbers))


# Numbers of one batch of forms over all values: more no longer fit the processor's caches, and take memory.
_NEAR = 1 << 20


@dataclass(frozen=True)
class Around:
    """What surrounds a form, in both precisions: lines, sizes for rounding, and where slopes are free."""

    engine: Engine
    box: Box
    pre: PreActivation
    exact_lines: dict[int, Lines]
    quick_lines: dict[int, Lines]
    quick_sizes: dict[int, Tensor]
    quick_box: Box
    unstable: dict[int, Tensor]

    @staticmethod
    def of(engine: Engine, box: Box, pre: PreActivation, way: Plan) -> Around:
        """From sound bounds of (at least) every ReLU on the way."""
        exact = {v: t for v, t in lines(pre).items() if v in way.windows}
        single = pre.to(torch.float32)
        quick = {v: t for v, t in lines(single).items() if v in way.windows}
        sizes = magnitudes(engine.exact, box, pre, torch.float32)
        return Around(
            engine,
            box,
            pre,
            exact,
            quick,
            {v: round_up(t, torch.float32) for v, t in sizes.items()},
            box.to(torch.float32),
            {v: single.unstable(v).float() for v in quick},
        )

    @cached_property
    def sizes(self) -> dict[int, Tensor]:
        """For rounding in float64; where float32 proves everything nobody asks."""
        return magnitudes(self.engine.exact, self.box, self.pre)


@dataclass(frozen=True)
class Ends:
    """Which ends of one ReLU's neurons' ranges to bound: two boolean tensors [n, *shape]."""

    lower: Tensor
    upper: Tensor

    def __and__(self, mask: Tensor) -> Ends:
        return Ends(self.lower & mask, self.upper & mask)


def preactivations(
    engine: Engine,
    box: Box,
    *,
    steps: int = 0,
    rates: Rates | None = None,
    known: PreActivation | None = None,
    chosen: Mapping[int, Ends] | None = None,
    deadline: float = math.inf,
    until: float = math.inf,
) -> PreActivation:
    """Sound bounds for every ReLU of every box.

    Args:
        engine: the network.
        box: n boxes in float64.
        steps: iterations of slope optimisation for each form; 0 is CROWN.
        known: sound bounds to start from, kept where they are tighter.
        chosen: by ReLU value, the ends of unstable neurons that are worth it; None for all. Other ends are what
            interval arithmetic, or ``known``, says.
        deadline: a time of ``time.perf_counter`` after which to give up.
        until: such a time after which no more ends are tried, and the bounds are what is known by then.

    Raises:
        OutOfTime: the deadline passed.
    """
    network = engine.exact
    values: list[Interval] = [(box.lower, box.upper)]
    lower: dict[int, Tensor] = {}
    upper: dict[int, Tensor] = {}
    middle = box.lower / 2 + box.upper / 2 if chosen is None else None
    centre = engine.quick.run(middle.float()) if middle is not None else None
    for v, node in enumerate(network.nodes, start=1):
        source = node.inputs[0] if node.inputs else 0
        if isinstance(node.op, Relu):
            low, high = values[source]
            if known is not None:
                low, high = torch.maximum(low, known.lower[v]), torch.minimum(high, known.upper[v])
            unstable = (low < 0) & (high > 0)
            if not any(u in lower for u in network.ancestors(source)):
                passes = []
            elif chosen is not None:
                passes = [chosen[v] & unstable] if v in chosen else []
            else:
                assert centre is not None
                off = ~(centre[source] > 0)
                nothing = torch.zeros_like(unstable)
                passes = [Ends(nothing, unstable & off), Ends(unstable, unstable & ~off)]
            way = plan(network, source, windowed=True)
            around: Around | None = None
            for ends in passes:
                wanted = ends & ((low < 0) & (high > 0))
                if bool((wanted.lower | wanted.upper).any()):
                    around = around or Around.of(engine, box, PreActivation(lower, upper), way)
                    low, high = _tighten(around, way, wanted, low, high, steps, rates, deadline, until)
            lower[v], upper[v] = low, high
            values.append((low.clamp(min=0), high.clamp(min=0)))
        else:
            values.append(step(network, v, [values[i] for i in node.inputs]))
    return PreActivation(lower, upper)


def _tighten(
    around: Around,
    way: Plan,
    ends: Ends,
    low: Tensor,
    high: Tensor,
    steps: int,
    rates: Rates | None,
    deadline: float,
    until: float,
) -> tuple[Tensor, Tensor]:
    """Better ``ends`` of the value that ``way`` starts from, whose ends are ``low`` and ``high`` [n, *shape]."""
    engine, shape = around.engine, low.shape
    low, high = low.flatten(1).clone(), high.flatten(1).clone()
    # In the order of their places, because neurons at one place share a window.
    both = torch.stack([ends.lower, ends.upper], -1).reshape(len(low), shape[1], -1, 2)
    found = both.transpose(1, 2).nonzero()
    for part in found.split(engine.chunk(way)):
        if time.perf_counter() > deadline:
            raise OutOfTime
        if time.perf_counter() > until:
            break
        owner, place, channel, side = part.unbind(1)
        neuron = channel * both.shape[2] + place
        rows = neuron_rows(way, engine.exact, owner, neuron, 1 - 2 * side.double())
        bound = form_bounds(rows, around, steps, rates)
        for end, values, tighter in ((0, low, torch.fmax), (1, high, torch.fmin)):
            item, column = owner[side == end], neuron[side == end]
            # Not ``maximum``: a bound that overflowed to NaN must not replace one that holds.
            values[item, column] = tighter(values[item, column], (1 - 2 * end) * bound[side == end])
    return low.reshape(shape), high.reshape(shape)


def form_bounds(
    rows: Rows, around: Around, steps: int, rates: Rates | None, *, final: bool = False
) -> Tensor:
    """The bounds of ``bound_forms``."""
    return bound_forms(rows, around, steps, rates, final=final)[0]


def bound_forms(
    rows: Rows, around: Around, steps: int, rates: Rates | None, *, final: bool = False
) -> tuple[Tensor, dict[int, Tensor]]:
    """Rigorous lower bounds [m] (float64) of forms, with CROWN's slopes or, with ``steps``, with optimised ones.

    And the coefficients (float32) behind each ReLU on the way at the end of the ascent, by ReLU value, as the forms
    see them; none where there was no ascent.

    Where float32 proves enough it does: ``final`` says that only signs matter, and that forms whose sign float32
    leaves open by its rounding are worth float64.
    """
    best = _prove(rows, around, None, final)
    if steps == 0 or not around.quick_lines:
        return best, {}
    slopes, coeff = optimised(rows, around, steps, rates or Rates())
    return torch.fmax(best, _prove(rows, around, slopes, final)), coeff


def optimised(
    rows: Rows, around: Around, steps: int, rates: Rates
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Lower slopes for each of the forms after ``steps`` iterations, and the coefficients behind each ReLU (float32).

    Both by ReLU value, as the forms see it. The slopes prove nothing until ``dual_value`` is asked.
    """
    quick = {
        v: Lines(*(rows.take(t, v) for t in (a.low, a.up, a.gap))) for v, a in around.quick_lines.items()
    }
    index = Index.whole(quick)
    start = Parameters(
        torch.cat([t.low.flatten(1) for t in quick.values()], 1),
        None,
        torch.cat([rows.take(t, v).flatten(1) for v, t in around.unstable.items()], 1),
    )
    # The walker writes into these lines, which are copies as the forms have owners; CROWN's slopes are in ``start``.
    assert rows.owner is not None
    walker = Walker(around.engine.quick, around.quick_box, rows.to(torch.float32), quick, index)
    end = ascend(walker, start, steps=steps, rates=rates, goal=math.inf)
    # In places where a neuron is stable its slope is not a parameter.
    theta = torch.lerp(start.theta, end.theta.clamp_(0, 1), start.free)
    assert end.trace is not None
    return {v: theta[:, index.columns[v]].reshape(t.low.shape) for v, t in quick.items()}, end.trace.coeff


def _prove(rows: Rows, around: Around, slopes: dict[int, Tensor] | None, final: bool) -> Tensor:
    """The trusted bound of each form, with lower slopes as the forms see them or with CROWN's."""
    engine, box = around.engine, around.box
    if not engine.single:
        return _prove_in(engine.exact, box, rows, around.exact_lines, around.sizes, slopes)
    single = rows.to(torch.float32)
    value = _prove_in(
        engine.quick, around.quick_box, single, around.quick_lines, around.quick_sizes, slopes
    ).double()
    again = ~value.isfinite()
    if final:
        loose = _prove_in(engine.quick, around.quick_box, single, around.quick_lines, None, slopes)
        again |= (value <= 0) & (loose > 0)
    doubt = again.nonzero()[:, 0]
    if len(doubt):
        part = None if slopes is None else {v: t[doubt] for v, t in slopes.items()}
        value[doubt] = _prove_in(engine.exact, box, rows[doubt], around.exact_lines, around.sizes, part)
    return value


def _prove_in(
    network: Network,
    box: Box,
    rows: Rows,
    around: dict[int, Lines],
    sizes: dict[int, Tensor] | None,
    slopes: dict[int, Tensor] | None,
) -> Tensor:
    if slopes is None:
        return dual_value(network, box, rows, around, sizes=sizes)
    seen = {}
    for v, t in slopes.items():
        a = around[v]
        seen[v] = Lines(t.to(a.up.dtype), rows.take(a.up, v), rows.take(a.gap, v))
    return dual_value(network, box, rows, seen, seen=True, sizes=sizes)
