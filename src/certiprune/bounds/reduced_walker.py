"""Walks through the reduced form for ``optimise.ascend``: one matrix product a layer, back and forth, in float32.

The formulas are those of ``optimise.py``; columns are the unstable neurons, so parameters need no scattering. The first
layer's rows of a convolution are sparse: there the convolution itself is applied where that is cheaper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from certiprune.bounds.intermediate import Engine
from certiprune.bounds.mix import Mix
from certiprune.bounds.optimise import AbstractWalker, Parameters, Trace, positive
from certiprune.bounds.reduced import CONVOLUTION, Reduced
from certiprune.net.network import Network
from certiprune.net.ops import Affine


@dataclass(frozen=True)
class Prefix:
    """The operations between the input and one ReLU, applied as they are.

    Attributes:
        network: in float32.
        way: the values from the first operation to the last.
        neuron: [k] the entries of the last value that are wanted.
    """

    network: Network
    way: tuple[int, ...]
    neuron: Tensor

    @staticmethod
    def of(network: Network, relu: int, neuron: Tensor) -> Prefix | None:
        """What is in front of ``relu``; None where that is no chain of affine operations, or its matrix is cheaper."""
        chain = _chain(network, relu)
        inputs = math.prod(network.input_shape)
        if not chain or network.cost(chain) * CONVOLUTION > len(neuron) * inputs:
            return None
        return Prefix(network, chain, neuron)

    def linear(self, x: Tensor) -> Tensor:
        """The entries [m, k] without constants, at inputs [m, inputs]."""
        x = x.reshape(len(x), *self.network.input_shape)
        for v in self.way:
            op = self.network.node(v).op
            assert isinstance(op, Affine)
            x = op.linear(x)
        return x.flatten(1).index_select(1, self.neuron)

    def pull(self, c: Tensor) -> Tensor:
        """Coefficients [m, inputs] over the input from ``c`` [m, k] over the entries."""
        shape = self.network.shapes[self.way[-1]]
        back = c.new_zeros(len(c), math.prod(shape)).index_copy_(1, self.neuron, c)
        back = back.reshape(len(c), *shape)
        for v in reversed(self.way):
            op = self.network.node(v).op
            assert isinstance(op, Affine)
            back = op.pull(back, self.network.shapes[self.network.node(v).inputs[0]])
        return back.flatten(1)


def _chain(network: Network, relu: int) -> tuple[int, ...]:
    """The values from the input to what enters ``relu``, if each is an affine map of the one before; else none."""
    chain, v = [], network.node(relu).inputs[0]
    while v != 0:
        node = network.node(v)
        if not isinstance(node.op, Affine):
            return ()
        chain.append(v)
        v = node.inputs[0]
    return tuple(chain[::-1])


def prefix_cost(network: Network) -> float:
    """Multiply-adds of what ``Prefix`` applies in front of the first ReLU; infinite where it cannot."""
    chain = _chain(network, network.relus[0]) if network.relus else ()
    return network.cost(chain) if chain else math.inf


@dataclass(frozen=True)
class Step:
    """One layer in float32: its columns, and ``matrix`` [k, what it sees], ``const`` [k]."""

    columns: slice
    matrix: Tensor
    const: Tensor


@dataclass(frozen=True)
class Quick:
    """The reduced form in float32, to search with.

    Attributes:
        steps: the layers.
        out: the outputs. Where a task's form is known from the start they are part of it.
        prefix: how to apply the first layer, if not by its matrix.
        low_end, high_end: [inputs] the box.
        width: unstable neurons.
        shape: an input's.
    """

    steps: tuple[Step, ...]
    out: Step
    prefix: Prefix | None
    low_end: Tensor
    high_end: Tensor
    width: int
    shape: tuple[int, ...]

    @staticmethod
    def of(engine: Engine, reduced: Reduced) -> Quick:
        prefix = None
        if reduced.layers:
            first = reduced.layers[0]
            prefix = Prefix.of(engine.quick, first.relu, first.neuron)
        *steps, out = (
            Step(t.columns, t.matrix.float(), t.const.float()) for t in (*reduced.layers, reduced.out)
        )
        ends = reduced.box.lower.flatten().float(), reduced.box.upper.flatten().float()
        return Quick(tuple(steps), out, prefix, *ends, reduced.width, engine.quick.input_shape)


@dataclass
class Own:
    """The neurons' lines as each form sees them, all [m, unstable]: lower slope ``on + free * theta``."""

    on: Tensor
    free: Tensor
    up: Tensor
    gap: Tensor

    def __getitem__(self, keep: Tensor) -> Own:
        return Own(self.on[keep], self.free[keep], self.up[keep], self.gap[keep])


class ReducedWalker(AbstractWalker):
    """Walks ``m`` forms back and forth through the reduced form.

    Args:
        quick: the reduced form.
        form: [m, inputs + unstable], each form over [x, h_1, h_2, ...]; const: [m].
        own: the lines.
        mix: with it the forms are means of its rows, by the parameters' weights.
    """

    def __init__(self, quick: Quick, form: Tensor, const: Tensor, own: Own, mix: Mix | None = None):
        self.quick, self.form, self.const, self.own, self.mix = quick, form, const, own, mix
        self.low = own.on
        self.push: Tensor | None = None
        self.weight: Tensor | None = None

    def narrow(self, keep: Tensor) -> None:
        self.form, self.const, self.own = self.form[keep], self.const[keep], self.own[keep]
        self.mix = None if self.mix is None else self.mix[keep]

    def set(self, parameters: Parameters) -> None:
        width = self.quick.width
        if self.mix is not None:
            coeff, const = self.mix.form(parameters.weight)
            self.form, self.const = coeff @ self.quick.out.matrix, coeff @ self.quick.out.const + const
        theta = parameters.theta[:, :width]
        self.low = torch.addcmul(self.own.on, self.own.free, theta)
        self.push = None
        if parameters.sign is not None:
            self.push = torch.mul(parameters.sign, theta).neg_()
            if parameters.goal is not None:
                self.push += parameters.goal
        self.weight = parameters.theta[:, -1] if parameters.goal is not None else None

    def walk(self) -> Trace:
        quick = self.quick
        inputs = len(quick.low_end)
        # Held in one block: coefficients on the way back, values on the way forward.
        block = self.form.clone() if self.weight is None else self.form * self.weight.unsqueeze(1)
        shape = (len(block), quick.width)
        slope, level, coeff, entering = (block.new_empty(shape) for _ in range(4))
        for number in reversed(range(len(quick.steps))):
            step = quick.steps[number]
            at = step.columns
            c = coeff[:, at].copy_(block[:, inputs + at.start : inputs + at.stop])
            above = positive(c)
            torch.lerp(self.own.up[:, at], self.low[:, at], above, out=slope[:, at])
            torch.addcmul(self.own.gap[:, at], self.own.gap[:, at], above, value=-1, out=level[:, at])
            back = c * slope[:, at]
            if self.push is not None:
                back += self.push[:, at]
            if number == 0 and quick.prefix is not None:
                block[:, :inputs] += quick.prefix.pull(back)
            else:
                block[:, : step.matrix.shape[1]].addmm_(back, step.matrix)
        minimiser = torch.lerp(quick.high_end, quick.low_end, positive(block[:, :inputs]))
        block[:, :inputs] = minimiser
        for number, step in enumerate(quick.steps):
            at = step.columns
            if number == 0 and quick.prefix is not None:
                z = torch.add(quick.prefix.linear(minimiser), step.const, out=entering[:, at])
            else:
                seen = block[:, : step.matrix.shape[1]]
                z = entering[:, at].copy_(torch.addmm(step.const, seen, step.matrix.T))
            torch.addcmul(level[:, at], slope[:, at], z, out=block[:, inputs + at.start : inputs + at.stop])
        own = self.const + torch.linalg.vecdot(block, self.form)
        value = own if self.weight is None else own * self.weight
        if self.push is not None:
            value = value + torch.linalg.vecdot(entering, self.push)
        points = minimiser.reshape(len(minimiser), *quick.shape)
        each = None
        if self.mix is not None:
            each = self.mix.values(torch.addmm(quick.out.const, block, quick.out.matrix.T))
        return Trace({0: coeff}, {0: entering}, points, value, own, each)

    def behind(self, trace: Trace) -> Tensor:
        return trace.coeff[0]

    def gradient(self, trace: Trace, parameters: Parameters) -> Tensor:
        z = trace.entering[0]
        total = trace.coeff[0].clamp(min=0).mul_(z).mul_(parameters.free)
        if parameters.sign is not None:
            total.addcmul_(parameters.sign, z, value=-1)
        if trace.rows is not None:
            total = torch.cat([total, trace.rows], 1)
        if parameters.goal is not None:
            total = torch.cat([total, trace.form.unsqueeze(1)], 1)
        return total
