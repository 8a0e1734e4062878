"""Ascent on the slopes and multipliers of ``value.dual_value``, in float32 and without automatic differentiation.

The dual function g is a minimum over the box of a form that is linear in each parameter, so at the minimiser x* of the
current form (Danskin) its gradient is read off one forward pass through the chosen lines:
    z = value that enters a ReLU when h = low z where c > 0, up z + gap where c <= 0, started from x*
    dg / dalpha_j = max(c_j, 0) z_j,        dg / dbeta_j = -s_j z_j,        g = c_out f(x*) - sum beta_j s_j z_j.
One iteration is one walk back (coefficients) and one walk forward (values); constants are needed in neither.
Nothing here is trusted: what comes out are parameters, and ``dual_value`` says what they prove.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from certiprune.bounds.mix import Mix, shift
from certiprune.bounds.relax import Lines
from certiprune.bounds.rows import Rows, gather
from certiprune.core.box import Box
from certiprune.net.network import Network
from certiprune.net.ops import Affine, Relu


@dataclass(frozen=True)
class Rates:
    """How the ascent moves: Adam with one rate for slopes and one for multipliers, falling by ``decay`` a step.

    A multiplier is a coefficient of what enters a split neuron, so its rate is in units of the mean absolute
    coefficient behind the form's split neurons: the ascent is the same however a network's layers are scaled.
    The weights of a clause's rows (``mix.py``) move by ``weight``.
    """

    alpha: float = 0.1
    beta: float = 0.5
    decay: float = 0.9
    momentum: float = 0.5
    second: float = 0.9
    weight: float = 0.01


@dataclass(frozen=True)
class Index:
    """Which neurons carry a parameter.

    Attributes:
        columns: ReLU value -> the range of columns in a parameter row.
        neuron: ReLU value -> [m, k] int64 flat neuron numbers. A column that stands for no neuron points at a
            neuron that carries no parameter. Empty: every neuron in sight has a column, in the coefficients' order.
    """

    columns: Mapping[int, slice]
    neuron: Mapping[int, Tensor]

    @staticmethod
    def whole(lines: Mapping[int, Lines]) -> Index:
        """A column for every neuron of lines that are as the forms see them."""
        columns, at = {}, 0
        for v, here in lines.items():
            width = here.low[0].numel()
            columns[v] = slice(at, at + width)
            at += width
        return Index(columns, {})

    def __getitem__(self, rows: Tensor) -> Index:
        return Index(self.columns, {v: t[rows] for v, t in self.neuron.items()})


@dataclass
class Parameters:
    """One row of parameters per form: the lower slope of a free neuron, the multiplier of a split one.

    Attributes:
        theta: [m, k], or [m, k + r] with the weights of r rows (``mix.py``).
        sign: [m, k]: -1 split off, 0 free, +1 split on. ``None`` where nothing is split.
        free: [m, k] 1.0 where the column is an unstable, unsplit neuron, else 0.0.
        goal: None, or [m, k] what is bounded besides the form: ``goal @ z`` over the neurons' entering values. The
            form is then a constraint "form <= 0" with a multiplier of its own, the last column, and the weights stay.
    """

    theta: Tensor
    sign: Tensor | None
    free: Tensor
    goal: Tensor | None = None

    def __getitem__(self, rows: Tensor) -> Parameters:
        sign, goal = (None if t is None else t[rows] for t in (self.sign, self.goal))
        return Parameters(self.theta[rows], sign, self.free[rows], goal)

    @property
    def weight(self) -> Tensor:
        """The rows' weights [m, r], a view."""
        end = self.theta.shape[1] - (self.goal is not None)
        return self.theta[:, self.free.shape[1] : end]


@dataclass
class Trace:
    """What one iteration saw: by ReLU value, the coefficients behind it, and what enters it at the minimiser.

    ``value`` [m] is the bound, ``form`` [m] the form's own part of it before its multiplier; ``rows`` [m, r] are the
    values of the rows that the form is a mean of.
    """

    coeff: dict[int, Tensor]
    entering: dict[int, Tensor]
    minimiser: Tensor
    value: Tensor
    form: Tensor
    rows: Tensor | None = None

    def __getitem__(self, keep: Tensor) -> Trace:
        return Trace(
            {v: t[keep] for v, t in self.coeff.items()},
            {v: t[keep] for v, t in self.entering.items()},
            self.minimiser[keep],
            self.value[keep],
            self.form[keep],
            None if self.rows is None else self.rows[keep],
        )


class AbstractWalker(ABC):
    """Walks ``m`` forms back and forth, and knows how their bounds change with the parameters."""

    @abstractmethod
    def narrow(self, keep: Tensor) -> None:
        """Go on with the forms at ``keep`` only."""

    @abstractmethod
    def set(self, parameters: Parameters) -> None:
        """Take the parameters' slopes, multipliers and goals for the walks to come."""

    @abstractmethod
    def walk(self) -> Trace:
        """One walk back and one forward."""

    @abstractmethod
    def behind(self, trace: Trace) -> Tensor:
        """The coefficients behind the neurons that carry a parameter, [m, k]."""

    @abstractmethod
    def gradient(self, trace: Trace, parameters: Parameters) -> Tensor:
        """The gradient of the values with respect to each form's parameters, [m, k]."""


class Walker(AbstractWalker):
    """Walks through the whole network; ``lines`` are as the forms see them, and are written to.

    With ``mix`` the forms are means of its rows, by the parameters' weights.
    """

    def __init__(
        self,
        network: Network,
        box: Box,
        rows: Rows,
        lines: dict[int, Lines],
        index: Index,
        mix: Mix | None = None,
    ):
        self.network, self.rows, self.index, self.mix = network, rows, index, mix
        self.low_end, self.high_end = rows.take(box.lower, 0), rows.take(box.upper, 0)
        self.lines = lines
        self.pushes: dict[int, tuple[Tensor, Tensor]] = {}
        self.weight: Tensor | None = None

    def narrow(self, keep: Tensor) -> None:
        self.rows = self.rows[keep]
        self.low_end, self.high_end = self.low_end[keep], self.high_end[keep]
        self.lines = {v: Lines(t.low[keep], t.up[keep], t.gap[keep]) for v, t in self.lines.items()}
        self.index = self.index[keep]
        self.mix = None if self.mix is None else self.mix[keep]

    def set(self, parameters: Parameters) -> None:
        if self.mix is not None:
            coeff, const = self.mix.form(parameters.weight)
            self.rows = replace(self.rows, coeff=coeff, const=const)
        for v, here in self.lines.items():
            columns = self.index.columns[v]
            theta = parameters.theta[:, columns]
            low = here.low.view(len(theta), -1)
            if not self.index.neuron:
                low.copy_(theta)
            elif parameters.sign is None:
                low.scatter_(1, self.index.neuron[v], theta)
            else:
                neuron, sign = self.index.neuron[v], parameters.sign[:, columns]
                low.scatter_(1, neuron, torch.where(sign == 0, theta, sign.clamp(min=0)))
                amount = -sign * theta
                if parameters.goal is not None:
                    amount = amount + parameters.goal[:, columns]
                self.pushes[v] = (neuron, amount)
        if parameters.goal is not None:
            self.weight = parameters.theta[:, -1]

    def walk(self) -> Trace:
        network, rows, pushes = self.network, self.rows, self.pushes
        form = {rows.plan.start: rows.coeff if self.weight is None else rows.coeff * self.weight.unsqueeze(1)}
        slopes: dict[int, tuple[Tensor, Tensor]] = {}
        coeff: dict[int, Tensor] = {}
        minimiser = self.low_end
        for v in rows.plan.order:
            c = form.pop(v)
            if v == 0:
                minimiser = torch.lerp(self.high_end, self.low_end, positive(c))
                break
            node = network.node(v)
            if isinstance(node.op, Relu):
                here = self.lines[v]
                above = positive(c)
                slope = torch.lerp(here.up, here.low, above)
                slopes[v] = slope, torch.addcmul(here.gap, here.gap, above, value=-1)
                coeff[v] = c
                back = c * slope
                if v in pushes:
                    index, amount = pushes[v]
                    back.view(len(back), -1).scatter_add_(1, index, amount)
                parts = [(node.inputs[0], rows.carry(v, node.inputs[0], back, network))]
            else:
                parts = rows.pull(network, v, c)
            gather(form, parts)
        return self._forward(minimiser, slopes, coeff)

    def _forward(
        self,
        minimiser: Tensor,
        slopes: Mapping[int, tuple[Tensor, Tensor]],
        coeff: dict[int, Tensor],
    ) -> Trace:
        network, rows, pushes = self.network, self.rows, self.pushes
        values = {0: minimiser}
        entering: dict[int, Tensor] = {}
        extra = torch.zeros_like(rows.const)
        for v in reversed(rows.plan.order):
            if v == 0:
                continue
            node = network.node(v)
            if isinstance(node.op, Relu):
                z = rows.see(v, node.inputs[0], values[node.inputs[0]])
                slope, gap = slopes[v]
                entering[v] = z
                values[v] = torch.addcmul(gap, slope, z)
                if v in pushes:
                    index, amount = pushes[v]
                    extra = extra + (z.reshape(len(z), -1).gather(1, index) * amount).sum(1)
                continue
            out = rows.push(network, v, values)
            b = node.op.offset() if isinstance(node.op, Affine) else None
            values[v] = out if b is None else out + rows.constant(b, v, network)
        own = rows.const + (values[rows.plan.start] * rows.coeff).flatten(1).sum(1)
        value = extra + (own if self.weight is None else own * self.weight)
        each = None if self.mix is None else self.mix.values(values[rows.plan.start])
        return Trace(coeff, entering, minimiser, value, own, each)

    def behind(self, trace: Trace) -> Tensor:
        parts = []
        for v in self.lines:
            c = trace.coeff[v].flatten(1)
            parts.append(c.gather(1, self.index.neuron[v]) if self.index.neuron else c)
        return torch.cat(parts, 1) if parts else trace.value.new_zeros(len(trace.value), 0)

    def gradient(self, trace: Trace, parameters: Parameters) -> Tensor:
        parts = []
        for v in self.lines:
            c, z = trace.coeff[v].flatten(1), trace.entering[v].flatten(1)
            if self.index.neuron:
                neuron = self.index.neuron[v]
                c, z = c.gather(1, neuron), z.gather(1, neuron)
            parts.append(c.clamp(min=0) * z)
            if parameters.sign is not None:
                columns = self.index.columns[v]
                parts[-1] = parts[-1] * parameters.free[:, columns] - parameters.sign[:, columns] * z
        if trace.rows is not None:
            parts.append(trace.rows)
        if parameters.goal is not None:
            parts.append(trace.form.unsqueeze(1))
        total = torch.cat(parts, 1) if parts else torch.zeros_like(parameters.theta)
        return total if parameters.sign is not None else total * parameters.free


def positive(c: Tensor) -> Tensor:
    """1.0 where ``c`` is above 0, else 0.0 (a comparison into floats: several times quicker than ``where``)."""
    return torch.gt(c, 0, out=torch.empty_like(c))


class Adam:
    """Ascent steps on parameter rows; state travels with the rows when they are narrowed.

    ``unit`` [m, 1] is what each row's multipliers are measured in.
    """

    def __init__(self, theta: Tensor, rates: Rates):
        self.rates, self.step = rates, 0
        self.first, self.second = torch.zeros_like(theta), torch.zeros_like(theta)
        self.unit = theta.new_ones(len(theta), 1)

    def narrow(self, keep: Tensor) -> None:
        self.first, self.second, self.unit = self.first[keep], self.second[keep], self.unit[keep]

    def ascend(self, parameters: Parameters, gradient: Tensor) -> None:
        """Move ``parameters`` along the gradient, and clamp slopes to [0, 1] and multipliers to >= 0."""
        r = self.rates
        self.step += 1
        self.first.mul_(r.momentum).add_(gradient, alpha=1 - r.momentum)
        self.second.mul_(r.second).addcmul_(gradient, gradient, value=1 - r.second)
        scale = math.sqrt(1 - r.second**self.step) / (1 - r.momentum**self.step) * r.decay ** (self.step - 1)
        move = self.first / self.second.sqrt().add_(1e-8)
        if parameters.sign is None:
            parameters.theta.add_(move, alpha=r.alpha * scale).clamp_(0, 1)
            return
        free, weight = parameters.free, parameters.weight
        extra = parameters.theta.shape[1] - free.shape[1]
        if extra:
            free = torch.nn.functional.pad(free, (0, extra))
        rate = torch.lerp(self.unit * r.beta, self.unit.new_full((), r.alpha), free)
        if weight.shape[1]:
            own = slice(parameters.free.shape[1], parameters.free.shape[1] + weight.shape[1])
            # Not their rate: a slope that overflowed makes the move NaN, and so is 0 times it.
            move[:, own] = 0
            if parameters.goal is None:
                shift(weight, self.first[:, own], r.weight * r.decay ** (self.step - 1))
        parameters.theta.addcmul_(move, rate, value=scale).clamp_(min=0)
        torch.minimum(parameters.theta, (1 - free) * 1e4 + 1, out=parameters.theta)


@dataclass(frozen=True)
class Ascended:
    """Where an ascent ended, for each form.

    Attributes:
        value: [m] the best bound seen (float32, up to rounding).
        theta: [m, k] the parameters of the best bound of forms that reached the goal, the last ones of the others.
        reached: [m] which forms reached the goal.
        trace: the last iteration's trace of the forms that did not reach it, in their order.
    """

    value: Tensor
    theta: Tensor
    reached: Tensor
    trace: Trace | None


def ascend(
    walker: AbstractWalker, parameters: Parameters, *, steps: int, rates: Rates, goal: float | Tensor
) -> Ascended:
    """Raise every form's bound until it exceeds ``goal`` or ``steps`` iterations are done.

    Forms that reach the goal are dropped along the way, so that they cost nothing more.
    """
    m = len(parameters.theta)
    best = parameters.theta.new_full((m,), -torch.inf)
    kept: Tensor | None = None
    reached = torch.zeros(m, dtype=torch.bool, device=best.device)
    goals = torch.as_tensor(goal, dtype=best.dtype, device=best.device).expand(m)
    item = torch.arange(m, device=best.device)
    current = Parameters(parameters.theta.clone(), parameters.sign, parameters.free, parameters.goal)
    adam = Adam(current.theta, rates)
    trace: Trace | None = None
    for step in range(steps):
        walker.set(current)
        trace = walker.walk()
        if step == 0 and current.sign is not None and current.goal is None:
            split = current.sign.abs()
            size = (walker.behind(trace).abs() * split).sum(1) / split.sum(1).clamp(min=1)
            # Nothing is known of a scale where all of these coefficients are 0.
            adam.unit = torch.where(size > 0, size, 1.0).unsqueeze(1)
        best[item] = torch.maximum(best[item], trace.value)
        done = trace.value > goals[item]
        if bool(done.any()):
            reached[item[done]] = True
            if kept is None:
                # Most ascents of bounds for neurons have no goal, and need no second set of parameters.
                kept = parameters.theta.clone()
            kept[item[done]] = current.theta[done]
            keep = (~done).nonzero()[:, 0]
            item = item[keep]
            if len(item) == 0:
                return Ascended(best, kept, reached, None)
            walker.narrow(keep)
            current = current[keep]
            adam.narrow(keep)
            trace = trace[keep]
        if step + 1 < steps:
            adam.ascend(current, walker.gradient(trace, current))
    if kept is None:
        return Ascended(best, current.theta, reached, trace)
    kept[item] = current.theta
    return Ascended(best, kept, reached, trace)
